"""The runs of a study, whether their folders are there or the study was published without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from grouprl.studies.exchange.published import is_published, read_published
from grouprl.studies.outcomes import Outcome, read_outcome
from grouprl.studies.table import run_folders
from grouprl.studies.verification import edited
from grouprl.training.records import read_result


class Edited(Protocol):
    """What of a run is not as it was written; without its weights, which may be large, where nothing rests on them."""

    def __call__(self, *, weights: bool = True) -> list[str]: ...


@dataclass(frozen=True)
class Record:
    """A run as it was written down."""

    place: Path
    """Its folder, or what it is called in a published study's."""
    result: Mapping[str, Any]
    outcome: Callable[[], Outcome]
    """What it scored; an `OutcomeError` where it came to no evaluation."""
    edited: Edited
    """What of it is not as it was written."""


def records_in(study: Path) -> list[Record]:
    """The runs of a study that left a result.

    Raises:
        FileError: A file of it is damaged.
    """
    if is_published(study):
        runs = read_published(study)
        return [Record(study / run.result["run"], run.result, run.outcome, run.edited) for run in runs]
    found = [(run, read_result(run)) for run in run_folders(study)]
    return [
        Record(run, result, partial(read_outcome, run), partial(edited, run, result))
        for run, result in found
        if result is not None
    ]
