"""An error on one rank is an error on all of them: none waits for ever for one that has left."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from grouprl.rewards.scoring import ScoringError
from grouprl.runtime.guards import TrainingError
from grouprl.runtime.ranks import gathered

_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited",
    "failed to recv",
)
"""In errors of gloo, of NCCL and of torch's store where the process at the other end is gone."""
_log = logging.getLogger(__name__)


class RankError(TrainingError):
    """Work that failed on one of several ranks, raised on all of them with the same text."""


class SharedFailure:
    """Holds an error of this rank back until the ranks meet, where it becomes an error of all."""

    def __init__(self, explain: Callable[[BaseException], str | None] = lambda error: None) -> None:
        """Hold nothing yet.

        Args:
            explain: The whole message of an error that does not carry it, None for others.
        """
        self.explain = explain
        self.error: BaseException | None = None

    @contextmanager
    def holding(self, world_size: int) -> Iterator[None]:
        """Around work in which ranks exchange nothing. A single process raises its errors at once."""
        try:
            yield
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # A signal to this process raises a class of its own.
            if world_size == 1 or (isinstance(error, KeyboardInterrupt) and type(error) is not KeyboardInterrupt):
                raise
            self.error = error

    def meet(self, world_size: int) -> None:
        """Raise a `RankError` if work failed on any rank; all ranks have to come here."""
        if world_size == 1:
            return
        error, self.error = self.error, None
        texts = gathered(None if error is None else self._text_of(error), world_size)
        failed = [(rank, text) for rank, text in enumerate(texts) if text is not None]
        if not failed:
            return
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise RankError(f"On rank {failed[0][0]}{others} of {world_size}: {failed[0][1]}") from error

    def _text_of(self, error: BaseException) -> str:
        known = self.explain(error)
        if known is not None or isinstance(error, (TrainingError, ScoringError)):
            return known or str(error)
        _log.error("An error on this rank:", exc_info=error)
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"


@contextmanager
def failing_together(
    world_size: int, explain: Callable[[BaseException], str | None] = lambda error: None
) -> Iterator[None]:
    """Around work in which ranks exchange nothing: where it fails on one of them, it fails on all.

    Args:
        world_size: Number of ranks.
        explain: As for `SharedFailure`.

    Raises:
        RankError: It failed on a rank. A single process raises its own error.
    """
    failure = SharedFailure(explain)
    with failure.holding(world_size):
        yield
    failure.meet(world_size)


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Around work in which ranks wait for each other: the library's error that one has left becomes a `RankError`."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, TrainingError) or not any(text in str(error) for text in _LOST):
            raise
        raise RankError("Another process of this run has ended, and this one cannot go on alone.") from error
