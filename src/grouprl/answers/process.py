"""Processes that can be killed, spoken to in JSON: no text of a model can hang or crash the process that asks.

Plain subprocesses, not `multiprocessing`: they work from data loader workers, threads and DDP ranks alike. One line
goes in, one line comes back, both under one deadline.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

LONGEST_ANSWER = 2**26
"""Bytes of a line that a worker may send."""
_GRACE_S = 5.0
"""For a process that has closed its pipes to say how it ended."""
_LONGEST_WATCH_S = 1e6
_LOOK_EVERY_S = 60.0
"""A wait without end is cut into such pieces: the system takes no longer ones."""


_SAME_ORDER = {"PYTHONHASHSEED": "0"}
"""Sets of texts are walked in one order in every process, unless the environment says otherwise."""


class JsonProcess:
    """A worker process in a session of its own, which answers each line of JSON with one."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            command: What to run.
            environment: All of its environment.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**_SAME_ORDER, **environment},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)
        self._received = bytearray()
        self._killed = False

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

        A reader that is not reading does not hold the caller: writing is under the same deadline. After an exception
        of any kind the process is killed, so that nobody is given the answer to another's message.

        Args:
            message: What JSON can hold.
            timeout_s: Seconds for the whole exchange.

        Raises:
            TimeoutError: It took longer.
            EOFError: The process has ended or closed a pipe; the text says how.
            ValueError: The answer is no JSON, or longer than `LONGEST_ANSWER`.
        """
        return self._talk(json.dumps(message).encode() + b"\n", timeout_s)

    def wait_for_line(self, timeout_s: float) -> Any:
        """A message that was not asked for, such as that the process is ready; raises as `exchange`."""
        return self._talk(b"", timeout_s)

    def _talk(self, message: bytes, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        try:
            return json.loads(self._line(message, deadline))
        except (EOFError, ConnectionError) as error:
            raise EOFError(self._how_it_ended(deadline)) from error
        except TimeoutError as error:
            self.kill()
            raise TimeoutError(f"no answer within {timeout_s:g} s") from error
        except BaseException:
            self.kill()
            raise

    def _line(self, message: bytes, deadline: float) -> bytes:
        """Write a message, and read up to the end of a line."""
        unsent, end = memoryview(message), self._received.find(b"\n")
        with selectors.PollSelector() as selector:  # needs no file descriptor of its own
            selector.register(self._out, selectors.EVENT_READ)
            if unsent:
                selector.register(self._in, selectors.EVENT_WRITE)
            while unsent or end < 0:
                left = deadline - time.monotonic()
                ready = {key.fileobj for key, _ in selector.select(max(0.0, min(left, _LOOK_EVERY_S)))}
                if self._in in ready:
                    unsent = unsent[self._write(unsent) :]
                    if not unsent:
                        selector.unregister(self._in)
                if self._out in ready:
                    end = self._read(end)
                if left <= 0 and (unsent or end < 0):
                    raise TimeoutError
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _write(self, unsent: memoryview) -> int:
        try:
            return os.write(self._in.fileno(), unsent)
        except BlockingIOError:
            return 0

    def _read(self, end: int) -> int:
        """Take in what has come; the place of the first line's end, below 0 where there is none yet."""
        try:
            piece = os.read(self._out.fileno(), 2**16)
        except BlockingIOError:
            return end
        if not piece:
            raise EOFError
        known = len(self._received)
        self._received += piece
        if len(self._received) > LONGEST_ANSWER:
            raise ValueError(f"the answer is longer than {LONGEST_ANSWER} bytes")
        return end if end >= 0 else self._received.find(b"\n", known)

    def _how_it_ended(self, deadline: float) -> str:
        code = self.kill(grace_s=min(_GRACE_S, max(0.0, deadline - time.monotonic())))
        if code is None:
            return "it closed its pipe"
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"

    def kill(self, grace_s: float = 0.0) -> int | None:
        """End the process and all it started in its session.

        Args:
            grace_s: Seconds in which it may end by itself.

        Returns:
            Its exit code, negative for a signal; None where it did not end by itself.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        code = self._process.poll()
        if self._killed:
            return code
        self._killed = True  # once: its number may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()
        return code


def own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """In a worker: its requests and its answers, out of reach of what it runs.

    What that code reads from standard input is empty, and what it prints goes to standard error.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


def end_with_parent(end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """In a worker: end, at once or as ``end`` does it, when the process that started it has ended, however that did."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        end()

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def ended_after(timeout_s: float) -> Iterator[None]:
    """In a worker: end the process where a block takes longer, even one that lets no other thread run.

    For a worker whose parent is gone: a parent that is there kills it by itself.
    """
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(min(timeout_s, _LONGEST_WATCH_S), exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def limit_memory(mebibytes: int, *, beyond_use: bool = False) -> None:
    """In a worker: bound its address space, on Linux, where it is not bound more tightly.

    Args:
        mebibytes: The bound in MiB.
        beyond_use: Count from what is in use now.
    """
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize() if beyond_use else 0
    limit, hardest = used + mebibytes * 2**20, resource.getrlimit(resource.RLIMIT_AS)[1]
    if hardest == resource.RLIM_INFINITY or limit < hardest:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
