"""Intervals of proportions over questions: closed forms, and coverage where few questions say anything."""

import math

import numpy as np
import pytest
from scipy import stats

from grouprl.statistics.proportions import clustered_ratio, wilson


def test_wilson_is_the_score_interval():
    """Its ends are the shares that a score test at 5% just keeps."""
    for successes, count in ((3, 10), (0, 7), (199, 400)):
        share, low, high, _ = wilson(successes, count)
        for end in (end for end in (low, high) if 1e-9 < end < 1 - 1e-9):
            assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), rel=1e-6)


def test_questions_that_say_nothing_are_not_counted():
    """Three boxed samples of 400, all right, are three trials."""
    found = clustered_ratio([1] * 3 + [0] * 397, [1] * 3 + [0] * 397)
    assert found == (1.0, pytest.approx(0.025 ** (1 / 3)), 1.0, 3)


def test_questions_without_variance_are_a_trial_each():
    exact = stats.binomtest(15, 30).proportion_ci()
    assert clustered_ratio([2] * 30, [4] * 30) == pytest.approx((0.5, exact.low, exact.high, 30))


def test_one_sample_a_question_is_the_exact_interval():
    found = clustered_ratio([1] * 37 + [0] * 63, [1] * 100)
    wanted = stats.binomtest(37, 100).proportion_ci()
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-3)


def test_samples_of_a_question_count_as_far_as_they_differ():
    generator = np.random.default_rng(0)
    same = generator.random(200) < 0.5
    copies = clustered_ratio([4 * int(x) for x in same], [4] * 200)
    exact = stats.binomtest(int(same.sum()), 200).proportion_ci()
    assert copies.high - copies.low == pytest.approx(exact.high - exact.low, rel=0.02)
    apart = generator.binomial(4, 0.5, 200)
    free = clustered_ratio(apart.tolist(), [4] * 200)
    assert 0.45 < (free.high - free.low) / (copies.high - copies.low) < 0.6


def test_nothing_to_say():
    found = clustered_ratio([0, 0], [0, 0])
    assert math.isnan(found.value)
    assert found.questions == 0


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_a_rare_denominator_is_covered(rate):
    """Right among the boxed of 400 questions with four samples each, at low rates of boxes."""
    generator = np.random.default_rng(1)
    chances = generator.beta(4, 1, (300, 400))
    boxed = generator.binomial(4, rate, chances.shape)
    right = generator.binomial(boxed, chances)
    found = [clustered_ratio(n, d) for n, d in zip(right.tolist(), boxed.tolist(), strict=True)]
    covered = [f.low <= 0.8 <= f.high for f in found if f.questions]
    assert np.mean(covered) >= 0.94


def test_pass_at_k_of_few_questions_is_covered():
    """Where each question is 0 or 1, as with k of k samples."""
    generator = np.random.default_rng(2)
    covered = []
    for _ in range(400):
        chances = generator.beta(1, 1, 30)
        solved = (generator.binomial(4, chances) > 0).astype(float).tolist()
        found = clustered_ratio(solved, [1.0] * 30)
        covered.append(found.low <= 0.8 <= found.high)
    assert np.mean(covered) >= 0.94


def test_few_questions_may_hold_none_that_fails():
    """Where thirty fractions are nearly all 1, their small variance says nothing of the question that would fail."""
    found = clustered_ratio([1.0] * 29 + [0.9], [1.0] * 30)
    assert 0.80 < found.low < 0.95
    assert clustered_ratio([1.0] * 2999 + [0.9], [1.0] * 3000).low > 0.998


@pytest.mark.parametrize(
    ("questions", "samples", "never", "chance"), [(30, 16, 0.05, 0.98), (30, 16, 0.03, 0.97), (200, 16, 0.01, 0.97)]
)
def test_few_questions_may_hold_none_that_is_never_solved(questions, samples, never, chance):
    generator = np.random.default_rng(4)
    held = []
    for _ in range(600):
        chances = np.where(generator.random(questions) < never, 0.0, chance)
        found = clustered_ratio(generator.binomial(samples, chances).tolist(), [samples] * questions)
        held.append(found.low <= (1 - never) * chance <= found.high)
    assert np.mean(held) > 0.95


def test_one_wrong_sample_does_not_make_the_interval_narrower():
    perfect, almost = clustered_ratio([16] * 30, [16] * 30), clustered_ratio([16] * 29 + [15], [16] * 30)
    assert almost.low < perfect.low
