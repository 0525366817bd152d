"""Several arms over the same seeds: intervals and p-values that hold for all comparisons together."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from grouprl.statistics.seeds import LEVEL, SeedTest, differences_of, paired_t

_DRAWS = 200_000
_PART = 20_000
_SEED = 0


@dataclass(frozen=True)
class PairTest:
    """One comparison among several: ``second`` minus ``first``."""

    first: str
    second: str
    single: SeedTest
    """Taken alone."""
    low: float
    """Of the interval that holds together with all others."""
    high: float
    p_value: float
    """Adjusted for the number of comparisons."""
    inner: tuple[float, float]
    """The interval of all pairs together at twice the level. Within a margin: equivalent, at the level (of one pair
    that is two one-sided tests)."""

    def turned(self) -> PairTest:
        """The same of the difference the other way round."""
        low, high = self.inner
        return PairTest(
            self.second, self.first, self.single.turned(), -self.high, -self.low, self.p_value, (-high, -low)
        )


def pairs_of(arms: Iterable[str], baseline: str | None = None) -> list[tuple[str, str]]:
    """Pairs to compare: all, or those with a baseline.

    Raises:
        ValueError: There is no such baseline.
    """
    names = list(arms)
    if baseline is None:
        return list(itertools.combinations(names, 2))
    if baseline not in names:
        raise ValueError(f"baseline={baseline}: the arms are {', '.join(names)}.")
    return [(baseline, name) for name in names if name != baseline]


def max_t(scores: Mapping[str, Sequence[float]], baseline: str | None = None, level: float = LEVEL) -> list[PairTest]:
    """Compare arms over paired seeds by the largest t: the chance that any true null is rejected stays at ``level``.

    The largest t, and so the smallest p-value, is compared with its distribution under no difference (single-step):
    the one of `smallest_p_values`, whose variances err most, and not one with the correlations that were seen, which
    with few seeds are so rough that 5% became 7 (five arms, six seeds).

    Args:
        scores: Of each arm one number a seed, the seeds in the same order.
        baseline: The arm that all others are compared with; None: all pairs.
        level: 1 minus the coverage of all intervals together.

    Returns:
        One test for each pair, in the order of the arms. One whose differences do not vary is left as it is.

    Raises:
        ValueError: Fewer than two arms, another number of seeds, or no such baseline.
    """
    counts = {name: len(values) for name, values in scores.items()}
    if len(scores) < 2 or len(set(counts.values())) > 1:
        raise ValueError(f"Comparing takes at least two arms of the same seeds, not {counts}.")
    differences = {(a, b): differences_of(scores[a], scores[b]) for a, b in pairs_of(scores, baseline)}
    single = {pair: paired_t(of, level) for pair, of in differences.items()}
    varying = [pair for pair, test in single.items() if not math.isnan(test.p_value) and test.sd > 0]
    seeds = next(iter(counts.values()))
    alone = len(varying) < 2
    drawn = None if alone else smallest_p_values((seeds,), len(scores), against_baseline=baseline is not None)
    outer, inner = (at if drawn is None else float(np.quantile(drawn, at)) for at in (level, 2 * level))
    found = []
    for pair, test in single.items():
        if pair not in varying:
            found.append(PairTest(*pair, test, test.low, test.high, test.p_value, (test.low, test.high)))
            continue
        wide, narrow = (paired_t(differences[pair], at) for at in (outer, inner))
        of_all = 0.0 if drawn is None else float(np.searchsorted(drawn, test.p_value, side="right") / len(drawn))
        together = max(test.p_value, of_all)
        found.append(PairTest(*pair, test, wide.low, wide.high, together, (narrow.low, narrow.high)))
    return found


@functools.lru_cache(maxsize=32)
def smallest_p_values(looks: tuple[int, ...], arms: int, *, against_baseline: bool = False) -> np.ndarray:
    """Draws of the smallest p-value of `paired_t` over looks and pairs of arms that do not differ, rising.

    200,000 studies from one seed, with the variances that err most: equal ones for all pairs (with an arm's standard
    deviation 0.01 to 3 times the others' the smallest p-value is larger), and none of a baseline, whose pairs are then
    independent.

    Args:
        looks: Numbers of paired seeds, rising, 2 at least.
        arms: How many are compared.
        against_baseline: Whether pairs are those with one arm; else all.
    """
    every = itertools.combinations(range(arms), 2)
    pairs = [pair for pair in every if pair[0] == 0] if against_baseline else list(every)
    generator = np.random.default_rng(_SEED)
    sds = np.array([0.0 if against_baseline else 1.0, *[1.0] * (arms - 1)])
    found = np.sort(np.concatenate([_smallest_p(looks, sds, pairs, generator) for _ in range(0, _DRAWS, _PART)]))
    found.flags.writeable = False
    return found


def _smallest_p(
    looks: Sequence[int], sds: np.ndarray, pairs: Sequence[tuple[int, int]], generator: np.random.Generator
) -> np.ndarray:
    scores = sds[:, None] * generator.standard_normal((_PART, len(sds), looks[-1]))
    largest = np.zeros((len(looks), _PART))
    for first, second in pairs:
        differences = scores[:, second] - scores[:, first]
        sums, squares = differences.cumsum(axis=1), (differences**2).cumsum(axis=1)
        for at, seeds in enumerate(looks):
            mean = sums[:, seeds - 1] / seeds
            variance = (squares[:, seeds - 1] - seeds * mean**2) / (seeds - 1)
            np.maximum(largest[at], np.abs(mean) / np.sqrt(variance / seeds), out=largest[at])
    return np.min([2 * stats.t.sf(t, seeds - 1) for t, seeds in zip(largest, looks, strict=True)], axis=0)
