"""Two arms over paired seeds, on the problems at hand: Student's t, sign flips, equivalence, and what it takes to know.

Seeds are the independent units here: each gives one number per arm, such as the accuracy over all held-out problems,
and both arms of a seed share what the seed decides. What is said holds "on these problems"; see
`grouprl.statistics.crossed` for problems like these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import integrate, optimize, stats
from statsmodels.stats.power import TTestPower

LEVEL = 0.05
"""Chance of a false verdict."""
_EXACT = 16
"""Seeds up to which all flips are listed."""


@dataclass(frozen=True)
class SeedTest:
    """A mean over seeds with its interval and the two-sided p-value of the same test."""

    value: float
    low: float
    high: float
    p_value: float
    df: float
    """Degrees of freedom."""
    sd: float
    """Standard deviation over seeds; of two independent groups NaN."""
    seeds: int

    def turned(self) -> SeedTest:
        """The same of the difference the other way round."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}], p {self.p_value:.3g}, {self.seeds} seeds"


class Power(NamedTuple):
    """What a number of seeds can see, as a range: the standard deviation behind it is an estimate itself."""

    value: float
    low: float
    high: float


def differences_of(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> list[float]:
    """Second minus first, seed by seed, of shares: to twelve digits, so that means of equal counts are equal."""
    return np.round(np.asarray(second, float) - np.asarray(first, float), 12).tolist()


def paired_t(differences: Sequence[float] | np.ndarray, level: float = LEVEL) -> SeedTest:
    """Student's t over the seeds' differences: the primary test, calibrated down to three seeds (docs/statistics.md).

    Args:
        differences: Second arm minus first, one for each seed.
        level: 1 minus the interval's coverage.

    Returns:
        Mean and test. With one seed, or where all differences are one number other than 0, interval and p-value are
        NaN. Where all are 0 there is nothing to reject: 0 [0, 0], p 1, which says nothing of how near the arms are.

    Raises:
        ValueError: Without seeds, or with one whose difference is not finite.
    """
    values = _finite(differences)
    count, value = len(values), float(values.mean())
    if count > 1 and not values.any():
        return SeedTest(0.0, 0.0, 0.0, 1.0, count - 1, 0.0, count)
    if count < 2 or np.ptp(values) <= 1e-12 * abs(values).max():
        return SeedTest(value, math.nan, math.nan, math.nan, count - 1, 0.0 if count > 1 else math.nan, count)
    test = stats.ttest_1samp(values, 0.0)
    interval = test.confidence_interval(1 - level)
    sd = float(values.std(ddof=1))
    return SeedTest(value, float(interval.low), float(interval.high), float(test.pvalue), count - 1, sd, count)


def welch(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> SeedTest:
    """Welch's t of two arms whose seeds are not paired, or hardly correlated: the second's mean minus the first's."""
    a, b = _finite(first), _finite(second)
    test = stats.ttest_ind(b, a, equal_var=False)
    interval = test.confidence_interval(1 - level)
    value = float(b.mean() - a.mean())
    return SeedTest(
        value, float(interval.low), float(interval.high), float(test.pvalue), float(test.df), math.nan, len(a) + len(b)
    )


def sign_flip(differences: Sequence[float]) -> float:
    """Exact two-sided p-value under flipping the sign of each seed's difference (Fisher 1935).

    No distribution is assumed, but that the arms are exchangeable within a seed. Its smallest possible value is
    `smallest_p`: with fewer than six seeds it is never below 0.05. With more than 16 seeds 65,536 flips are drawn.
    """
    values = _finite(differences)
    exact = len(values) <= _EXACT
    found = stats.permutation_test(
        (values,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf if exact else 2**_EXACT - 1,
        rng=np.random.default_rng(0),
        vectorized=True,
    )
    return float(found.pvalue)


def smallest_p(seeds: int) -> float:
    """The smallest p-value that `sign_flip` can give for a number of seeds."""
    return 2.0 ** (1 - seeds)


def equivalence(differences: Sequence[float], margin: float) -> float:
    """p-value of two one-sided t tests (Schuirmann 1987): below 0.05, the arms differ by less than ``margin``.

    Args:
        differences: Second arm minus first, one for each seed.
        margin: The largest difference that does not matter, above 0; to be named before the first run.

    Returns:
        The larger of the two p-values; NaN with one seed, or without variance that could be estimated.

    Raises:
        ValueError: The margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin={margin}: give a number above 0.")
    values = _finite(differences)
    if len(values) < 2 or np.ptp(values) <= 1e-12 * abs(values).max():
        return math.nan
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    return float(max(above, below))


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's correlation of two arms over paired seeds; NaN where one of them does not vary, or with two seeds.

    Pairing pays by it: below about 0.2 set the unpaired `welch` beside.
    """
    a, b = _finite(first), _finite(second)
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def sd_interval(sd: float, seeds: int) -> tuple[float, float]:
    """95% interval of a standard deviation over seeds (chi-square)."""
    df = seeds - 1
    low, high = stats.chi2.ppf((0.975, 0.025), df)
    return sd * math.sqrt(df / low), sd * math.sqrt(df / high)


def power(
    difference: float, sd: float, seeds: int, *, estimated_from: int | None = None, level: float = LEVEL
) -> Power:
    """Chance that `paired_t` sees a difference, for a number of seeds.

    Args:
        difference: The true one.
        sd: Standard deviation of the seeds' differences.
        seeds: How many there will be.
        estimated_from: Number of seeds that ``sd`` was estimated from; None: it is known.
        level: Of the test.

    Returns:
        The power at ``sd``, and at the two ends of its 95% interval.
    """

    def at(spread: float) -> float:
        effect = abs(difference) / spread
        found = float(TTestPower().power(effect, seeds, level, alternative="two-sided"))
        return _chance_of_t(effect * math.sqrt(seeds), seeds - 1, level) if math.isnan(found) else found

    low, high = (sd, sd) if estimated_from is None else sd_interval(sd, estimated_from)
    return Power(at(sd), at(high), at(low))


def _chance_of_t(noncentrality: float, df: int, level: float) -> float:
    """Chance that t is beyond its critical value, by the distribution of the sd: scipy's noncentral t has gaps."""
    critical = float(stats.t.ppf(1 - level / 2, df))

    def beyond(u: float) -> float:
        return float(stats.norm.sf(critical * math.sqrt(stats.chi2.ppf(u, df) / df) - noncentrality))

    return float(integrate.quad(beyond, 0, 1)[0])


def smallest_visible(sd: float, seeds: int, chance: float = 0.8, *, level: float = LEVEL) -> float:
    """The difference that `paired_t` sees with a chance, for a number of seeds and the sd of their differences.

    Raises:
        ValueError: Fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"{seeds} seeds: a test takes two.")
    high = 1.0
    while power(high, 1.0, seeds, level=level).value < chance:
        high *= 2  # statsmodels' own search goes astray where scipy's noncentral t has gaps
    found = optimize.brentq(lambda size: power(size, 1.0, seeds, level=level).value - chance, 0.0, high, xtol=1e-6)
    return sd * float(found)


def seeds_needed(difference: float, sd: float, chance: float = 0.8, most: int = 10_000, *, level: float = LEVEL) -> int:
    """Seeds with which `paired_t` at a level sees a difference with a chance; ``most`` where it takes more."""
    if difference == 0:
        return most
    low, high = 2, 3
    while high < most and power(difference, sd, high, level=level).value < chance:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sd, middle, level=level).value >= chance else (middle, high)
    return min(high, most)


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"Give one number a seed, not an array of shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("A seed without a finite number: a run that failed counts as what it scored.")
    return array
