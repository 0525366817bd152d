"""Efficiency and ceiling: found where they were put in, and silent where the curve does not say."""

import math

import numpy as np
import pytest

from grouprl.statistics.saturation import Saturation, compare_saturation, fit_saturation

TOKENS = np.arange(12) * 1000.0


def scores(start=0.3, ceiling=0.8, constant=3000.0, noise=0.0, seed=0):
    exact = ceiling - (ceiling - start) * np.exp(-TOKENS / constant)
    return exact + noise * np.random.default_rng(seed).standard_normal(len(TOKENS))


def test_a_curve_is_found():
    found = fit_saturation(TOKENS, scores())
    assert (found.start, found.ceiling, found.constant) == pytest.approx((0.3, 0.8, 3000), rel=1e-4)


@pytest.mark.parametrize(
    ("tokens", "values"),
    [
        (TOKENS[:9], scores()[:9]),  # too few
        (TOKENS, scores(constant=50_000)),  # it has not bent
        (TOKENS, 0.3 + TOKENS / 30_000),  # a line
        (TOKENS, np.full(12, 0.4)),  # nothing happens
        (TOKENS, scores(ceiling=1.3)),  # a ceiling that no share has
    ],
)
def test_what_the_evaluations_do_not_identify_is_left_out(tokens, values):
    assert fit_saturation(tokens, values) is None


def test_noise_has_no_ceiling():
    flat = [0.74 + 0.01 * np.random.default_rng(n).standard_normal(12) for n in range(300)]
    found = [curve for curve in (fit_saturation(TOKENS, values) for values in flat) if curve is not None]
    assert len(found) < 15
    assert all(curve.constant >= 1000 for curve in found)
    crash = [0.7441, 0.7371, 0.7337, 0.7391, 0.7399, 0.7329, 0.7443, 0.7475, 0.7416, 0.7571, 0.7337]
    assert fit_saturation(5000.0 * np.arange(11), crash) is None


def test_arms_that_learn_faster_and_arms_that_come_further_are_told_apart():
    slow = [fit_saturation(TOKENS, scores(noise=0.01, seed=n)) for n in range(6)]
    fast = [fit_saturation(TOKENS, scores(constant=1500.0, noise=0.01, seed=10 + n)) for n in range(6)]
    high = [fit_saturation(TOKENS, scores(ceiling=0.9, noise=0.01, seed=20 + n)) for n in range(6)]
    speed, height = compare_saturation(slow, fast), compare_saturation(slow, high)
    assert speed.constant.p_value < 0.05 < speed.ceiling.p_value
    assert speed.constant.low < math.log(0.5) < speed.constant.high
    assert height.ceiling.p_value < 0.05 < height.constant.p_value
    assert height.ceiling.low < 0.1 < height.ceiling.high


def test_one_run_without_a_curve_leaves_the_pair_without_one():
    curve = Saturation(0.3, 0.8, 3000.0)
    assert compare_saturation([curve, curve], [curve, None]) is None
    assert compare_saturation([curve], [curve]) is None
