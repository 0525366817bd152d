"""Running code that nobody has read: a fresh, confined process for each block, ended with all it started.

What confines it is in `grouprl.sandbox.jail`; what was tried against it, in `grouprl.sandbox.attacks`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from grouprl.checks import say_once
from grouprl.sandbox import checks
from grouprl.sandbox.process import BlockProcess
from grouprl.sandbox.removal import remove_tree


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
    """Wall seconds of a block, from when its interpreter is there and confined."""
    memory_mb: int = 512
    """Memory of a process in MiB."""
    processes: int = 8
    """Processes and threads of a block."""
    max_output: int = 65_536
    """Bytes that are read; a block that writes more is killed, and failed."""
    workers: int = 2
    """Blocks that run at the same time."""
    allow_unsandboxed: bool = False
    """Go on where this machine cannot enforce all of it; what is missing is logged."""

    def __post_init__(self) -> None:
        checks.sandbox(self.timeout_s, self.memory_mb, self.processes, self.max_output, self.workers)

    def run(self, code: str) -> ToolOutput:
        """Run one block; raises `SandboxError` where it cannot be confined."""
        started = time.monotonic()
        with self._folder() as folder, BlockProcess(self._order(code, folder)) as process:
            if not process.confined():
                raise SandboxError(_not_started(process))
            self._heed(process)
            in_time = process.read(self.timeout_s, self.max_output)
            exit_code = process.end()
        text, seconds = process.output[: self.max_output].decode("utf-8", errors="replace"), time.monotonic() - started
        if not in_time:
            late = f"{text}\nTimeoutError: the code ran for more than {self.timeout_s:g} s"
            return ToolOutput(late, "timeout", seconds)
        flooded = len(process.output) > self.max_output
        return ToolOutput(text, "error" if flooded or exit_code != 0 else "ok", seconds)

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

    @contextlib.contextmanager
    def _folder(self) -> Iterator[str | None]:
        """A folder for a block that is to run even without a file system of its own."""
        if not self.allow_unsandboxed:
            yield None
            return
        folder = tempfile.mkdtemp(prefix="grouprl-tool-")
        if os.geteuid() == 0:
            os.chmod(folder, 0o777)  # the block is another user
        try:
            yield folder
        finally:
            remove_tree(folder)

    def _order(self, code: str, folder: str | None) -> dict[str, object]:
        return {
            "code": code.encode("utf-8", errors="replace").decode("utf-8"),
            "memory": self.memory_mb * 2**20,
            "cpu": int(self.timeout_s) + 1,
            "processes": self.processes,
            "folder": folder,
            "allow_unsandboxed": self.allow_unsandboxed,
        }

    def _heed(self, process: BlockProcess) -> None:
        if process.lower:
            say_once(f"the policy's code has less than asked, by limits of this process: {'; '.join(process.lower)}")
        if process.missing:
            say_once(f"the policy's code runs without: {'; '.join(process.missing)}")


def _not_started(process: BlockProcess) -> str:
    output = process.last_words()
    if process.missing:
        return (
            f"the sandbox cannot be enforced on this machine: {'; '.join(process.missing)}. It needs user namespaces "
            "(user.max_user_namespaces) and Linux 5.14, and root the capabilities SYS_ADMIN, SETUID and SETGID. "
            "Set the sandbox's allow_unsandboxed=true to run the policy's code all the same."
        )
    reason = (output.strip().splitlines() or ["may other users read the interpreter?"])[-1]
    return f"the sandbox did not start with {sys.executable}: {reason}"
