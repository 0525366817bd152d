"""How often the intervals of one policy, and of two on the same questions, hold the truth: simulated.

    python benchmarks/coverage.py --studies 10000

Questions are drawn, too: a question's chance of a right sample is drawn from a beta distribution, or is one of two, and
the truth is the share over questions without end.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import report

from grouprl.statistics.proportions import clustered_ratio, pass_at_k
from grouprl.statistics.questions import paired_difference

Interval = tuple[float, float]
Study = Callable[[np.random.Generator], tuple[Interval, float]]
"""An interval and the truth it should hold."""
_SPREAD = 1.5
"""a + b of the beta distribution of chances: most questions are nearly always or nearly never solved."""


def chances(mean: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Chances of a right sample of some questions."""
    return rng.beta(mean * _SPREAD, (1 - mean) * _SPREAD, count)


def correct_if_boxed(rate: float, questions: int = 400, samples: int = 4) -> Study:
    """Share of right samples among those with a box, where few have one."""

    def study(rng: np.random.Generator) -> tuple[Interval, float]:
        boxed = rng.binomial(samples, rate, questions)
        right = rng.binomial(boxed, chances(0.6, questions, rng))
        found = clustered_ratio(right.tolist(), boxed.tolist())
        return (found.low, found.high), 0.6

    return study


def pass_at(k: int, samples: int, questions: int, mean: float) -> Study:
    """Chance of a right one among k."""
    fine = np.random.default_rng(1).beta(mean * _SPREAD, (1 - mean) * _SPREAD, 1_000_000)
    truth = float((1 - (1 - fine) ** k).mean())

    def study(rng: np.random.Generator) -> tuple[Interval, float]:
        right = rng.binomial(samples, chances(mean, questions, rng)).tolist()
        found = clustered_ratio([pass_at_k(samples, c, k) for c in right], [1.0] * questions)
        return (found.low, found.high), truth

    return study


def never_solved(share: float, chance: float, questions: int, samples: int) -> Study:
    """Share of right samples where some questions are never solved and the others nearly always."""

    def study(rng: np.random.Generator) -> tuple[Interval, float]:
        right = rng.binomial(samples, np.where(rng.random(questions) < share, 0.0, chance))
        found = clustered_ratio(right.tolist(), [samples] * questions)
        return (found.low, found.high), (1 - share) * chance

    return study


def paired(questions: int, samples: int, difference: float) -> Study:
    """Difference of two policies; of the second a share of the questions is always solved."""

    def study(rng: np.random.Generator) -> tuple[Interval, float]:
        first = chances(0.5, questions, rng)
        second = np.where(rng.random(questions) < 2 * difference, 1.0, first)
        drawn = [rng.random((questions, samples)) < p[:, None] for p in (first, second)]
        found = paired_difference(*(d.astype(float).tolist() for d in drawn))
        return (found.low, found.high), difference

    return study


SETTINGS: dict[str, Study] = {
    **{f"correct_if_boxed, 400 questions, {100 * rate:g}% boxed": correct_if_boxed(rate)
       for rate in (0.001, 0.003, 0.01, 0.03, 0.1)},
    **{f"pass@{k}, 30 questions, {samples} samples, {100 * mean:g}% right": pass_at(k, samples, 30, mean)
       for k, samples in ((1, 1), (1, 8), (8, 8), (8, 16)) for mean in (0.1, 0.5, 0.9)},
    **{f"pass@1, {questions} questions, {samples} samples, {share:.0%} never solved, others {chance:.0%}":
       never_solved(share, chance, questions, samples)
       for share, chance, questions, samples in ((0.05, 0.98, 30, 16), (0.03, 0.97, 30, 16), (0.05, 0.95, 30, 4),
                                                 (0.01, 0.97, 200, 16))},
    **{f"paired difference {100 * difference:g}, {questions} questions, {samples} samples":
       paired(questions, samples, difference)
       for questions in (10, 30, 400) for samples in (1, 4) for difference in (0.0, 0.1)},
}  # fmt: skip


def cover(study: Study, studies: int, seed: int) -> dict[str, float]:
    """Shares of studies whose interval holds the truth, or lies below or above it, of those that have one."""
    rng = np.random.default_rng(seed)
    ends = [study(rng) for _ in range(studies)]
    known = [(low, high, truth) for (low, high), truth in ends if not math.isnan(low)]
    return {
        "covers": float(np.mean([low <= truth <= high for low, high, truth in known])),
        "below": float(np.mean([high < truth for _, high, truth in known])),
        "above": float(np.mean([low > truth for low, _, truth in known])),
        "width": float(np.mean([high - low for low, high, _ in known])),
        "without": 1 - len(known) / studies,
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """The report."""
    lines = report.heading("How often intervals hold the truth", found)
    lines += [
        f"{found['studies']:,} simulated studies a row, in percent; nominal 95. Without: studies in which there was "
        "nothing to make an interval of (no box).",
        "",
    ]
    rows = [
        [name, *(f"{100 * row[key]:.1f}" for key in ("covers", "below", "above", "width", "without"))]
        for name, row in found["rows"].items()
    ]
    return lines + report.table(["interval", "covers", "below", "above", "mean width", "without"], rows)


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--name", default="coverage")
    args = parser.parse_args()
    found = report.surroundings("cpu", 1)
    found |= {"studies": args.studies, "rows": {}}
    for number, (name, study) in enumerate(SETTINGS.items()):
        found["rows"][name] = cover(study, args.studies, number)
    lines = lines_of(found)
    report.write(args.out, args.name, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
