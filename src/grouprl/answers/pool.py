"""Killable worker processes for symbolic comparison: no text of a model can hang or crash the process that asks.

Plain subprocesses, not `multiprocessing`: they work from data loader workers, threads and DDP ranks alike. A worker is
killed when a comparison takes more than its time, and a new one is started.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)
        self._process = os.getpid()
        atexit.register(self.close)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer; ``{"status": "timeout"}`` where it was killed."""
        with self._worker() as worker:
            return worker.ask(request, self.timeout_s)

    def start(self, workers: int | None = None) -> None:
        """Start processes, all by default, so that the first comparison does not wait for them."""
        started = [self._idle.get() or _Worker(self.memory_mb) for _ in range(workers or self.workers)]
        for worker in started:
            worker.wait_until_ready()
            self._idle.put(worker)

    def close(self) -> None:
        """Kill the processes. A pool may be used again afterwards."""
        if self._process != os.getpid():  # a fork's copy: they belong to the parent
            return
        with contextlib.suppress(queue.Empty):
            for _ in range(self.workers):
                worker = self._idle.get_nowait()
                if worker is not None:
                    worker.kill()
        while self._idle.qsize() < self.workers:
            self._idle.put(None)

    @contextlib.contextmanager
    def _worker(self) -> Iterator[_Worker]:
        if self._process != os.getpid():
            self.__init__(self.workers, timeout_s=self.timeout_s, memory_mb=self.memory_mb)  # type: ignore[misc]
        worker = self._idle.get()
        try:
            if worker is None or not worker.is_alive():
                worker = _Worker(self.memory_mb)
            yield worker
        finally:
            self._idle.put(worker if worker is not None and worker.is_alive() else None)


class _Worker:
    def __init__(self, memory_mb: int) -> None:
        command = [sys.executable, "-c", "from grouprl.answers.worker import work; work()", str(memory_mb)]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join([_SOURCE, *sys.path])}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=environment
        )
        self.ready = False
        self.pending = b""

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_until_ready(self) -> None:
        if not self.ready:
            if self._read_line(time.monotonic() + START_TIMEOUT_S) is None:
                self.kill()
                raise RuntimeError("the answer-comparing process did not start")
            self.ready = True

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.wait_until_ready()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            line = self._read_line(time.monotonic() + timeout_s)
        except (OSError, EOFError):
            self.kill()
            return {"status": "crash"}
        if line is None:
            self.kill()
            return {"status": "timeout"}
        return json.loads(line)

    def _read_line(self, deadline: float) -> bytes | None:
        """The next line; None when it is late, `EOFError` when the process has ended."""
        assert self.process.stdout is not None
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            piece = os.read(self.process.stdout.fileno(), 2**16)
            if not piece:
                raise EOFError
            self.pending += piece
        line, _, self.pending = self.pending.partition(b"\n")
        return line

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


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
