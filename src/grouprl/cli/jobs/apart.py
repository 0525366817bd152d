"""An arm of a sweep, in a process of its own: whatever ends it, its end is written down, and the next arm runs.

The process is a fork of one that has imported all that is heavy and has neither started threads nor touched a GPU, so
that an arm costs no start. What an arm leaves behind, threads, memory and settings of libraries, ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from ctypes import c_byte
from types import FrameType

from grouprl.answers.process import end_with_parent
from grouprl.cli.jobs.job import Job, execute
from grouprl.files import FileError, Row, read_json
from grouprl.training import signals
from grouprl.training.records import RESULT_FILE

_HEAVY = (
    *("grouprl.cli.build", "grouprl.policy.load", "grouprl.training.show.report"),
    *("torch.utils.tensorboard", "transformers.generation.utils", "matplotlib.backends.backend_agg"),
)
LINGERS_S = 20.0
"""For the process of an arm to end whose run has."""
_OUT_OF_MEMORY = "killed by the system for want of memory, or by hand"


def run_apart(job: Job) -> None:
    """Do a job of a sweep; ``result.json`` in its folder says how it ended."""
    with contextlib.suppress(signals.Stopped), signals.handled(signals.raise_stopped):
        _import_what_is_heavy()
    if signals.received:
        return
    fork = multiprocessing.get_context("fork")
    has_said_its_end = fork.RawValue(c_byte, 0)
    arm = fork.Process(target=_arm, args=(job, has_said_its_end))

    def pass_on(number: int, _frame: FrameType | None) -> None:
        signals.note(number)
        assert arm.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(arm.pid, number if number == signal.SIGHUP else signal.SIGTERM)

    # Held back over the fork, in which a signal would be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.ENDING)
    try:
        with signals.handled(pass_on):
            arm.start()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.ENDING)
            arm.join()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.ENDING)
    if not has_said_its_end.value:
        _write_end(job, arm.exitcode or 0)


def _import_what_is_heavy() -> None:
    """Once for all arms. On Linux alone: elsewhere libraries start what a fork does not survive."""
    if sys.platform == "linux":
        for name in _HEAVY:
            importlib.import_module(name)


def _arm(job: Job, has_said_its_end: c_byte) -> None:
    """What the process of an arm does."""
    atexit._clear()  # what the sweep has to do at its end is not the arm's
    with signals.handled(signals.raise_stopped):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the sweep passes it on
        end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.ENDING)
            code = execute(job)
        except signals.Stopped:  # before anything was written
            code = signals.exit_code()
    has_said_its_end.value = 1
    _end_within(LINGERS_S, code)
    atexit._run_exitfuncs()
    raise SystemExit(code)


def _end_within(seconds: float, code: int) -> None:
    """Let threads that a component left behind come to their end, and do not wait for ever."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _write_end(job: Job, code: int) -> None:
    """Write down how an arm ended whose process had no time to."""
    written: Row = {}
    with contextlib.suppress(FileError):
        written = read_json(job.folder / RESULT_FILE) or {}
    is_this_run = written.get("identity") == job.result["identity"]
    state = written.get("state") if is_this_run else None
    if state == "finished" or (state == "interrupted" and code > 128):
        return
    how = f"exit status {code}" if code >= 0 else f"signal {-code}, {signal.Signals(-code).name}"
    why = f": {_OUT_OF_MEMORY}" if code == -signal.SIGKILL else ""
    error = f"its process ended before the run did ({how}{why})"
    print(f"{job.folder.name}: {error}", file=sys.stderr)
    if written and not is_this_run:
        return  # an earlier run, which could not be moved out of the way
    with contextlib.suppress(OSError):
        job.end("failed", error=error)  # with digests: it counts as what it scored
