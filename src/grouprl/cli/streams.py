"""Standard output and error that outlive their readers: a run does not end because nobody reads of it any more."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO


class _Lasting:
    """A text stream that goes on into nothing once its reader is gone, as after ``train.py | head``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._kept(lambda: self._stream.write(text), len(text))

    def flush(self) -> None:
        self._kept(self._stream.flush, None)

    def _kept(self, act: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return act()
        except BrokenPipeError:
            with contextlib.suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._stream.fileno())
                os.close(nothing)
            return otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Let what is printed last as long as the context, whoever reads it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Lasting(sys.stdout), _Lasting(sys.stderr)  # type: ignore[assignment]
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
