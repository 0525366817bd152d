"""Per-sample files of lm-eval and TRL as outcomes: an arm is a list of them, a file or folder for each seed.

lm-eval writes ``samples_TASK_TIME.jsonl`` with ``--log_samples``: a row for each question and filter, with the metrics
under their names. TRL's `GRPOTrainer` writes ``completions/completions_STEP.parquet`` with ``log_completions``: a row
for each completion, with what each reward function gave it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grouprl.files import FileError, read_jsonl, read_parquet
from grouprl.studies.exchange.longtable import Outcomes, outcomes_of
from grouprl.studies.plan import ONLY_BASE

_OF_TRL = ("step", "prompt", "completion")
_NO_REWARDS = {*_OF_TRL, "advantage"}
"""Columns of TRL that are no reward function's."""


def read_arms(arms: Mapping[str, Sequence[Path]], column: str | None = None, chosen: str | None = None) -> Outcomes:
    """Outcomes of others' files.

    Args:
        arms: Files or folders of each arm, one for each seed, in the same order of seeds.
        column: Where 0 or 1 stands: a metric of lm-eval (``exact_match``), a reward function of TRL. None: the only
            one.
        chosen: Filter of lm-eval (``flexible-extract``). None: the only one.

    Raises:
        FileError: A file is none of theirs, has no such column, or runs have other questions.
    """
    marks = {
        (ONLY_BASE, arm, seed): _marks(path, column, chosen)
        for arm, paths in arms.items()
        for seed, path in enumerate(paths)
    }
    return outcomes_of(marks, "the files of --arm")


def measured_in(arms: Mapping[str, Sequence[Path]]) -> str:
    """What files of `read_arms` hold, in words: TRL's are completions of training, of all its steps together."""
    paths = [path for of in arms.values() for path in of]
    of_trl = any(path.suffix == ".parquet" or (path.is_dir() and any(path.rglob("*.parquet"))) for path in paths)
    return f"the share of right {'training completions, all steps together' if of_trl else 'samples'}"


def _marks(path: Path, column: str | None, chosen: str | None) -> dict[str, dict[int, bool]]:
    if not path.exists():
        raise FileError(f"{path}: there is no such file or folder.")
    files = sorted([*path.rglob("*.jsonl"), *path.rglob("*.parquet")]) if path.is_dir() else [path]
    if not files:
        raise FileError(f"{path}: no file of lm-eval (*.jsonl) or TRL (*.parquet) is here.")
    tasks = [file.stem.rpartition("_")[0] for file in files if file.suffix == ".jsonl"]
    twice = next((task for task in tasks if tasks.count(task) > 1), None)
    if twice is not None:
        raise FileError(f"{path}: several files of {twice}, which are several runs. Give one, or each as a seed.")
    found: dict[str, dict[int, bool]] = defaultdict(dict)
    for file in files:
        rows = _of_trl(file, column) if file.suffix == ".parquet" else _of_lm_eval(file, column, chosen)
        for problem, mark in rows:
            found[problem][len(found[problem])] = mark
    return _evenly(found)


def _evenly(found: Mapping[str, dict[int, bool]]) -> dict[str, dict[int, bool]]:
    """As many samples of each problem as all have: training that ended within a pass over its prompts has more of some.

    The first of each are taken.
    """
    least = min(map(len, found.values()), default=0)
    return {problem: {n: mark for n, mark in marks.items() if n < least} for problem, marks in found.items()}


def _of_lm_eval(file: Path, column: str | None, chosen: str | None) -> Iterator[tuple[str, bool]]:
    task, filters = file.stem.removeprefix("samples_").rpartition("_")[0], set()
    seen: set[str] = set()
    for number, row in read_jsonl(file):
        where = f"{file}, line {number}"
        if "doc_id" not in row or "resps" not in row:
            raise FileError(f"{where}: not a row of lm-eval's samples (--log_samples): it has no doc_id or resps.")
        name = str(row.get("filter", "none"))
        filters.add(name)
        if chosen is None and len(filters) > 1:
            raise FileError(f"{where}: the filters {' and '.join(sorted(filters))} are there. Choose one: --filter.")
        if chosen not in (None, name):
            continue
        metrics = row.get("metrics") or []
        if not isinstance(metrics, list) or not all(isinstance(metric, str) for metric in metrics):
            raise FileError(f"{where}: metrics={metrics!r} is no list of names.")
        named = [column] if column is not None and not metrics and column in row else metrics
        document = "".join(f", {str(row[name])[:8]}" for name in ("doc_hash", "target_hash") if row.get(name))
        question = f"{task}/{row['doc_id']}{document}"
        if question in seen:
            raise FileError(f"{where}: document {row['doc_id']} is there twice. Give the files of one run.")
        seen.add(question)
        yield question, _mark(row, _column(column, named, where), where)
    if chosen is not None and chosen not in filters:
        raise FileError(f"{file}: no filter {chosen}; there are {', '.join(sorted(filters))}.")


def _of_trl(file: Path, column: str | None) -> Iterator[tuple[str, bool]]:
    for number, row in enumerate(read_parquet(file, _OF_TRL, remedy="Give a file that TRL wrote"), start=1):
        where = f"{file}, row {number}"
        name = _column(column, sorted(row.keys() - _NO_REWARDS), where)
        yield str(row["prompt"]), _mark(row, name, where)


def _column(column: str | None, there: Sequence[str], where: str) -> str:
    if column is None and len(there) == 1:
        return there[0]
    if column is None or column not in there:
        asked = "" if column is None else f"no {column}; "
        raise FileError(f"{where}: {asked}there are {', '.join(there) or 'none'}. Say which one is 0 or 1: --correct.")
    return column


def _mark(row: Mapping[str, Any], column: str, where: str) -> bool:
    value = row.get(column)
    if isinstance(value, (list, dict)) or value not in (0, 1):
        raise FileError(f"{where}: {column}={value!r} is neither 0 nor 1.")
    return bool(value)
