"""Exemplars: the solved problems of a few-shot prompt, and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from grouprl.data.checks import place
from grouprl.data.exemplars import SHOTS, Exemplar, exemplar_of, read_exemplars, rows_with_place
from grouprl.data.rows import gold_answer
from grouprl.evaluation.benchmarks import Benchmark

_SHORTEST_SOLUTION, _LONGEST_SOLUTION = 40, 600
"""Characters of an exemplar's solution."""


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
        return list(read_exemplars(path, "exemplars"))[: benchmark.shots]
    rows: Iterable[tuple[str, Mapping[str, Any]]] = ()
    if data_dir is not None and benchmark.shots_file and (place(data_dir) / benchmark.shots_file).is_file():
        rows = rows_with_place(place(data_dir) / benchmark.shots_file)
    elif data_dir is None and benchmark.shots_split:
        source, solved = (
            f"{benchmark.dataset} [{benchmark.shots_split}]",
            benchmark.hub_rows(benchmark.shots_split),
        )
        rows = ((f"{source}, line {number}", _solved(benchmark, row)) for number, row in solved)
    found = [
        exemplar_of(row, source)
        for source, row in rows
        if _SHORTEST_SOLUTION <= len(str(row.get("solution", ""))) <= _LONGEST_SOLUTION
    ]
    if len(found) >= benchmark.shots:
        found.sort(key=lambda shot: hashlib.sha256(shot.problem.encode()).hexdigest())
        return found[: benchmark.shots]
    own = SHOTS / f"{benchmark.exemplars}.jsonl"
    return [exemplar_of(row, source) for source, row in rows_with_place(own)][: benchmark.shots]


def _solved(benchmark: Benchmark, row: Mapping[str, Any]) -> dict[str, Any]:
    """A training row of the hub; its answer column holds the solution, too."""
    solution = str(row[benchmark.columns["answer"]])
    return {
        "problem": row[benchmark.columns["problem"]],
        "solution": solution.partition("####")[0],
        "answer": gold_answer(solution, benchmark.answer_format),
    }
