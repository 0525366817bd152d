"""What goes on inside a long piece of work, told to whoever watches it: tokens that are sampled or trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Watcher = Callable[[str, int], None]
"""Takes what is done (``sampling``, ``training``) and the tokens that were done since the last time."""
SILENCE_S = 8.0
"""Seconds after which what goes on tells how far it is."""
_watchers: list[Watcher] = []


def tell(work: str, tokens: int) -> None:
    """Tell whoever watches that so many tokens are done."""
    for watcher in _watchers:
        watcher(work, tokens)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """While somebody watches."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
