"""Exemplars: the solved problems of a few-shot prompt, and where they come from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grouprl.data.checks import jsonl_file
from grouprl.data.rows import cell_text, gold_answer, problem_text, texts_of
from grouprl.evaluation.benchmarks import Benchmark
from grouprl.files import read_jsonl

SHOTS = Path(__file__).parent / "shots"
_SHORTEST_SOLUTION, _LONGEST_SOLUTION = 40, 600
"""Characters of an exemplar's solution."""
_CALCULATOR = re.compile(r"<<[^<>]*>>")
"""GSM8K's annotations for a calculator."""


@dataclass(frozen=True)
class Exemplar:
    """A solved problem that stands before the question."""

    problem: str
    solution: str
    answer: str
    choices: tuple[str, ...] = ()


def exemplars_for(benchmark: Benchmark, path: str | None = None, data_dir: str | None = None) -> list[Exemplar]:
    """The exemplars of a benchmark: the user's, or else the training split's, or else this package's own.

    From a training split, whose solutions must not be too long, those come first whose problems have the smallest
    SHA-256: a fixed rule that looks at nothing else. Test problems are never exemplars.

    Args:
        benchmark: It says how many, and where its training split is.
        path: JSONL file of the user's with the columns problem, solution, answer, and choices where there are any.
        data_dir: Folder that ``shots_file`` may lie in; None: the hub, where the set has a training split.

    Raises:
        ValueError: The user's file holds no exemplar, or a row of a file is none; the text names file and line.
    """
    if not benchmark.shots:
        return []
    if path is not None:
        jsonl_file("exemplars", path)
        given = [_exemplar(row, source) for source, row in _rows(Path(path))][: benchmark.shots]
        if not given:
            raise ValueError(
                f"exemplars={path}: the file holds no exemplar. Give one at least, or leave the option out."
            )
        return given
    rows: Iterable[tuple[str, Mapping[str, Any]]] = ()
    if data_dir is not None and benchmark.shots_file and (Path(data_dir) / benchmark.shots_file).is_file():
        rows = _rows(Path(data_dir) / benchmark.shots_file)
    elif data_dir is None and benchmark.shots_split:
        source, solved = f"{benchmark.dataset} [{benchmark.shots_split}]", benchmark.hub_rows(benchmark.shots_split)
        rows = ((f"{source}, line {number}", _solved(benchmark, row)) for number, row in solved)
    found = [
        _exemplar(row, source)
        for source, row in rows
        if _SHORTEST_SOLUTION <= len(str(row.get("solution", ""))) <= _LONGEST_SOLUTION
    ]
    if len(found) >= benchmark.shots:
        found.sort(key=lambda shot: hashlib.sha256(shot.problem.encode()).hexdigest())
        return found[: benchmark.shots]
    own = SHOTS / f"{benchmark.exemplars}.jsonl"
    return [_exemplar(row, source) for source, row in _rows(own)][: benchmark.shots]


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a file, each with its place."""
    return ((f"{path}, line {number}", row) for number, row in read_jsonl(path))


def _solved(benchmark: Benchmark, row: Mapping[str, Any]) -> dict[str, Any]:
    """A training row of the hub; its answer column holds the solution, too."""
    solution = str(row[benchmark.columns["answer"]])
    return {
        "problem": row[benchmark.columns["problem"]],
        "solution": solution.partition("####")[0],
        "answer": gold_answer(solution, benchmark.answer_format),
    }


def _exemplar(row: Mapping[str, Any], source: str) -> Exemplar:
    try:
        answer = cell_text(row.get("answer"), "answer")
        solution = _CALCULATOR.sub("", cell_text(row.get("solution"), "solution")).strip()
        choices = texts_of(row.get("choices"), "choices")
        if not problem_text(row.get("problem")) or not answer:
            raise ValueError(f"no {'problem' if answer else 'answer'}")
        return Exemplar(row["problem"], solution, answer, choices)
    except ValueError as error:
        raise ValueError(
            f"{source}: not an exemplar ({error}). Give each problem, solution, answer, and choices if it has any."
        ) from None
