"""Looking more than once: one level for every look and pair, and intervals that hold at all of them together.

The looks are fixed before the first run. At each, every pair is tested by `paired_t` at one nominal level, so low that
the chance of any false rejection over all looks and pairs is 5% (Pocock 1977); the intervals at that level are repeated
confidence intervals (Jennison and Turnbull 1989): they hold together, whenever one stops. "Better" and "equivalent" are
both read from them, so that no second test spends anything.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from grouprl.statistics.seeds import LEVEL, SeedTest, paired_t

Ending = Literal["better", "equivalent", "identical", "undecided"]
_DRAWS = 200_000
_PART = 20_000
_SEED = 0


@functools.lru_cache
def nominal_level(looks: tuple[int, ...], arms: int = 2, *, against_baseline: bool = False) -> float:
    """Level of each test of each look with which all of them together err as often as `LEVEL` says.

    Found by simulation of arms that do not differ: 200,000 studies from one seed, with arms of equal variance (that of
    pairs that vary less than others errs less often: Hayter 1984). One look at two arms is `LEVEL` itself.

    Args:
        looks: Numbers of paired seeds, rising, 2 at least.
        arms: How many are compared.
        against_baseline: Whether pairs are those with one arm; else all.

    Raises:
        ValueError: Looks that do not rise, or fewer than two arms.
    """
    check_looks(looks)
    if arms < 2:
        raise ValueError(f"{arms} arms: a comparison takes two.")
    if len(looks) == 1 and arms == 2:
        return LEVEL
    pairs = (
        [(0, other) for other in range(1, arms)] if against_baseline else list(itertools.combinations(range(arms), 2))
    )
    generator = np.random.default_rng(_SEED)
    found = [_smallest_p(looks, arms, pairs, generator) for _ in range(0, _DRAWS, _PART)]
    return float(np.quantile(np.concatenate(found), LEVEL))


def _smallest_p(
    looks: Sequence[int], arms: int, pairs: Sequence[tuple[int, int]], generator: np.random.Generator
) -> np.ndarray:
    """Draws of the smallest p-value over looks and pairs under no difference."""
    scores = generator.standard_normal((_PART, arms, looks[-1]))
    smallest = np.ones(_PART)
    for first, second in pairs:
        differences = scores[:, second] - scores[:, first]
        sums, squares = differences.cumsum(axis=1), (differences**2).cumsum(axis=1)
        for seeds in looks:
            mean = sums[:, seeds - 1] / seeds
            variance = (squares[:, seeds - 1] - seeds * mean**2) / (seeds - 1)
            t = np.abs(mean) / np.sqrt(variance / seeds)
            np.minimum(smallest, 2 * stats.t.sf(t, seeds - 1), out=smallest)
    return smallest


def check_looks(looks: Sequence[int]) -> None:
    """Whether looks can be taken one after the other.

    Raises:
        ValueError: They cannot.
    """
    rising = all(earlier < later for earlier, later in itertools.pairwise(looks))
    if not looks or looks[0] < 2 or not rising:
        raise ValueError(f"looks={list(looks)}: give rising numbers of seeds, from 2 on, such as [6,8,10,12].")


@dataclass(frozen=True)
class Look:
    """What one look says of a pair: ``second`` minus ``first``."""

    first: str
    second: str
    test: SeedTest
    """With the repeated confidence interval; its p-value is compared with ``level``."""
    level: float
    ending: Ending
    """``better``: which of the two is, the sign of the difference says."""


def look(
    scores: Mapping[str, Sequence[float]],
    looks: Sequence[int],
    margin: float,
    baseline: str | None = None,
) -> list[Look]:
    """Look at arms after as many seeds as they have, which is one of the looks.

    Args:
        scores: Of each arm one number a seed, the seeds in the same order.
        looks: All looks of the study, those to come included.
        margin: The largest difference that does not matter, in the scores' unit.
        baseline: The arm that all others are compared with; None: all pairs.

    Returns:
        One look for each pair. A pair is decided where its interval lies on one side of 0, or within the margin.

    Raises:
        ValueError: Another number of seeds than a look has, no such baseline, or a margin that is not above 0.
    """
    counts = {name: len(values) for name, values in scores.items()}
    if set(counts.values()) - set(looks) or len(set(counts.values())) != 1:
        raise ValueError(f"Looks are after {list(looks)} seeds of every arm, not after {counts}.")
    if baseline is not None and baseline not in scores:
        raise ValueError(f"baseline={baseline}: the arms are {', '.join(scores)}.")
    if not margin > 0:
        raise ValueError(f"margin={margin}: give a number above 0.")
    level = nominal_level(tuple(looks), len(scores), against_baseline=baseline is not None)
    names = itertools.combinations(scores, 2) if baseline is None else ((baseline, n) for n in scores if n != baseline)
    found = []
    for first, second in names:
        test = paired_t([b - a for a, b in zip(scores[first], scores[second], strict=True)], level)
        found.append(Look(first, second, test, level, ending_of(test, level, margin)))
    return found


def ending_of(test: SeedTest, level: float, margin: float) -> Ending:
    """What an interval says."""
    if test.sd == 0 and test.value == 0:
        return "identical"
    if math.isnan(test.p_value):
        return "undecided"
    if test.p_value < level:
        return "better"
    return "equivalent" if -margin < test.low and test.high < margin else "undecided"
