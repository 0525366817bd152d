"""Running code that nobody has read: a fresh, confined process for each block, killed with all it started.

What confines it is in `grouprl.sampling.tools.jail`; what was tried against it, in `grouprl.sampling.tools.attacks`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grouprl.checks import say_once
from grouprl.sampling import checks

_JAIL = Path(__file__).with_name("jail.py")
_FIRST_UID = 60_000
_UIDS = 1_000
_slots = itertools.count()
_log = logging.getLogger(__name__)


class SandboxError(RuntimeError):
    """The sandbox cannot be enforced here; the text names what is missing."""


@dataclass(frozen=True)
class ToolOutput:
    """What running a block gave."""

    text: str
    """Standard output and error; the last line of a traceback where the block failed."""
    status: Literal["ok", "error", "timeout"]
    seconds: float


@dataclass(frozen=True)
class Sandbox:
    """Runs Python blocks, each in a process of its own without network, and with nothing to write but its folder."""

    timeout_s: float = 5.0
    """Wall seconds of a block."""
    memory_mb: int = 512
    """Memory of a process in MiB."""
    processes: int = 8
    """Processes and threads of a block."""
    max_output: int = 65_536
    """Bytes that are read; a block that writes more is killed."""
    workers: int = 2
    """Blocks that run at the same time."""
    allow_unsandboxed: bool = False
    """Go on where this machine cannot enforce all of it; what is missing is logged."""

    def __post_init__(self) -> None:
        checks.sandbox(self.timeout_s, self.memory_mb, self.processes, self.max_output, self.workers)

    def run(self, code: str) -> ToolOutput:
        """Run one block; raises `SandboxError` where it cannot be confined."""
        folder = Path(tempfile.mkdtemp(prefix="grouprl-tool-"))
        try:
            return self._run_in(folder, code)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def map(self, codes: Sequence[str]) -> list[ToolOutput]:
        """Run blocks side by side; outputs in their order."""
        if len(codes) < 2:
            return [self.run(code) for code in codes]
        with ThreadPoolExecutor(min(self.workers, len(codes))) as threads:
            return list(threads.map(self.run, codes))

    def check(self) -> None:
        """Run a trivial block: a `SandboxError` now rather than in the middle of a run."""
        output = self.run("import math\nmath.gcd(12, 18)")
        if output.text.strip() != "6":
            raise SandboxError(f"a trivial block gave {output.text!r} in the sandbox ({output.status})")

    def _run_in(self, folder: Path, code: str) -> ToolOutput:
        # A user of its own for each block: none can touch another's, and RLIMIT_NPROC counts it alone.
        uid = _FIRST_UID + next(_slots) % _UIDS
        (folder / "block.py").write_text(code, encoding="utf-8", errors="replace")
        if os.geteuid() == 0:
            os.chown(folder, uid, uid)
        order = {
            "folder": str(folder),
            "uid": uid,
            "memory": self.memory_mb * 2**20,
            "cpu": int(self.timeout_s) + 1,
            "processes": self.processes,
            "allow_unsandboxed": self.allow_unsandboxed,
        }
        reading, writing = os.pipe()
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(_JAIL), json.dumps(order), str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        try:
            output, late = self._read(process, started + self.timeout_s)
        finally:
            _kill(process)
            report = _read_report(reading)
        self._heed(report)
        seconds = time.monotonic() - started
        text = output.decode("utf-8", errors="replace")
        if late:
            return ToolOutput(
                f"{text}\nTimeoutError: the code ran for more than {self.timeout_s:g} s", "timeout", seconds
            )
        return ToolOutput(text, "ok" if process.returncode == 0 else "error", seconds)

    def _read(self, process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bool]:
        """Output up to its bound, and whether the deadline came first."""
        assert process.stdout is not None
        output = b""
        while len(output) < self.max_output:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return output, True
            piece = os.read(process.stdout.fileno(), 16_384)
            if not piece:
                break
            output += piece
        else:
            return output[: self.max_output], False
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return output, True
        return output, False

    def _heed(self, report: list[str] | None) -> None:
        if report is None:
            raise SandboxError(f"the sandbox did not start: {sys.executable} may not be readable for other users")
        if not report:
            return
        missing = "; ".join(report)
        if not self.allow_unsandboxed:
            raise SandboxError(
                f"the sandbox cannot be enforced on this machine: {missing}. "
                "Set the sandbox's allow_unsandboxed=true to run the policy's code all the same."
            )
        say_once(f"the policy's code runs without: {missing}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the block: its session, and through the process namespace all that left it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _read_report(reading: int) -> list[str] | None:
    """What the jail could not enforce; None where it did not get so far."""
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read(65_536)
    return json.loads(text) if text else None
