"""Numbers a reader can trust: intervals for proportions, pass@k and maj@k, and comparisons paired by question.

Questions are the independent units throughout; the samples of one question are not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

Z95 = 1.959963984540054
_BLOCK = 2_000_000
"""Numbers drawn at a time by a bootstrap, which bounds its memory."""

Answer = TypeVar("Answer")


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


@dataclass(frozen=True)
class Vote:
    """What the samples of one question agree on."""

    winners: tuple[Hashable, ...]
    """The classes with the most votes, in order of appearance: several where they tie, none without an answer."""
    votes: int
    """Votes of each winner."""
    samples: int
    """Samples asked, those without an answer among them."""

    def score(self, right: Hashable) -> float:
        """maj@k of the question: the chance to be right where a tie is broken by lot, 0 to 1."""
        return 1 / len(self.winners) if right in self.winners else 0.0


def majority(classes: Sequence[Hashable]) -> Vote:
    """The vote over the equivalence classes of a question's k answers (self-consistency, arXiv 2203.11171).

    Args:
        classes: A label for each sample, equal for equivalent answers (see `equivalence_classes`). None is no answer:
            it has no vote.
    """
    counts = Counter(label for label in classes if label is not None)
    most = max(counts.values(), default=0)
    return Vote(tuple(label for label, count in counts.items() if count == most), most, len(classes))


def equivalence_classes(answers: Sequence[Answer | None], same: Callable[[Answer, Answer], bool]) -> list[int | None]:
    """Number the answers' classes in order of appearance; None stays None.

    An answer joins the first class whose first member it equals: ``same`` need not be transitive, and is asked once
    for each answer and class at most.

    Args:
        answers: The k answers of a question. Put the gold answer first, and its class is 0.
        same: Whether two answers are equivalent.
    """
    firsts: list[Answer] = []
    labels: list[int | None] = []
    for answer in answers:
        if answer is None:
            labels.append(None)
            continue
        label = next((i for i, first in enumerate(firsts) if same(answer, first)), len(firsts))
        if label == len(firsts):
            firsts.append(answer)
        labels.append(label)
    return labels


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
    """The second policy's avg@k minus the first's, with its 95% interval."""

    value: float
    low: float
    high: float
    p_value: float
    """Two-sided, of no difference; not below ``1 / (resamples + 1)``."""
    questions: int
    resamples: int
    seed: int

    def __str__(self) -> str:
        if math.isnan(self.low):
            return "no data"
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_bootstrap(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], *, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Compare avg@k of two policies by a bootstrap over questions (percentile interval; Miller, arXiv 2411.00640).

    A question is drawn with all its samples of both policies, so that neither the samples of a question nor the two
    policies' results on it are taken for independent. Where all questions differ by the same amount there is no
    variance to resample, which does not mean that there is none: the interval then bounds the share of unseen
    questions by ``1 - 0.05 ** (1 / questions)`` ("rule of three").

    Args:
        first: Scores in [0, 1], [questions][samples]; the number of samples may vary.
        second: The same questions in the same order; its numbers of samples may be others.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws: the same one gives the same interval.

    Returns:
        The difference. Its interval and p-value are NaN with fewer than two questions.

    Raises:
        ValueError: If the questions are not paired, one has no samples, or a score lies outside [0, 1].
    """
    _check_paired(first, second)
    for scores in (*first, *second):
        if len(scores) == 0 or not all(0 <= score <= 1 for score in scores):
            raise ValueError("A question needs at least one sample, and scores lie in [0, 1].")
    differences = np.array([np.mean(b) - np.mean(a) for a, b in zip(first, second, strict=True)])
    count = len(differences)
    value = float(differences.mean()) if count else math.nan
    if count < 2:
        return Difference(value, math.nan, math.nan, math.nan, count, resamples, seed)
    if np.ptp(differences) < 1e-12:
        unseen = 1 - 0.05 ** (1 / count)
        low, high = value - unseen * (1 + value), value + unseen * (1 - value)
        p_value = 1.0 if low <= 0 <= high else 1 / (resamples + 1)
        return Difference(value, low, high, p_value, count, resamples, seed)
    generator, rows = np.random.default_rng(seed), max(1, _BLOCK // count)
    blocks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    means = np.concatenate([differences[generator.integers(count, size=(n, count))].mean(1) for n in blocks])
    low, high = np.quantile(means, (0.025, 0.975))
    extreme = int((np.abs(means - value) >= abs(value) - 1e-12).sum())
    return Difference(value, float(low), float(high), (1 + extreme) / (resamples + 1), count, resamples, seed)


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
