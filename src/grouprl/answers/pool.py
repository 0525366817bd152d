"""The processes that compare answers: a few for all who ask, killed where a comparison takes too long."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grouprl.answers.process import JsonProcess

START_TIMEOUT_S = 60.0
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
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self.workers):
            self._idle.put(None)
        self._process = os.getpid()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer; ``{"status": "timeout"}`` where it was killed, ``"crash"`` where it ended.

        What takes too long is asked once more, of a new process: a machine that stood still for a moment is no verdict.
        """
        reply = self._ask(request)
        return self._ask(request) if reply["status"] == "timeout" else reply

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._worker() as worker:
            return worker.ask(request, self.timeout_s)

    def start(self, workers: int | None = None) -> None:
        """Start processes, all by default, so that the first comparison does not wait for them."""
        with contextlib.ExitStack() as stack:
            started = [stack.enter_context(self._worker()) for _ in range(workers or self.workers)]
            for worker in started:
                worker.wait_until_ready()

    def close(self) -> None:
        """Kill the processes. A pool may be used again afterwards."""
        if self._process != os.getpid():  # a fork's copy: they belong to the parent
            return
        with contextlib.suppress(queue.Empty):
            for _ in range(self.workers):
                worker = self._idle.get_nowait()
                if worker is not None:
                    worker.process.kill()
        while self._idle.qsize() < self.workers:
            self._idle.put(None)

    @contextlib.contextmanager
    def _worker(self) -> Iterator[_Worker]:
        if self._process != os.getpid():
            self._begin()
        worker = self._idle.get()
        try:
            if worker is None or not worker.process.is_alive:
                worker = _Worker(self.memory_mb)
            yield worker
        finally:
            self._idle.put(worker if worker is not None and worker.process.is_alive else None)


class _Worker:
    """One process, and whether it has said that it is ready."""

    def __init__(self, memory_mb: int) -> None:
        command = [sys.executable, "-c", "from grouprl.answers.worker import work; work()", str(memory_mb)]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join([_SOURCE, *sys.path])}
        self.process = JsonProcess(command, environment)
        self.ready = False

    def wait_until_ready(self) -> None:
        if self.ready:
            return
        try:
            self.process.wait_for_line(START_TIMEOUT_S)
        except (TimeoutError, EOFError, OSError) as error:
            self.process.kill()
            raise RuntimeError("the answer-comparing process did not start") from error
        self.ready = True

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.wait_until_ready()
        try:
            reply: dict[str, Any] = self.process.exchange(request, timeout_s)
        except TimeoutError:
            self.process.kill()
            return {"status": "timeout"}
        except (OSError, EOFError):
            self.process.kill()
            return {"status": "crash"}
        return reply


def start_in_background() -> None:
    """Start one process of the shared pool, which takes about a second, beside whatever comes next."""
    threading.Thread(target=shared_pool().start, args=(1,), daemon=True).start()


_shared: Pool | None = None
_lock = threading.Lock()


def shared_pool() -> Pool:
    """The pool of this process."""
    global _shared  # noqa: PLW0603
    with _lock:
        if _shared is None:
            _shared = Pool()
        return _shared
