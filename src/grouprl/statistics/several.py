"""Several arms over the same seeds: intervals and p-values that hold for all comparisons together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grouprl.statistics.seeds import LEVEL, SeedTest, paired_t

_DRAWS = 40_000
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


def max_t(scores: Mapping[str, Sequence[float]], baseline: str | None = None, level: float = LEVEL) -> list[PairTest]:
    """Compare arms over paired seeds by the largest t: the chance that any true null is rejected stays at ``level``.

    The largest of the comparisons' absolute t values is compared with its distribution under no difference, drawn for
    normal differences with the correlations that were seen (single-step; Hothorn, Bretz and Westfall 2008). With no
    more seeds than arms, whose correlations say nothing, Bonferroni's bound holds as well.

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
    if baseline is not None and baseline not in scores:
        raise ValueError(f"baseline={baseline}: the arms are {', '.join(scores)}.")
    names = itertools.combinations(scores, 2) if baseline is None else ((baseline, n) for n in scores if n != baseline)
    pairs = list(names)
    differences = {pair: np.asarray(scores[pair[1]], float) - np.asarray(scores[pair[0]], float) for pair in pairs}
    single = {pair: paired_t(differences[pair], level) for pair in pairs}
    varying = [pair for pair in pairs if not math.isnan(single[pair].p_value) and single[pair].sd > 0]
    largest = _largest_t(np.array([differences[pair] for pair in varying])) if varying else np.empty(0)
    found = []
    for pair in pairs:
        test = single[pair]
        if pair not in varying:
            found.append(PairTest(*pair, test, test.low, test.high, test.p_value))
            continue
        error = test.sd / math.sqrt(test.seeds)
        half = float(np.quantile(largest, 1 - level)) * error if len(varying) > 1 else test.high - test.value
        beyond = float((largest >= abs(test.value) / error).mean()) if len(varying) > 1 else test.p_value
        if test.seeds <= len(scores):  # correlations of so few seeds say nothing
            wide = paired_t(differences[pair], level / len(varying))
            half, beyond = max(half, wide.high - test.value), max(beyond, min(1.0, len(varying) * test.p_value))
        found.append(PairTest(*pair, test, test.value - half, test.value + half, max(beyond, test.p_value)))
    return found


def _largest_t(differences: np.ndarray) -> np.ndarray:
    """Draws of the largest absolute t under no difference, for differences [comparisons, seeds]."""
    seeds = differences.shape[1]
    centred = differences - differences.mean(axis=1, keepdims=True)
    root = centred / np.linalg.norm(centred, axis=1, keepdims=True)  # root @ root.T: their correlations
    generator = np.random.default_rng(_SEED)
    found = []
    for _ in range(0, _DRAWS, _DRAWS // 8):
        normal = generator.standard_normal((_DRAWS // 8, seeds, seeds))
        drawn = normal @ root.T  # [draws, seeds, comparisons], of the wanted correlations within a seed
        t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / math.sqrt(seeds))
        found.append(np.abs(t).max(axis=1))
    return np.concatenate(found)
