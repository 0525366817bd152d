"""Rows of samples, and their grades: with the tolerance, the unit and the accepted answers that a benchmark names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from grouprl.answers.extraction import Extraction
from grouprl.answers.grading import AnswerKind, Verdict, grade_all
from grouprl.files import Row

if TYPE_CHECKING:
    from grouprl.evaluation.benchmarks import Benchmark, BenchmarkProblem

NOT_GRADED = "overlong"
"""Status of a problem that did not fit and was not asked."""


@dataclass(frozen=True)
class Grading:
    """How the answers to a benchmark are read and compared."""

    kind: AnswerKind = "auto"
    tolerance: float = 0.0
    extraction: Extraction | Literal["none"] = "boxed"

    @classmethod
    def of(cls, benchmark: Benchmark, extraction: Extraction) -> Grading:
        """That of a benchmark, with answers read in one way."""
        return cls(benchmark.kind, benchmark.tolerance, extraction)

    def verdicts(self, texts: Sequence[str], problems: Sequence[BenchmarkProblem]) -> list[Verdict]:
        """The verdict on each text by its problem: right where it is one of the answers that are accepted."""
        asked = [
            (place, gold, self.tolerance if problem.tolerance is None else problem.tolerance)
            for place, problem in enumerate(problems)
            for gold in (problem.answer, *problem.accepted)
        ]
        by_tolerance: dict[float, list[tuple[int, str]]] = defaultdict(list)
        for place, gold, tolerance in asked:
            by_tolerance[tolerance].append((place, gold))
        found: dict[tuple[int, str], Verdict] = {}
        for tolerance, pairs in by_tolerance.items():
            given = [texts[place] for place, _ in pairs], [gold for _, gold in pairs]
            graded = grade_all(*given, self.kind, self.extraction, tolerance=tolerance)
            found.update(zip(pairs, graded, strict=True))
        return [_best(found, place, problem) for place, problem in enumerate(problems)]


def _best(found: dict[tuple[int, str], Verdict], place: int, problem: BenchmarkProblem) -> Verdict:
    first = found[place, problem.answer]
    for number, gold in enumerate(problem.accepted, start=2):
        verdict = found[place, gold]
        if verdict.correct and not first.correct:
            return replace(verdict, rule=f"{verdict.rule}, accepted answer {number}")
    return first


def grade_rows(rows: Sequence[Row], grading: Grading) -> list[Row]:
    """Copies of rows with the verdicts of now; those of problems that were not asked stay as they are."""
    from grouprl.evaluation.benchmarks import BenchmarkProblem

    asked = [row for row in rows if row["status"] != NOT_GRADED]
    problems = [
        BenchmarkProblem("", row["gold"], tolerance=row.get("tolerance"), accepted=tuple(row.get("accepted") or ()))
        for row in asked
    ]
    verdicts = iter(grading.verdicts([row["completion"] for row in asked], problems))
    return [row if row["status"] == NOT_GRADED else row | verdict_columns(next(verdicts)) for row in rows]


def verdict_columns(verdict: Verdict) -> Row:
    """What a row says of a verdict."""
    return {
        "answer": verdict.answer or "",
        "correct": verdict.correct,
        "status": verdict.status,
        "rule": verdict.rule,
    }
