"""Arms that look several times, and scores that decide nothing."""

import math

import numpy as np

from grouprl.studies.outcomes import Evaluation, Outcome
from grouprl.studies.seeds import compare_arms, compare_at_looks


def marks_of(score, seed, problems=200):
    marks = np.arange(problems)[:, None] < round(problems * score)
    evaluation = Evaluation(1, marks, marks[:, 0], tokens=0)
    return Outcome(f"{score}-{seed}", seed, "finished", {}, "", (evaluation,), np.array([1.0]), math.nan, math.nan)


def test_what_was_decided_at_a_look_stays_decided():
    """Two pairs of three: one is seen at the first look, and would not be at the second; nothing of it is lost."""
    looks = (6, 8)

    def arm(*scores):
        return {seed: marks_of(score, seed) for seed, score in enumerate(scores)}

    arms = {
        "a": arm(0.50, 0.51, 0.50, 0.49, 0.50, 0.51, 0.80, 0.20),
        "b": arm(0.60, 0.61, 0.60, 0.60, 0.61, 0.60, 0.20, 0.80),
    }
    early = compare_at_looks(arms, range(6), looks)
    assert (early.pairs[0].ending, early.pairs[0].decided_after) == ("better", None)
    assert compare_arms(arms, looks=looks).pairs[0].ending == "undecided"
    late = compare_at_looks(arms, range(8), looks)
    assert (late.pairs[0].better, late.pairs[0].decided_after) == ("b", 6)
    assert late.pairs[0].verdict == early.pairs[0].verdict[:-1] + " (after 6 seeds)."
    assert len(late.arms[0].seeds) == 8


def test_all_right_is_no_identity_either():
    arms = {name: {seed: marks_of(1.0, seed) for seed in range(3)} for name in "ab"}
    (pair,) = compare_arms(arms).pairs
    assert (pair.ending, pair.all_alike) == ("undecided", True)
    assert "every run of both solved everything, which says nothing of them" in pair.verdict


def test_ties_on_other_problems_have_no_test_whatever_the_number_of_samples():
    """Means of equal counts in another order differ in their last bit: nothing is decided by that."""
    generator = np.random.default_rng(0)
    for samples in (5, 10):
        arms = {"a": {}, "b": {}}
        for seed in range(6):
            marks = generator.random((50, samples)) < generator.random((50, 1))
            for name, shuffled in (("a", marks), ("b", generator.permutation(marks))):
                evaluation = Evaluation(1, shuffled, marks[:, 0], tokens=0)
                arms[name][seed] = Outcome(
                    f"{name}{seed}", seed, "finished", {}, "", (evaluation,), np.array([1.0]), math.nan, math.nan
                )
        (pair,) = compare_arms(arms).pairs
        assert (pair.ending, pair.test.single.sd) == ("undecided", 0.0)
