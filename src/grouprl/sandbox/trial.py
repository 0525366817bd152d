"""Trying the attacks on a sandbox: what came of each, and whether it was stopped."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from grouprl.sandbox.attacks import ATTACKS, BREACH, NOT_STOPPED
from grouprl.sandbox.jail import syscalls
from grouprl.sandbox.sandbox import Sandbox, ToolOutput

_SHOWN = 70
"""Characters of what came of an attack."""
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Outcome:
    """What came of an attack."""

    name: str
    stopped: bool
    how: str
    seconds: float


def outcomes(sandbox: Sandbox, attacks: Mapping[str, str] = ATTACKS) -> Iterator[Outcome]:
    """Try attacks in turn."""
    with _victim() as places, adopted_orphans():
        state, relatives = _state(places), descendants()
        for title, code in attacks.items():
            output = sandbox.run(_filled(code, places))
            left = descendants() - relatives
            stopped = BREACH not in output.text and not left and _state(places) == state
            end(left)
            yield Outcome(title, stopped, _how(output, len(left), places, sandbox.max_output), output.seconds)


@contextmanager
def _victim() -> Iterator[dict[str, object]]:
    """A caller with something to lose: a file, a variable of its environment, sockets that listen."""
    os.environ["GROUPRL_SECRET"] = "secret"
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener, socket.socket(socket.AF_UNIX) as local:
        os.chmod(folder, 0o755)
        secret, unix = os.path.join(folder, "secret"), os.path.join(folder, "socket")
        Path(secret).write_text("secret")
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        local.bind(unix)
        local.listen()
        os.chmod(unix, 0o777)
        try:
            yield {
                "folder": folder,
                "secret": secret,
                "unix": unix,
                "breach": f"{folder}-breach",
                "pid": os.getpid(),
                "port": listener.getsockname()[1],
            }
        finally:
            del os.environ["GROUPRL_SECRET"]
            with suppress(FileNotFoundError):
                os.remove(f"{folder}-breach")


def _state(places: dict[str, object]) -> list[object]:
    """What an attack must leave as it is."""
    folder = str(places["folder"])
    files = [folder, *(os.path.join(folder, name) for name in sorted(os.listdir(folder))), os.__file__]
    found: list[object] = [os.path.exists(str(places["breach"]))]
    for file in files:
        status = os.stat(file)
        found.append((file, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns, os.listxattr(file)))
    return found


@contextmanager
def adopted_orphans() -> Iterator[None]:
    """Be the parent of all that descends from this process and loses its own, so that none is overlooked."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def descendants() -> set[int]:
    """Living processes that descend from this one."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            state, parent, *_ = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(name))
    found, next_ones = set(), [os.getpid()]
    while next_ones:
        next_ones = [child for parent in next_ones for child in children.get(parent, [])]
        found.update(next_ones)
    return found


def end(processes: set[int]) -> None:
    """Kill processes that were left."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _filled(code: str, places: dict[str, object]) -> str:
    """A block with what stands in braces filled in."""
    number = syscalls.numbers(os.uname().machine)
    values = dict(places)
    values |= {f"number of {name}": number[name] for name in number}
    for group, calls in syscalls.REFUSED.items():
        values[f"calls for {group}"] = {name: number[name] for name in calls if name in number}
    for key, value in values.items():
        code = code.replace(f"{{{key}}}", repr(value))
    return code


def _how(output: ToolOutput, left: int, places: dict[str, object], most: int) -> str:
    """The last line of an attack's output, without what is different each time."""
    if left:
        return f"{left} processes left"
    if output.status == "timeout":
        return "killed after its time"
    if len(output.text) >= most:
        return f"killed after {most // 1024} KiB"
    last = (output.text.strip().splitlines() or ["nothing"])[-1]
    for name in ("breach", "secret", "unix", "folder", "pid"):
        last = last.replace(str(places[name]), name.upper())
    last = last.replace(os.path.dirname(os.__file__), "LIBRARY")
    return "".join(letter if letter.isprintable() and letter not in "�`|" else "?" for letter in last)[:_SHOWN]


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


def limited_report() -> int:
    """The report in a process under limits of its own, so that a breach cannot harm the machine."""
    limits = (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (300, 300)); "
        "from grouprl.sandbox.trial import report; from grouprl.sandbox.sandbox import Sandbox; "
        "raise SystemExit(report(Sandbox(timeout_s=2.0)))"
    )
    return subprocess.run([sys.executable, "-c", limits], check=False, timeout=300).returncode
