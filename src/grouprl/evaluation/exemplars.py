"""Exemplars: the solved problems of a few-shot prompt, and where they come from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grouprl.data.rows import gold_answer
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
    """
    if not benchmark.shots:
        return []
    if path is not None:
        return [_exemplar(row) for _, row in read_jsonl(path)][: benchmark.shots]
    rows: Iterable[Mapping[str, Any]] = ()
    if data_dir is not None and benchmark.shots_file and (Path(data_dir) / benchmark.shots_file).is_file():
        rows = (row for _, row in read_jsonl(Path(data_dir) / benchmark.shots_file))
    elif data_dir is None and benchmark.shots_split:
        rows = (_solved(benchmark, row) for _, row in benchmark.hub_rows(benchmark.shots_split))
    found = [_exemplar(r) for r in rows if _SHORTEST_SOLUTION <= len(str(r.get("solution", ""))) <= _LONGEST_SOLUTION]
    if len(found) >= benchmark.shots:
        found.sort(key=lambda shot: hashlib.sha256(shot.problem.encode()).hexdigest())
        return found[: benchmark.shots]
    return [_exemplar(row) for _, row in read_jsonl(SHOTS / f"{benchmark.exemplars}.jsonl")][: benchmark.shots]


def _solved(benchmark: Benchmark, row: Mapping[str, Any]) -> dict[str, Any]:
    """A training row of the hub; its answer column holds the solution, too."""
    solution = str(row[benchmark.columns["answer"]])
    return {
        "problem": row[benchmark.columns["problem"]],
        "solution": solution.partition("####")[0],
        "answer": gold_answer(solution, benchmark.answer_format),
    }


def _exemplar(row: Mapping[str, Any]) -> Exemplar:
    solution = _CALCULATOR.sub("", str(row.get("solution", ""))).strip()
    return Exemplar(row["problem"], solution, str(row["answer"]), tuple(row.get("choices", ())))
