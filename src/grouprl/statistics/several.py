"""Several arms over the same seeds: intervals and p-values that hold for all comparisons together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grouprl.statistics.seeds import LEVEL, SeedTest, differences_of, paired_t

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
    pairs = pairs_of(scores, baseline)
    differences = {(a, b): np.array(differences_of(scores[a], scores[b])) for a, b in pairs}
    single = {pair: paired_t(differences[pair], level) for pair in pairs}
    varying = [pair for pair in pairs if not math.isnan(single[pair].p_value) and single[pair].sd > 0]
    alone = len(varying) == 1
    drawn = [] if alone else [differences[pair] for pair in varying]
    largest = _largest_t(np.array(drawn)) if drawn else np.empty(0)
    found = []
    for pair in pairs:
        test = single[pair]
        if pair not in varying:
            found.append(PairTest(*pair, test, test.low, test.high, test.p_value, (test.low, test.high)))
            continue
        bound = len(varying) if test.seeds <= len(scores) else None  # correlations of so few seeds say nothing
        half, inner = (
            max(
                0.0 if alone else float(np.quantile(largest, 1 - at)) * test.sd / math.sqrt(test.seeds),
                _half(differences[pair], at / (bound or 1)) if alone or bound else 0.0,
            )
            for at in (level, 2 * level)
        )
        t = abs(test.value) * math.sqrt(test.seeds) / test.sd
        beyond = max(test.p_value, 0.0 if alone else float((largest >= t).mean()))
        beyond = max(beyond, min(1.0, (bound or 1) * test.p_value))
        value = test.value
        found.append(PairTest(*pair, test, value - half, value + half, beyond, (value - inner, value + inner)))
    return found


def _half(differences: np.ndarray, level: float) -> float:
    """Half the width of one pair's own interval."""
    test = paired_t(differences.tolist(), level)
    return test.high - test.value


def _largest_t(differences: np.ndarray) -> np.ndarray:
    """Draws of the largest absolute t under no difference, for differences [comparisons, seeds]."""
    seeds = differences.shape[1]
    centred = differences - differences.mean(axis=1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)  # unit @ unit.T: their correlations
    _, upper = np.linalg.qr(unit.T)
    root = upper.T  # the same product, of no more columns than are independent
    root = root * np.where(np.diag(root) < 0, -1, 1)  # of one sign on every machine
    root = root[:, np.linalg.norm(root, axis=0) > 1e-9]
    generator = np.random.default_rng(_SEED)
    found = []
    for _ in range(0, _DRAWS, _DRAWS // 8):
        normal = generator.standard_normal((_DRAWS // 8, seeds, root.shape[1]))
        drawn = normal @ root.T  # [draws, seeds, comparisons], of the wanted correlations within a seed
        mean = drawn.mean(axis=1)
        variance = (np.einsum("dsc,dsc->dc", drawn, drawn) - seeds * mean**2) / (seeds - 1)
        found.append((np.abs(mean) * np.sqrt(seeds / variance)).max(axis=1))
    return np.concatenate(found)
