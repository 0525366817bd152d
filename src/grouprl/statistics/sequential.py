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
from typing import Literal

import numpy as np

from grouprl.statistics.seeds import LEVEL, SeedTest, differences_of, paired_t
from grouprl.statistics.several import PairTest, pairs_of, smallest_p_values

Ending = Literal["better", "equivalent", "identical", "undecided"]


@functools.lru_cache
def nominal_level(looks: tuple[int, ...], arms: int = 2, *, against_baseline: bool = False) -> float:
    """Level of each test of each look with which all of them together err as often as `LEVEL` says.

    Found by simulation of arms that do not differ (`grouprl.statistics.several.smallest_p_values`). One look at two
    arms is `LEVEL` itself.

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
    return float(np.quantile(smallest_p_values(looks, arms, against_baseline=against_baseline), LEVEL))


def check_looks(looks: Sequence[int]) -> None:
    """Whether looks can be taken one after the other.

    Raises:
        ValueError: They cannot.
    """
    rising = all(earlier < later for earlier, later in itertools.pairwise(looks))
    if not looks or looks[0] < 2 or not rising:
        raise ValueError(f"looks={list(looks)}: give rising numbers of seeds, from 2 on, such as [6,8,10,12].")


def look(
    scores: Mapping[str, Sequence[float]], looks: Sequence[int], baseline: str | None = None
) -> tuple[list[PairTest], float]:
    """Look at arms after as many seeds as they have: those of one of the looks, less what was lost.

    Args:
        scores: Of each arm one number a seed, the seeds in the same order.
        looks: All looks of the study, those to come included.
        baseline: The arm that all others are compared with; None: all pairs.

    Returns:
        One test for each pair with its repeated confidence interval, from which `ending_of` reads what it says; and the
        level that its p-value is compared with.

    Raises:
        ValueError: Arms of different numbers of seeds, more seeds than the last look has, or no such baseline.
    """
    counts = {name: len(values) for name, values in scores.items()}
    if len(set(counts.values())) != 1 or max(counts.values()) > looks[-1]:
        raise ValueError(f"Looks are after {list(looks)} seeds of every arm, not after {counts}.")
    pairs = pairs_of(scores, baseline)
    level = nominal_level(tuple(looks), len(scores), against_baseline=baseline is not None)
    found = []
    for first, second in pairs:
        test = paired_t(differences_of(scores[first], scores[second]), level)
        found.append(PairTest(first, second, test, test.low, test.high, test.p_value, (test.low, test.high)))
    return found, level


def ending_of(test: SeedTest, level: float, margin: float) -> Ending:
    """What a repeated confidence interval says: it lies on one side of 0, or within the margin, or neither.

    Raises:
        ValueError: The margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin={margin}: give a number above 0.")
    if math.isnan(test.p_value) or not test.sd > 0:
        return "undecided"
    if test.p_value < level:
        return "better"
    return "equivalent" if -margin < test.low and test.high < margin else "undecided"
