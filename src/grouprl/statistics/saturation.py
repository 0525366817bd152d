"""How fast a run learns apart from how far it comes: a curve that levels off, fitted to its evaluations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from grouprl.statistics.seeds import SeedTest, paired_t

LEAST_POINTS = 10
"""Evaluations below which efficiency and ceiling are not told apart."""
_BEND = 1.5
"""Time constants that the evaluations have to cover: a curve that has not bent says nothing of its ceiling."""

_APART = 4.0
"""Standard deviations of what is left over by which the curve has to rise: noise has a curve, too."""
_FAR = 20.0
"""Logarithm of how far a time constant is looked for above and below the span."""


@dataclass(frozen=True)
class Saturation:
    """``ceiling - (ceiling - start) * exp(-tokens / constant)``."""

    start: float
    ceiling: float
    constant: float
    """Tokens after which 63% of the way is done: the smaller, the more efficient."""


def fit_saturation(tokens: Sequence[float], scores: Sequence[float]) -> Saturation | None:
    """Fit a curve that levels off, by least squares.

    Args:
        tokens: Sampled tokens before each evaluation, rising.
        scores: Share of right samples at each, 0 to 1.

    Returns:
        The curve; None where the evaluations do not identify it: fewer than ten, no fit, a ceiling outside of 0 to 1,
        a rise of less than four standard deviations of what the curve leaves over, or a time constant that they do not
        cover one and a half times or that is over before the second of them.
    """
    x, y = np.asarray(tokens, float), np.asarray(scores, float)
    if len(x) < LEAST_POINTS or not np.ptp(y):
        return None
    span = float(np.ptp(x))

    def curve(at: np.ndarray, start: float, ceiling: float, log_constant: float) -> np.ndarray:
        constant = math.exp(min(max(log_constant, math.log(span) - _FAR), math.log(span) + _FAR))
        return ceiling - (ceiling - start) * np.exp(-(at - x[0]) / constant)

    guess = (float(y[0]), float(y[-len(y) // 4 :].mean()), math.log(span / 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optimize.OptimizeWarning)  # no covariance: it is not asked for
        try:
            (start, ceiling, log_constant), _ = optimize.curve_fit(curve, x, y, guess, maxfev=5000)
        except RuntimeError:  # it did not converge
            return None
    constant = math.exp(min(log_constant, math.log(span) + _FAR))
    rest = y - curve(x, start, ceiling, log_constant)
    noise = math.sqrt(float((rest**2).sum()) / (len(x) - 3))
    bends_unseen = constant * _BEND > span or constant < x[1] - x[0]
    if not 0 <= ceiling <= 1 or bends_unseen or abs(ceiling - start) < _APART * noise:
        return None
    return Saturation(float(start), float(ceiling), constant)


@dataclass(frozen=True)
class SaturationTest:
    """Two arms over paired seeds."""

    ceiling: SeedTest
    """Second arm's ceiling minus the first's."""
    constant: SeedTest
    """Natural logarithm of the second arm's time constant over the first's: below 0, it learns faster."""

    def turned(self) -> SaturationTest:
        """The same of the arms the other way round."""
        return SaturationTest(self.ceiling.turned(), self.constant.turned())


def compare_saturation(
    first: Sequence[Saturation | None], second: Sequence[Saturation | None]
) -> SaturationTest | None:
    """Ceilings and time constants of two arms, seed by seed; None where one run's are not identified."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(pairs) < len(first) or len(pairs) < 2:
        return None
    return SaturationTest(
        paired_t([b.ceiling - a.ceiling for a, b in pairs]),
        paired_t([math.log(b.constant / a.constant) for a, b in pairs]),
    )
