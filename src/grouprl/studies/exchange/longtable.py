"""Outcomes as one long table, a row a completion: how runs of any trainer are compared, and how ours are handed on.

Columns: ``arm``, ``seed``, ``problem``, ``sample`` (-1: the greedy one), ``correct`` (0 or 1); ``base`` and ``tokens``
where they are known.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from grouprl.evaluation.results import GREEDY
from grouprl.files import FileError, write_named
from grouprl.studies.outcomes import Evaluation, Outcome
from grouprl.studies.plan import ONLY_BASE

COLUMNS = ("arm", "seed", "problem", "sample", "correct")
_TRUE, _FALSE = ("1", "1.0", "true"), ("0", "0.0", "false")

Outcomes = dict[str, dict[str, dict[int, Outcome]]]
"""By base, arm and seed."""
Marks = Mapping[str, Mapping[int, bool]]
"""Right or wrong by problem and sample."""


def read_table(file: Path) -> Outcomes:
    """Outcomes of a CSV file.

    Raises:
        FileError: It lacks a column, or a row of it is no completion, or runs have other problems.
    """
    marks: dict[tuple[str, str, int], dict[str, dict[int, bool]]] = defaultdict(lambda: defaultdict(dict))
    tokens: dict[tuple[str, str, int], int] = defaultdict(int)
    for number, row in _rows(file):
        if empty := next((column for column in ("arm", "problem") if not row[column].strip()), None):
            raise FileError(f"{file}, row {number}: its {empty} is empty. Give each a name.")
        run = (row.get("base") or ONLY_BASE, row["arm"], _whole(row, "seed", file, number))
        sample, mark = _whole(row, "sample", file, number), row["correct"].strip().lower()
        if mark not in (*_TRUE, *_FALSE):
            raise FileError(f"{file}, row {number}: correct={row['correct']!r}. Write 0 or 1.")
        if sample in marks[run][row["problem"]]:
            raise FileError(f"{file}, row {number}: sample {sample} of problem {row['problem']} is there twice.")
        marks[run][row["problem"]][sample] = mark in _TRUE
        tokens[run] += _whole(row, "tokens", file, number) if row.get("tokens") else 0
    if not marks:
        raise FileError(f"{file}: it has no row.")
    return outcomes_of(marks, str(file), tokens)


def outcomes_of(
    marks: Mapping[tuple[str, str, int], Marks],
    where: str,
    tokens: Mapping[tuple[str, str, int], int] = MappingProxyType({}),
) -> Outcomes:
    """Outcomes of runs.

    Args:
        marks: What each run got right, by base, arm and seed; sample -1 is the greedy one.
        where: What is named in errors.
        tokens: Of each run's completions together, where they are known.

    Raises:
        FileError: Runs have other problems, or a run has not as many samples of each.
    """
    found: Outcomes = {}
    problems = sorted(next(iter(marks.values())))
    for run, of_run in marks.items():
        base, arm, seed = run
        outcome = _outcome(where, run, of_run, problems, tokens.get(run, 0))
        found.setdefault(base, {}).setdefault(arm, {})[seed] = outcome
    return found


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            header = list(reader.fieldnames or ())
            if twice := next((column for column in header if header.count(column) > 1), None):
                raise FileError(f"{file}: the column {twice} is there twice.")
            lacking = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if lacking:
                raise FileError(f"{file}: it has no column {', '.join(lacking)}. Columns: {', '.join(COLUMNS)}.")
            for number, row in enumerate(reader, start=2):
                if None in row.values() or None in row:
                    raise FileError(f"{file}, row {number}: it has too {'many' if None in row else 'few'} cells.")
                yield number, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{file}: not a table in UTF-8 ({error}).") from error


def _whole(row: Mapping[str, str], column: str, file: Path, number: int) -> int:
    try:
        return int(float(row[column])) if float(row[column]).is_integer() else int(row[column])
    except ValueError as error:
        raise FileError(f"{file}, row {number}: {column}={row[column]!r}. Write a whole number.") from error


def _outcome(where: str, run: tuple[str, str, int], marks: Marks, problems: Sequence[str], tokens: int) -> Outcome:
    base, arm, seed = run
    name = f"{arm}, seed {seed}" if base == ONLY_BASE else f"{base}, {arm}, seed {seed}"
    if sorted(marks) != list(problems):
        other = sorted(set(marks) ^ set(problems))[0]
        raise FileError(f"{where}: {name} and the first run differ in problem {other}. Runs are paired by problem.")
    drawn = [[mark for sample, mark in sorted(marks[p].items()) if sample != GREEDY] for p in problems]
    greedy = [marks[p][GREEDY] for p in problems if GREEDY in marks[p]]
    if not any(drawn):
        raise FileError(
            f"{where}: {name} has greedy completions alone (sample -1), which are no part of a verdict. Give samples, "
            "numbered from 0."
        )
    if len({len(row) for row in drawn}) > 1 or len(greedy) not in (0, len(problems)):
        raise FileError(f"{where}: {name} has not as many samples of every problem.")
    evaluation = Evaluation(0, np.array(drawn, dtype=bool), np.array(greedy, dtype=bool), tokens)
    return Outcome(
        name=name,
        seed=seed,
        state="finished",
        settings={},
        heldout="",
        evaluations=(evaluation,),
        tokens=np.array([0.0]),
        seconds=0.0,
        seconds_of_token=float("nan"),
    )


def write_table(outcomes: Mapping[str, Mapping[str, Mapping[int, Outcome]]], file: Path) -> None:
    """Write the last evaluation of every run, a row a completion, the seeds in the order they have there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["base", *COLUMNS])
    for base, arms in outcomes.items():
        for arm, runs in arms.items():
            for seed, outcome in runs.items():
                last = outcome.last
                for problem in range(len(last.correct)):
                    greedy = [(GREEDY, last.greedy[problem])] if last.greedy.size else []
                    for sample, mark in [*greedy, *enumerate(last.correct[problem])]:
                        writer.writerow([base, arm, seed, problem, sample, int(mark)])
    write_named(file, text.getvalue())
