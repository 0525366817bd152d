"""The processes that compare answers: a few for all who ask, killed where a comparison takes too long."""

from __future__ import annotations

import atexit
import collections
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grouprl.answers.process import JsonProcess

START_TIMEOUT_S = 60.0
OF_THE_MOMENT = ("timeout", "crash", "memory")
"""Replies that may be others the next time: they are asked for once more, and never kept."""
_SOURCE = str(Path(__file__).parents[2])


class Pool:
    """Up to ``workers`` processes, started when they are first needed; safe to use from several threads."""

    def __init__(self, workers: int = 2, *, timeout_s: float = 2.0, memory_mb: int = 2048) -> None:
        """Start nothing yet.

        Args:
            workers: Processes at most.
            timeout_s: Seconds after which a comparison is given up and its process killed.
            memory_mb: Memory of a process in MiB (Linux).
        """
        self.workers, self.timeout_s, self.memory_mb = workers, timeout_s, memory_mb
        self._begin()
        atexit.register(self.close)

    def _begin(self) -> None:
        self._slots = threading.Semaphore(self.workers)
        self._starting = threading.Lock()
        self._idle: collections.deque[_Worker] = collections.deque()
        self._process = os.getpid()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """A worker's answer.

        ``{"status": "timeout"}`` where it was killed, ``"crash"`` where it ended, ``"memory"`` where it had no more.
        These are asked once more, of a new process: a machine that stood still for a moment is no verdict.

        Raises:
            RuntimeError: A process does not start. The next request tries again.
        """
        reply = self._ask(request)
        return self._ask(request, fresh=True) if reply["status"] in OF_THE_MOMENT else reply

    def _ask(self, request: dict[str, Any], *, fresh: bool = False) -> dict[str, Any]:
        with self._worker(fresh=fresh) as worker:
            return worker.ask(request, self.timeout_s)

    def start(self, workers: int | None = None) -> None:
        """Start processes, all by default, so that the first comparison does not wait for them."""
        with self._starting, contextlib.ExitStack() as stack:
            started = [stack.enter_context(self._worker()) for _ in range(workers or self.workers)]
            for worker in started:
                worker.wait_until_ready()

    def close(self) -> None:
        """Kill the processes. A pool may be used again afterwards."""
        if self._process != os.getpid():  # a fork's copy: they belong to the parent
            return
        while worker := self._take():
            worker.process.kill()

    def _take(self) -> _Worker | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    @contextlib.contextmanager
    def _worker(self, *, fresh: bool = False) -> Iterator[_Worker]:
        """A process for one caller alone; ``fresh``: one that nobody has used."""
        if self._process != os.getpid():
            self._begin()
        with self._slots:
            worker = self._take()
            if worker is not None and (fresh or not worker.process.is_alive):
                worker.process.kill()
                worker = None
            worker = worker or _Worker(self.memory_mb, self.timeout_s)
            try:
                yield worker
            except BaseException:
                worker.process.kill()
                raise
            if worker.process.is_alive:
                self._idle.append(worker)


class _Worker:
    """One process, and whether it has said that it is ready."""

    def __init__(self, memory_mb: int, timeout_s: float) -> None:
        arguments = [str(memory_mb), str(timeout_s)]
        command = [sys.executable, "-c", "from grouprl.answers.worker import work; work()", *arguments]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join([_SOURCE, *sys.path])}
        try:
            self.process = JsonProcess(command, environment)
        except OSError as error:
            raise RuntimeError(f"the process that compares answers did not start: {error}") from error
        self.ready = False

    def wait_until_ready(self) -> None:
        if self.ready:
            return
        try:
            self.process.wait_for_line(START_TIMEOUT_S)
        except (TimeoutError, EOFError, OSError, ValueError) as error:
            raise RuntimeError(f"the process that compares answers did not start: {error}") from error
        self.ready = True

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.wait_until_ready()
        try:
            reply: dict[str, Any] = self.process.exchange(request, timeout_s)
        except TimeoutError:
            return {"status": "timeout", "rule": "killed after its time"}
        except (EOFError, OSError, ValueError) as error:
            return {"status": "crash", "rule": f"the comparison ended its process ({error})"}
        if reply["status"] == "memory":
            self.process.kill()
        return reply


def start_in_background() -> None:
    """Start one process of the shared pool, which takes about a second, beside whatever comes next."""

    def start() -> None:
        with contextlib.suppress(RuntimeError):  # who asks is told
            shared_pool().start(1)

    threading.Thread(target=start, daemon=True).start()


_shared: Pool | None = None
_lock = threading.Lock()


def shared_pool() -> Pool:
    """The pool of this process."""
    global _shared  # noqa: PLW0603
    with _lock:
        if _shared is None:
            _shared = Pool()
        return _shared
