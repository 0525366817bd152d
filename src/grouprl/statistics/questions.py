"""Two policies on the same questions: comparisons paired by question."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class PairedTest:
    """Exact McNemar test: the questions that two policies answer differently."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float
    """Two-sided."""

    @property
    def difference(self) -> float:
        """Accuracy of the second minus that of the first, -1 to 1; NaN without questions."""
        count = self.both + self.only_first + self.only_second + self.neither
        return (self.only_second - self.only_first) / count if count else math.nan


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> PairedTest:
    """Compare one right-or-wrong result a question, such as greedy accuracy, of two policies (McNemar 1947, exact).

    Under the null hypothesis each question that only one of them answers is a fair coin: a two-sided binomial test.

    Args:
        first: Whether the first policy is right, one for each question.
        second: The same questions in the same order.

    Raises:
        ValueError: If there are not as many results of one as of the other.
    """
    _check_paired(first, second)
    pairs = Counter((bool(a), bool(b)) for a, b in zip(first, second, strict=True))
    only_first, only_second = pairs[True, False], pairs[False, True]
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, i) for i in range(min(only_first, only_second) + 1))
    p_value = min(1.0, 2 * tail / 2**discordant)
    return PairedTest(pairs[True, True], only_first, only_second, pairs[False, False], p_value)


@dataclass(frozen=True)
class Difference:
    """The second policy's avg@k minus the first's, with its 95% interval, and the p-value of the same test."""

    value: float
    low: float
    high: float
    p_value: float
    """Two-sided, of no difference: below 0.05 where the interval leaves out 0."""
    questions: int

    def __str__(self) -> str:
        if math.isnan(self.low):
            return "no data"
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_difference(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Difference:
    """Compare avg@k of two policies, paired by question: Student's t of the questions' differences.

    A question counts once with all its samples of both policies, so that neither the samples of a question nor the two
    policies' results on it are taken for independent. Two questions are added to those asked, one of which the second
    policy wins by ``1 / sqrt(k)`` and one the first: few differences, or none, do not make the interval narrow. With
    one sample a question that is the adjusted interval of Bonett and Price (2012).

    Args:
        first: Scores in [0, 1], [questions][samples]; the number of samples may vary.
        second: The same questions in the same order; its numbers of samples may be others.

    Returns:
        The difference. Its interval and p-value are NaN with fewer than two questions.

    Raises:
        ValueError: If the questions are not paired, one has no samples, or a score lies outside [0, 1].
    """
    _check_paired(first, second)
    for scores in (*first, *second):
        if len(scores) == 0 or not all(0 <= score <= 1 for score in scores):
            raise ValueError("A question needs at least one sample, and scores lie in [0, 1].")
    differences = [float(np.mean(b) - np.mean(a)) for a, b in zip(first, second, strict=True)]
    count = len(differences)
    value = float(np.mean(differences)) if count else math.nan
    if count < 2:
        return Difference(value, math.nan, math.nan, math.nan, count)
    added = 1 / math.sqrt(min(map(len, (*first, *second))))
    test = stats.ttest_1samp([*differences, added, -added], 0.0)
    interval = test.confidence_interval(0.95)
    low, high = max(-1.0, min(value, float(interval.low))), min(1.0, max(value, float(interval.high)))
    return Difference(value, low, high, float(test.pvalue), count)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values of several comparisons, such as one a benchmark (Holm 1979).

    Rejecting those at most alpha keeps the chance of any false rejection at alpha, however they depend on each other.

    Args:
        p_values: p-value of each comparison by its name.

    Returns:
        Adjusted p-values under the same names, in the same order.

    Raises:
        ValueError: If a p-value lies outside [0, 1].
    """
    for name, p_value in p_values.items():
        if not 0 <= p_value <= 1:
            raise ValueError(f"{name}: {p_value} is no p-value; give one in [0, 1].")
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _check_paired(first: Sequence[object], second: Sequence[object]) -> None:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} questions against {len(second)}: give both the same ones, in the same order.")
