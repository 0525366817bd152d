"""Signals that end a process: an exception while nothing listens for them, remembered whatever becomes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, and a terminal that was closed."""
Handler = Callable[[int, FrameType | None], Any] | signal.Handlers
received: list[int] = []
"""Numbers of the signals that this process was sent; the first decides its exit code."""


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end. What lets Ctrl-C pass lets this pass, too."""


def exit_code() -> int:
    """128 and the number of the first signal that was received, or 0."""
    return 128 + received[0] if received else 0


def note(number: int, _frame: FrameType | None = None) -> None:
    """Handle a signal by remembering it; where a terminal was closed, what is printed goes nowhere from now on."""
    received.append(number)
    if number == signal.SIGHUP:
        for descriptor in _terminals:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def raise_stopped(number: int, _frame: FrameType | None) -> None:
    """Handle a signal where nothing else does: leave what is under way."""
    note(number)
    raise Stopped(f"signal {number}")


def raise_if_received() -> None:
    """Leave if a signal came whose exception got lost on its way."""
    if received:
        raise Stopped(f"signal {received[0]}")


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Give `ENDING` to a handler while the context lasts; what is ignored stays so. In the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    taken = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in taken:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)


@contextmanager
def listening() -> Iterator[None]:
    """Raise `Stopped` at a signal while the context lasts, in a process that has received none."""
    received.clear()
    _terminals[:] = _open_terminals()
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as shells start what runs in the background
    with handled(raise_stopped):
        yield


_terminals: list[int] = []


def _open_terminals() -> list[int]:
    found = []
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a stream that is no file, or closed
            if os.isatty(stream.fileno()):
                found.append(stream.fileno())
    return found
