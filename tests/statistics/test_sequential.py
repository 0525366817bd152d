"""Several looks: the level that all of them spend together, and endings that are right as often as they say."""

import numpy as np
import pytest

from grouprl.statistics.seeds import paired_t
from grouprl.statistics.sequential import look, nominal_level


def test_one_look_at_two_arms_spends_all():
    assert nominal_level((6,)) == 0.05


@pytest.mark.parametrize(("looks", "wanted"), [((6, 8, 10, 12), 0.0207), (tuple(range(3, 13)), 0.0107)])
def test_levels_of_several_looks(looks, wanted):
    """Those of an independent simulation with 200,000 studies (docs/statistics.md)."""
    assert nominal_level(looks) == pytest.approx(wanted, abs=4e-4)


def test_three_arms_of_one_look_are_tukeys():
    """Of paired arms: the largest of three t values with common seeds is beyond Bonferroni's bound a little less often."""
    level = nominal_level((10,), 3)
    assert 0.05 / 3 < level < 0.025
    assert nominal_level((10,), 3, against_baseline=True) > level
    assert nominal_level((6, 8, 10, 12), 3) < min(level, nominal_level((6, 8, 10, 12)))


def first_ending(scores, looks, margin):
    """The look at which every pair is decided, or the last one."""
    for seeds in looks:
        found = look({name: values[:seeds] for name, values in scores.items()}, looks, margin)
        if all(pair.ending != "undecided" for pair in found):
            break
    return found


@pytest.mark.slow
def test_no_difference_is_called_one_in_at_most_a_twentieth():
    rng, looks, studies = np.random.default_rng(3), (6, 8, 10, 12), 1500
    called = 0
    for _ in range(studies):
        scores = dict(zip("abc", rng.normal(0.7, 0.01, (3, 12)), strict=True))
        called += any(pair.ending == "better" for pair in first_ending(scores, looks, 0.004))
    assert called / studies < 0.05 + 3 * 0.0056


@pytest.mark.slow
def test_a_difference_as_large_as_the_margin_is_called_equivalent_in_at_most_a_twentieth():
    """At every look the margin lies outside the interval no more often than all looks together allow."""
    rng, looks, studies = np.random.default_rng(4), (6, 8, 10, 12), 1500
    called = 0
    for _ in range(studies):
        a = rng.normal(0.7, 0.01, 12)
        (pair,) = first_ending({"a": a, "b": a + rng.normal(0.01, 0.005, 12)}, looks, 0.01)
        called += pair.ending == "equivalent"
    assert called / studies < 0.05 + 3 * 0.0056


def test_a_clear_difference_ends_at_the_first_look_and_equal_arms_are_identical():
    rng = np.random.default_rng(5)
    a = rng.normal(0.7, 0.01, 6)
    (pair,) = look({"a": a, "b": a + 0.05 + rng.normal(0, 0.01, 6)}, (6, 8), 0.01)
    assert (pair.ending, pair.test.value > 0) == ("better", True)
    (same,) = look({"a": a, "b": a}, (6, 8), 0.01)
    assert same.ending == "identical"
    (close,) = look({"a": a, "b": a + rng.normal(0, 1e-4, 6)}, (6, 8), 0.01)
    assert close.ending == "equivalent"


def test_intervals_are_those_of_the_nominal_level():
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.7, 0.01, (2, 8))
    (pair,) = look({"a": a, "b": b}, (6, 8), 0.01)
    alone = paired_t(b - a, nominal_level((6, 8)))
    assert (pair.test.low, pair.test.high) == (alone.low, alone.high)
    assert pair.test.high - pair.test.low > paired_t(b - a).high - paired_t(b - a).low


@pytest.mark.parametrize("looks", [[], [1, 4], [6, 6], [8, 6]])
def test_looks_that_cannot_be_taken(looks):
    with pytest.raises(ValueError, match="rising numbers of seeds"):
        nominal_level(tuple(looks))


def test_a_look_that_was_not_planned_is_refused():
    with pytest.raises(ValueError, match="Looks are after"):
        look({"a": [0.1] * 7, "b": [0.2] * 7}, (6, 8), 0.01)
    with pytest.raises(ValueError, match="baseline"):
        look({"a": [0.1] * 6, "b": [0.2] * 6}, (6, 8), 0.01, baseline="c")
    with pytest.raises(ValueError, match="margin"):
        look({"a": [0.1] * 6, "b": [0.2] * 6}, (6, 8), 0.0)
