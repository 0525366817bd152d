"""Intervals for proportions, clustered by question where a question was sampled more than once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A fraction with its 95% interval and the number of questions behind it."""

    value: float
    low: float
    high: float
    questions: int

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "no data"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: int, count: int) -> Estimate:
    """Wilson's score interval for a proportion of independent questions (Wilson 1927)."""
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    share = successes / count
    centre = (share + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    half = Z95 / (1 + Z95**2 / count) * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), count)


def clustered_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """``sum(numerators) / sum(denominators)`` with one pair per question (Miller, arXiv 2411.00640).

    The samples of a question are not independent, so the variance is taken over questions (the linearised ratio
    estimator). With equal denominators this is the mean of per-question means and its standard error.
    """
    total, count = sum(denominators), len(denominators)
    if total == 0 or count < 2:
        return Estimate(math.nan, math.nan, math.nan, count)
    ratio = sum(numerators) / total
    if ratio in (0.0, 1.0):
        # No variance was seen, which does not mean that there is none: each question as one trial.
        return wilson(round(ratio * count), count)
    residuals = sum((n - ratio * d) ** 2 for n, d in zip(numerators, denominators, strict=True))
    half = Z95 * math.sqrt(residuals * count / (count - 1)) / total
    return Estimate(ratio, max(0.0, ratio - half), min(1.0, ratio + half), count)
