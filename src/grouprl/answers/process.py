"""Processes that can be killed, spoken to in JSON: no text of a model can hang or crash the process that asks.

Plain subprocesses, not `multiprocessing`: they work from data loader workers, threads and DDP ranks alike. One line
goes in, one line comes back, both under one deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class JsonProcess:
    """A worker process in a session of its own, which answers each line of JSON with one."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            command: What to run.
            environment: All of its environment.
        """
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=dict(environment)
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in.fileno(), False)
        self._pending = b""

    @property
    def pid(self) -> int:
        """Of the process, and of its session."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def exchange(self, message: Any, timeout_s: float) -> Any:
        """The answer to a message.

        A reader that is not reading does not hold the caller: writing is under the same deadline.

        Args:
            message: What JSON can hold.
            timeout_s: Seconds for the whole exchange.

        Raises:
            TimeoutError: It took longer. The process is then in an unknown state: kill it.
            EOFError: The process has ended.
            OSError: It cannot be written to.
        """
        return self._talk(json.dumps(message).encode() + b"\n", timeout_s)

    def wait_for_line(self, timeout_s: float) -> Any:
        """A message that was not asked for, such as that the process is ready; raises as `exchange`."""
        return self._talk(b"", timeout_s)

    def _talk(self, message: bytes, timeout_s: float) -> Any:
        deadline, unsent = time.monotonic() + timeout_s, memoryview(message)
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            if unsent:
                selector.register(self._in, selectors.EVENT_WRITE)
            while unsent or b"\n" not in self._pending:
                left = deadline - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready:
                    raise TimeoutError(f"no answer within {timeout_s:g} s")
                for key, _ in ready:
                    if key.fileobj is self._in:
                        with contextlib.suppress(BlockingIOError):
                            unsent = unsent[os.write(key.fd, unsent) :]
                        if not unsent:
                            selector.unregister(self._in)
                        continue
                    piece = os.read(key.fd, 2**16)
                    if not piece:
                        raise EOFError("the process has ended")
                    self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def kill(self, grace_s: float = 0.0) -> int:
        """End the process and all it started in its session.

        Args:
            grace_s: Seconds in which it may end by itself.

        Returns:
            Its exit code, negative for a signal.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        code = self._process.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        ended = self._process.wait()
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()
        return ended if code is None else code


def end_with_parent(end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """In a worker: end, at once or as ``end`` does it, when the process that started it has ended, however that did."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        end()

    threading.Thread(target=watch, daemon=True).start()


def limit_memory(mebibytes: int, *, beyond_use: bool = False) -> None:
    """In a worker: bound its address space, on Linux.

    Args:
        mebibytes: The bound in MiB.
        beyond_use: Count from what is in use now.
    """
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize() if beyond_use else 0
    limit = used + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
