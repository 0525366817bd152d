"""Attacks on the sandbox, each really tried: what came of it, and whether it was stopped."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grouprl.sampling.tools.sandbox import Sandbox, ToolOutput

BREACH = "BREACH"
"""A block prints this where it got through."""

ATTACKS: dict[str, str] = {
    "leave without a word": "import os; os._exit(3)",
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "10 GB of memory": "x = bytearray(10 * 2**30); print('BREACH')",
    "memory of many processes": (
        "import os, time\nchildren = 0\n"
        "for _ in range(64):\n    try:\n        if os.fork() == 0: x = bytearray(64 * 2**20); time.sleep(9)\n"
        "        children += 1\n    except OSError: pass\nprint('BREACH' if children > 16 else children)"
    ),
    "memory in anonymous files": "import os; files = [os.memfd_create(str(n)) for n in range(40)]; print('BREACH')",
    "endless output": "while True: print('x' * 10_000)",
    "endless loop": "while True: pass",
    "endless sleep": "import time; time.sleep(1000)",
    "ignored signals": "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(1000)",
    "a child that outlives it": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n"
        "    os._exit(0)\nprint('left')"
    ),
    "deep recursion": "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "a crash in C": "import ctypes; ctypes.string_at(0)",
    "killing its parent": "import os; os.kill(os.getppid(), 9); os.kill(-1, 9)",
    "reading /etc/passwd": "open('/etc/passwd').read(); print('BREACH')",
    "reading a file of the caller": "open({secret!r}).read(); print('BREACH')",
    "listing the caller's folders": "import os; os.listdir(os.path.dirname({secret!r})); print('BREACH')",
    "a link to a file of the caller": "import os; os.symlink({secret!r}, 'l'); open('l').read(); print('BREACH')",
    "the caller's environment": "print(open('/proc/{pid}/environ').read()); print('BREACH')",
    "its own environment": "import os; print('BREACH' if 'GROUPRL_SECRET' in os.environ else 'not there')",
    "a file in the temporary folder": "open({breach!r}, 'w').write('x'); print('BREACH')",
    "a file beside the caller's": "open({secret!r} + '.new', 'w').write('x'); print('BREACH')",
    "a file of 1 GB": "f = open('big', 'wb')\nfor _ in range(1024): f.write(b'x' * 2**20)\nf.flush(); print('BREACH')",
    "too many open files": "files = [open('/dev/null') for _ in range(1000)]; print('BREACH')",
    "a TCP connection": "import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('BREACH')",
    "a UDP datagram": (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})); "
        "print('BREACH')"
    ),
    "a unix socket": "import socket; socket.socket(socket.AF_UNIX).connect({unix!r}); print('BREACH')",
    "looking into another process": (
        "import ctypes\nif ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0: print('BREACH')\nelse: print('refused')"
    ),
    "becoming root": "import os; os.setuid(0); print('BREACH')",
    "a new namespace": (
        "import ctypes\nif ctypes.CDLL(None).unshare(0x10000000) == 0: print('BREACH')\nelse: print('refused')"
    ),
    "standard input": "import sys; print('BREACH' if sys.stdin.read() else 'empty')",
    "removing its own folder": "import os, shutil; shutil.rmtree(os.getcwd(), ignore_errors=True); print('gone')",
    "a shell": "import os; print('BREACH' if os.system('cat /etc/passwd') == 0 else 'refused')",
    "bytes that are no text": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
}


@dataclass(frozen=True)
class Outcome:
    """What came of an attack."""

    name: str
    stopped: bool
    how: str
    seconds: float


def outcomes(sandbox: Sandbox) -> Iterator[Outcome]:
    """Try all attacks in turn."""
    os.environ["GROUPRL_SECRET"] = "secret"
    with tempfile.TemporaryDirectory() as name, socket.socket() as listener, socket.socket(socket.AF_UNIX) as local:
        folder = Path(name)
        folder.chmod(0o755)
        secret = folder / "secret"
        secret.write_text("secret")
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        local.bind(str(folder / "socket"))
        local.listen()
        (folder / "socket").chmod(0o777)
        places = {
            "secret": str(secret),
            "pid": os.getpid(),
            "port": listener.getsockname()[1],
            "unix": str(folder / "socket"),
        }
        breach_file = Path(tempfile.gettempdir()) / f"{folder.name}-breach"
        places["breach"] = str(breach_file)
        for title, code in ATTACKS.items():
            output = sandbox.run(_filled(code, places))
            left = survivors()
            breach = BREACH in output.text or left or sorted(folder.iterdir()) != sorted([secret, folder / "socket"])
            breach = breach or breach_file.exists()
            breach_file.unlink(missing_ok=True)
            yield Outcome(title, not breach, _how(output, left), output.seconds)
    del os.environ["GROUPRL_SECRET"]


def _filled(code: str, places: dict[str, object]) -> str:
    for key, value in places.items():
        code = code.replace(f"{{{key}!r}}", repr(value)).replace(f"{{{key}}}", str(value))
    return code


def _how(output: ToolOutput, left: int) -> str:
    if left:
        return f"{left} processes left"
    if output.status == "timeout":
        return "killed after its time"
    last = "".join(c if c.isprintable() else "?" for c in (output.text.strip().splitlines() or [""])[-1])
    return last[:70] if last else "nothing"


def survivors() -> int:
    """Processes of a sandbox that are still there."""
    time.sleep(0.05)
    found = 0
    for folder in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and b"jail.py" in (folder / "cmdline").read_bytes():
                found += b"grouprl" in (folder / "cmdline").read_bytes()
    return found


def report(sandbox: Sandbox) -> int:
    """Print the table of attacks; the number that got through."""
    sandbox.check()
    breaches = 0
    print("| attack | stopped | what came of it |\n|---|---|---|")
    for outcome in outcomes(sandbox):
        breaches += not outcome.stopped
        print(f"| {outcome.name} | {'yes' if outcome.stopped else 'NO'} | `{outcome.how}` ({outcome.seconds:.2f} s) |")
    print("\nNot limited: " + "; ".join(NOT_STOPPED))
    return breaches


NOT_STOPPED = (
    "a block may use as many processes as `processes` says, each with its own memory limit",
    "files of 16 MiB each, until its time is over",
    "reading the interpreter's own packages",
    "hiding in timing: how long a block takes can be seen by others",
)


def limited_report() -> int:
    """The report in a process under limits of its own, so that a breach cannot harm the machine."""
    limits = (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (300, 300)); "
        "from grouprl.sampling.tools.attacks import report; from grouprl.sampling.tools.sandbox import Sandbox; "
        "raise SystemExit(report(Sandbox(timeout_s=2.0)))"
    )
    return subprocess.run([sys.executable, "-c", limits], check=False, timeout=300).returncode
