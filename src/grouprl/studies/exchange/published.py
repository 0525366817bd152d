"""A study without its run folders: what was planned, a row for each run, and every held-out completion.

``results.csv`` holds of each run its options, conditions and digests; ``heldout.parquet`` its completions of every
evaluation; ``study.json`` the plan. From these the verdict and the report are made again, and each row says which bits
a repeated run has to have. A row carries a digest of itself.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grouprl.files import FileError, read_parquet, write_parquet, write_text
from grouprl.studies.outcomes import HELDOUT_COLUMNS, Outcome, outcome_of, read_outcome
from grouprl.studies.plan import OutcomeError, read_plan
from grouprl.studies.table import run_folders
from grouprl.studies.verification import digest, edited
from grouprl.training.records import POLICY_FOLDER, evaluations_in, read_result

RESULTS_FILE, HELDOUT_FILE = "results.csv", "heldout.parquet"
_SEAL = "digest of this row"
_TEXTS = ("run", "state", "commit")
_JSON = ("seed", "overrides", "identity", "machine", "versions", "loaded", "digests", "seconds", "iterations")
_MEASURED = ("tokens", "seconds_at", "seconds_of_token")
_SCORES = ("pass@1", "greedy")
_COLUMNS = (*_TEXTS, *_SCORES, *_JSON, *_MEASURED, _SEAL)
_REMEDY = "Put back the file that was published"


@dataclass(frozen=True)
class PublishedRun:
    """A row, with the run's completions by iteration."""

    result: Mapping[str, Any]
    measured: Mapping[str, Any]
    heldout: Mapping[int, Sequence[Mapping[str, Any]]]
    is_sealed: bool
    """Whether the row has the digest that it carries."""
    folder: Path

    def outcome(self) -> Outcome:
        """What the run scored; an `OutcomeError` where it came to no evaluation."""
        if not self.heldout:
            raise OutcomeError(f"{self.folder}, {self.result['run']}: it came to no evaluation.")
        settings = dict(o.lstrip("+~").partition("=")[::2] for o in self.result["overrides"])
        return outcome_of(self.result, self.heldout, settings=settings, folder=self.folder, **self.measured)

    def edited(self, *, weights: bool = True) -> list[str]:
        """What is not as it was published: its ``row``, or its ``heldout`` completions. There are no weights."""
        found = [] if self.is_sealed else ["row"]
        recorded = self.result["digests"].get("heldout")
        return found + (["heldout"] if recorded and recorded != digest(self.heldout) else [])


def publish(study: Path, target: Path) -> None:
    """Write what a study's runs came to into a folder of its own.

    No weights are published, so that a study whose policies were left on another machine can be, too.

    Raises:
        FileError: No study is there, or a run's files are not what it wrote.
    """
    if target.resolve() == study.resolve():
        raise FileError(f"{target}: the study's own folder. Give another one, which holds what is published alone.")
    plan = read_plan(study)
    results = [(run, result) for run in run_folders(study) if (result := read_result(run)) is not None]
    if plan is None or not results:
        raise FileError(f"{study}: no study with runs is here (study.json). Give the folder that train.py -m wrote to.")
    rows, heldout = [], []
    for run, result in results:
        has_weights = (run / POLICY_FOLDER).exists()
        if result["state"] == "finished" and (faults := edited(run, result, weights=has_weights)):
            raise FileError(f"{run}: not what the run wrote: {', '.join(faults)}.")
        rows.append(_row_of(run, result))
        heldout += [
            {"run": result["run"], "iteration": iteration} | row
            for iteration, file in evaluations_in(run).items()
            for row in read_parquet(file)
        ]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / RESULTS_FILE, text.getvalue())
    write_parquet(target / HELDOUT_FILE, heldout)
    plan.write(target)


def _row_of(run: Path, result: Mapping[str, Any]) -> dict[str, str]:
    row = {name: str(result.get(name) or "") for name in _TEXTS}
    row |= {name: json.dumps(result.get(name), sort_keys=True) for name in _JSON}
    try:
        outcome = read_outcome(run)
    except OutcomeError:
        row |= dict.fromkeys((*_MEASURED, *_SCORES), "")
    else:
        scores = (outcome.last.correct.mean(), outcome.last.greedy.mean())
        row |= {name: f"{value:.6f}" for name, value in zip(_SCORES, scores, strict=True)}
        row |= {"tokens": json.dumps(outcome.tokens.tolist()), "seconds_at": json.dumps(outcome.seconds_at.tolist())}
        row |= {"seconds_of_token": json.dumps(outcome.seconds_of_token)}
    return row | {_SEAL: _seal(row)}


def _seal(row: Mapping[str, str]) -> str:
    content = json.dumps({name: row[name] for name in _COLUMNS if name != _SEAL}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def is_published(folder: Path) -> bool:
    """Whether a folder holds a published study."""
    return all((folder / name).is_file() for name in (RESULTS_FILE, HELDOUT_FILE))


def read_published(folder: Path) -> list[PublishedRun]:
    """The runs of a published study.

    Raises:
        FileError: A file is damaged.
    """
    completions: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    columns = ("run", "iteration", *HELDOUT_COLUMNS)
    for row in read_parquet(folder / HELDOUT_FILE, columns, remedy=_REMEDY):
        completions[row.pop("run")][row.pop("iteration")].append(row)
    found: list[PublishedRun] = []
    with (folder / RESULTS_FILE).open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                found.append(_published(row, completions, folder))
            except (KeyError, TypeError, ValueError) as error:
                where = f"{folder / RESULTS_FILE}, row {number}"
                raise FileError(f"{where}: not a run ({type(error).__name__}: {error}). {_REMEDY}.") from error
    if orphans := sorted(completions.keys() - {run.result["run"] for run in found}):
        raise FileError(f"{folder / HELDOUT_FILE}: {RESULTS_FILE} has no row of {orphans[0]}. {_REMEDY}.")
    return found


def _published(
    row: Mapping[str, str], completions: Mapping[str, Mapping[int, list[dict[str, Any]]]], folder: Path
) -> PublishedRun:
    result = {name: row[name] for name in _TEXTS} | {name: json.loads(row[name]) for name in _JSON}
    result = {name: value for name, value in result.items() if value is not None} | {"digests": result["digests"] or {}}
    measured = {name: json.loads(row[name]) for name in _MEASURED if row[name]}
    measured |= {name: np.array(measured[name], dtype=float) for name in ("tokens", "seconds_at") if name in measured}
    heldout = completions.get(row["run"], {})
    return PublishedRun(result, measured, dict(heldout), row[_SEAL] == _seal(row), folder)
