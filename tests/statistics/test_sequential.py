"""Several looks: the level that all of them spend together, and endings that are right as often as they say."""

import numpy as np
import pytest
from scipy import stats

from grouprl.statistics.seeds import paired_t
from grouprl.statistics.sequential import ending_of, look, nominal_level


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


def endings_at(scores, looks, margin):
    """What a look says of each pair."""
    tests, level = look(scores, looks)
    return [ending_of(test.single, level, margin) for test in tests]


def last_endings(scores, looks, margin):
    """Those of the look at which every pair is decided, or of the last one."""
    for seeds in looks:
        found = endings_at({name: values[:seeds] for name, values in scores.items()}, looks, margin)
        if "undecided" not in found:
            break
    return found


@pytest.mark.slow
def test_no_difference_is_called_one_in_at_most_a_twentieth():
    rng, looks, studies = np.random.default_rng(3), (6, 8, 10, 12), 1500
    called = 0
    for _ in range(studies):
        scores = dict(zip("abc", rng.normal(0.7, 0.01, (3, 12)), strict=True))
        called += "better" in last_endings(scores, looks, 0.004)
    assert called / studies < 0.05 + 3 * 0.0056


@pytest.mark.slow
def test_a_difference_as_large_as_the_margin_is_called_equivalent_in_at_most_a_twentieth():
    """At every look the margin lies outside the interval no more often than all looks together allow."""
    rng, looks, studies = np.random.default_rng(4), (6, 8, 10, 12), 1500
    called = 0
    for _ in range(studies):
        a = rng.normal(0.7, 0.01, 12)
        called += last_endings({"a": a, "b": a + rng.normal(0.01, 0.005, 12)}, looks, 0.01) == ["equivalent"]
    assert called / studies < 0.05 + 3 * 0.0056


def test_a_clear_difference_ends_at_the_first_look_and_one_that_does_not_vary_is_no_verdict():
    rng = np.random.default_rng(5)
    a = rng.normal(0.7, 0.01, 6)
    assert endings_at({"a": a, "b": a + 0.05 + rng.normal(0, 0.01, 6)}, (6, 8), 0.01) == ["better"]
    assert endings_at({"a": a, "b": a + rng.normal(0, 1e-4, 6)}, (6, 8), 0.01) == ["equivalent"]
    assert endings_at({"a": a, "b": a}, (6, 8), 0.01) == ["undecided"]
    with pytest.raises(ValueError, match="margin"):
        endings_at({"a": a, "b": a}, (6, 8), 0.0)


def test_intervals_are_those_of_the_nominal_level():
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.7, 0.01, (2, 8))
    (pair,), level = look({"a": a, "b": b}, (6, 8))
    assert level == nominal_level((6, 8))
    alone = paired_t(b - a, level)
    assert (pair.low, pair.high) == pair.inner == pytest.approx((alone.low, alone.high), abs=1e-11)
    assert pair.high - pair.low > paired_t(b - a).high - paired_t(b - a).low


@pytest.mark.parametrize("looks", [[], [1, 4], [6, 6], [8, 6]])
def test_looks_that_cannot_be_taken(looks):
    with pytest.raises(ValueError, match="rising numbers of seeds"):
        nominal_level(tuple(looks))


def test_a_look_that_was_not_planned_is_refused():
    with pytest.raises(ValueError, match="Looks are after"):
        look({"a": [0.1] * 9, "b": [0.2] * 9}, (6, 8))
    with pytest.raises(ValueError, match="Looks are after"):
        look({"a": [0.1] * 6, "b": [0.2] * 5}, (6, 8))
    with pytest.raises(ValueError, match="baseline"):
        look({"a": [0.1] * 6, "b": [0.2] * 6}, (6, 8), baseline="c")


def test_a_baseline_that_hardly_varies_leaves_the_level():
    """Its pairs are then independent, and err together most often; by simulation."""
    generator = np.random.default_rng(6)
    level, looks = nominal_level((6, 8), 5, against_baseline=True), (6, 8)
    scores = generator.standard_normal((100_000, 4, 8))
    called = np.zeros(len(scores), dtype=bool)
    for seeds in looks:
        t = scores[..., :seeds].mean(2) / (scores[..., :seeds].std(2, ddof=1) / np.sqrt(seeds))
        called |= (2 * stats.t.sf(np.abs(t), seeds - 1) < level).any(1)
    assert called.mean() == pytest.approx(0.05, abs=0.0015)
