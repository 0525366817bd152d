"""Proportions over questions with their intervals, and pass@k.

Questions are the independent units throughout; the samples of one question are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

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
    estimator), and says to how many independent trials all samples amount: not fewer than the questions count for, were
    each one trial, nor more than there are samples. The interval is the exact one of Clopper and Pearson for these
    trials (Korn and Graubard 1998), which covers with one question, too. Where no variance is seen, which does not
    mean that there is none, each question is one trial; and where a question can be right in part, as it can with
    several samples, one question that went the unlikelier way is added to the variance: few questions may hold none of
    those that are never solved. Questions whose denominator is 0 say nothing.

    Args:
        numerators: Of each question, at least 0 and at most its denominator.
        denominators: Of each question, such as its number of samples; at least 0.
    """
    pairs = [(n, d) for n, d in zip(numerators, denominators, strict=True) if d > 0]
    count, total = len(pairs), math.fsum(d for _, d in pairs)
    if not count:
        return Estimate(math.nan, math.nan, math.nan, 0)
    ratio = math.fsum(n for n, _ in pairs) / total
    trials = total**2 / math.fsum(d**2 for _, d in pairs)  # Kish 1965
    if count > 1:
        squares = math.fsum((n - ratio * d) ** 2 for n, d in pairs) * count / (count - 1)
        whole = all(float(n).is_integer() for n, _ in pairs)
        if squares > 0 and not (whole and total == count):
            squares += (max(ratio, 1 - ratio) * total / count) ** 2
        scale = (Z95 / float(stats.t.ppf(0.975, count - 1))) ** 2
        if squares > 0 and 0 < ratio < 1:
            seen = ratio * (1 - ratio) * total**2 / squares * scale
            trials = max(trials, min(seen, total) if whole else seen)  # of fractions no number of samples bounds them
    right, wrong = ratio * trials, (1 - ratio) * trials
    low = float(stats.beta.ppf(0.025, right, wrong + 1)) if right else 0.0
    high = float(stats.beta.ppf(0.975, right + 1, wrong)) if wrong else 1.0
    return Estimate(ratio, low, high, count)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples, drawn without replacement, hold a right one (Chen et al., arXiv 2107.03374).

    ``1 - C(n-c, k) / C(n, k)``, in whole numbers up to one division, so that it is exact to the last bit. The mean
    over questions and its interval: ``clustered_ratio([pass_at_k(n, c, k), ...], [1, ...])``.

    Args:
        n: Samples drawn of a question.
        c: Right ones among them.
        k: Size of the attempt, at most n.

    Raises:
        ValueError: Unless ``0 <= c <= n`` and ``1 <= k <= n``.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {n} samples with {c} right: give 0 <= c <= n and 1 <= k <= n.")
    every = math.comb(n, k)
    return (every - math.comb(n - c, k)) / every
