"""The process of one block: started, read, and ended with all that it started."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from grouprl.sandbox.jail.confine import CONFINED, LOWER

SOURCE = Path(__file__).parents[2]
START = "import sys; sys.path[0] = sys.argv[1]; from grouprl.sandbox.jail.confine import main; main()"
START_S = 60.0
"""Seconds in which a confined interpreter must be there, on a machine that is busy with other things."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
"""A block's, beside HOME and TMPDIR; with one seed for hashes sets have one order."""
KEEPER_S = 10.0
"""Seconds for the keeper to see that the block has ended."""
PIECE = 16_384


class BlockProcess:
    """A confined interpreter with one block, from the start to the end of a ``with`` statement.

    Args:
        order: What `grouprl.sandbox.jail` is to do: ``code``; ``memory`` in bytes and ``cpu`` in seconds of a
            process; ``processes``; ``folder``, for where no file system of its own can be had; ``allow_unsandboxed``.
    """

    output = b""
    """What it wrote so far."""
    missing: list[str]
    """What could not be enforced."""
    lower: list[str]
    """Limits that this machine has lower than asked."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.missing, self.lower = [], []
        self._order = marshal.dumps({**order, "caller": os.getpid()})
        self._heard = b""
        self._init: int | None = None
        self._groups: list[int] = []
        self._control, theirs = socket.socketpair()
        with theirs:
            self._keeper = subprocess.Popen(
                [sys.executable, "-s", "-c", START, str(SOURCE), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._groups.append(self._keeper.pid)
        assert self._keeper.stdout is not None
        self._stdout = self._keeper.stdout

    def __enter__(self) -> BlockProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._stdout.close()
        self._control.close()
        if self._init is not None:
            os.close(self._init)

    def confined(self) -> bool:
        """Wait until the block runs, or may not; False where the process did not get so far."""
        deadline = time.monotonic() + START_S
        self._control.settimeout(START_S)
        with contextlib.suppress(OSError):  # nothing is heard then
            self._control.sendall(self._order)
        if (init := self._hear(deadline)) is None:
            return False
        self._groups.append(int(init))
        try:
            self._init = os.pidfd_open(int(init)) if hasattr(os, "pidfd_open") else None
            self._control.sendall(b".")
        except (ProcessLookupError, BrokenPipeError, ConnectionResetError):
            return False
        while (line := self._hear(deadline)) != CONFINED:
            if line is None:
                return False
            (self.lower if line.startswith(LOWER) else self.missing).append(line.removeprefix(LOWER))
        return True

    def _hear(self, deadline: float) -> str | None:
        """The next line over the control socket; None where there is none."""
        while b"\n" not in self._heard:
            self._control.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                piece = self._control.recv(PIECE)
            except (TimeoutError, ConnectionResetError):
                return None
            if not piece:
                return None
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def read(self, seconds: float, most: int) -> bool:
        """Take in output until the block has ended or written more than ``most`` bytes; whether that was in time."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            while len(self.output) <= most:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return False
                piece = os.read(self._stdout.fileno(), PIECE)
                if not piece:
                    break
                self.output += piece
            else:
                return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(max(0.0, deadline - time.monotonic()))
        return self._keeper.returncode is not None

    def last_words(self) -> str:
        """What a process that did not get so far has written."""
        self.end()
        return os.read(self._stdout.fileno(), PIECE).decode(errors="replace")

    def end(self) -> int:
        """End the block with all its processes; the exit code.

        Its first process is killed and waited for: the kernel lets that one be gone only after all others. Its keeper
        ends by itself then.
        """
        if self._init is None or self.missing:
            for group in self._groups:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
        if self._init is not None:
            self._end_init(self._init)
        try:
            return self._keeper.wait(KEEPER_S)
        except subprocess.TimeoutExpired:  # stopped, say
            self._keeper.kill()
            return self._keeper.wait()

    def _end_init(self, init: int) -> None:
        try:
            signal.pidfd_send_signal(init, signal.SIGKILL)
        except ProcessLookupError:
            return
        except PermissionError:  # root without the capability KILL: *init* is another user, and dies with its keeper
            self._keeper.kill()
        gone = select.poll()
        gone.register(init, select.POLLIN)
        gone.poll()
