"""Against values worked out by hand and references that share no code with the package."""

import itertools
import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from grouprl.answers.grading import equal
from grouprl.statistics.proportions import pass_at_k
from grouprl.statistics.questions import PairedTest, holm, mcnemar, paired_difference
from grouprl.statistics.votes import Vote, equivalence_classes, majority


@pytest.mark.parametrize(
    ("n", "c", "k", "wanted"),
    [
        (4, 1, 1, 0.25),
        (4, 1, 2, 0.5),
        (4, 2, 2, 5 / 6),
        (5, 0, 3, 0.0),
        (5, 3, 3, 1.0),
        (5, 5, 1, 1.0),
        (10, 3, 5, 11 / 12),
    ],
)
def test_pass_at_k_by_hand(n, c, k, wanted):
    assert pass_at_k(n, c, k) == wanted


def test_pass_at_k_counts_subsets():
    for n in range(1, 8):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert pass_at_k(n, c, k) == sum(map(any, subsets)) / len(subsets)


def test_pass_at_k_is_exact_where_factorials_overflow():
    share = Fraction(1)
    for i in range(100):
        share *= Fraction(10_000 - 3 - i, 10_000 - i)
    assert pass_at_k(10_000, 3, 100) == float(1 - share)
    assert pass_at_k(10**6, 1, 1) == 1e-6


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5)])
def test_pass_at_k_refuses_what_cannot_be(n, c, k):
    with pytest.raises(ValueError, match="give 0 <= c <= n"):
        pass_at_k(n, c, k)


def test_majority_votes_over_classes():
    answers = ["1/2", "0.5", "3", None, "\\frac{1}{2}", "3.0", None, None, None]
    classes = equivalence_classes(answers, equal)
    assert classes == [0, 0, 1, None, 0, 1, None, None, None]
    vote = majority(classes)
    assert vote == Vote(winners=(0,), votes=3, samples=9)
    assert vote.score(0) == 1.0
    assert vote.score(1) == 0.0


def test_a_tied_vote_is_right_by_its_share():
    vote = majority(["b", "a", "a", "b", "c"])
    assert vote.winners == ("b", "a")
    assert vote.score("a") == 0.5
    assert vote.score("c") == 0.0


def test_without_answers_nobody_wins():
    assert majority([None, None]) == Vote((), 0, 2)
    assert majority([]).score("x") == 0.0
    assert majority([None, None]).score(None) == 0.0


def paired(both, only_first, only_second, neither):
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return mcnemar(first, second)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [(0, 0, 1.0), (0, 5, 2 / 32), (5, 0, 2 / 32), (1, 9, 22 / 1024), (3, 3, 1.0), (2, 3, 1.0), (1, 7, 18 / 256)],
)
def test_mcnemar_by_hand(only_first, only_second, p_value):
    test = paired(4, only_first, only_second, 7)
    assert test == PairedTest(4, only_first, only_second, 7, p_value)
    assert test.difference == pytest.approx((only_second - only_first) / (11 + only_first + only_second))


def test_mcnemar_sums_all_outcomes_at_least_as_unlikely():
    for discordant, few in ((12, 3), (61, 20), (2000, 900)):
        chances = [math.comb(discordant, i) for i in range(discordant + 1)]
        wanted = Fraction(sum(x for x in chances if x <= chances[few]), 2**discordant)
        assert paired(1, few, discordant - few, 1).p_value == pytest.approx(float(wanted), rel=1e-12)


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="2 questions against 1"):
        mcnemar([True, False], [True])
    with pytest.raises(ValueError, match="2 questions against 1"):
        paired_difference([[1], [0]], [[1]])
    assert math.isnan(mcnemar([], []).difference)


def test_the_interval_is_student_s_with_two_questions_more():
    """By hand: differences 0.25, 0.5, 0, 0.75 and the two that are added, of four samples a question."""
    first = [[0, 0, 0, 0]] * 4
    second = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    found = paired_difference(first, second)
    values = np.array([0.25, 0.5, 0.0, 0.75, 0.5, -0.5])
    error = values.std(ddof=1) / math.sqrt(6)
    assert found.value == 0.375
    assert found.low == pytest.approx(values.mean() - 2.5705818 * error, abs=1e-6)  # of five degrees of freedom
    assert found.high == pytest.approx(values.mean() + 2.5705818 * error, abs=1e-6)
    assert found.questions == 4


def test_with_one_sample_a_question_it_is_bonett_and_prices():
    """Their interval with Student's quantile: (n12 + 1) / (n + 2) and (n21 + 1) / (n + 2)."""
    both, only_first, only_second, neither = 30, 4, 11, 15
    first = [[1]] * (both + only_first) + [[0]] * (only_second + neither)
    second = [[1]] * both + [[0]] * only_first + [[1]] * only_second + [[0]] * neither
    found = paired_difference(first, second)
    a, b, n = (only_first + 1) / 62, (only_second + 1) / 62, 60
    half = stats.t.ppf(0.975, n + 1) * math.sqrt((a + b - (b - a) ** 2) / (n + 1))
    assert (found.low, found.high) == pytest.approx((b - a - half, b - a + half))


def test_the_difference_is_paired_and_clustered():
    generator = np.random.default_rng(0)
    hard = generator.random(300)
    first = [list((generator.random(8) < p).astype(float)) for p in hard]
    second = [list((generator.random(8) < min(1, p + 0.1)).astype(float)) for p in hard]
    found = paired_difference(first, second)
    differences = np.mean(second, 1) - np.mean(first, 1)
    half = 1.96 * differences.std(ddof=1) / math.sqrt(300)
    assert found.value == pytest.approx(differences.mean())
    assert found.low == pytest.approx(found.value - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.1 * half)
    # The spread of difficulty is common to both policies and does not count.
    unpaired = 1.96 * math.sqrt((np.var(np.mean(first, 1)) + np.var(np.mean(second, 1))) / 300)
    assert half < 0.7 * unpaired
    # Each sample twice is no more evidence.
    doubled = paired_difference([s * 2 for s in first], [s * 2 for s in second])
    assert (doubled.low, doubled.high) == pytest.approx((found.low, found.high), abs=0.02 * half)


@pytest.mark.parametrize("samples", [1, 4])
def test_the_interval_covers_with_few_questions(samples):
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        chances = generator.beta(0.5, 0.5, (2, 10))
        first, second = ((generator.random((10, samples)) < chance[:, None]).astype(float) for chance in chances)
        found = paired_difference(first, second)
        covered += found.low <= 0 <= found.high
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
    assert covered / 400 >= 0.93


def test_a_difference_without_variance_is_not_certain():
    same = paired_difference([[1], [0], [1]], [[1], [0], [1]])
    assert (same.value, same.p_value) == (0, 1)
    assert same.high == -same.low > 0.5
    best = paired_difference([[0]] * 100, [[1]] * 100)
    assert best.high == best.value == 1
    assert 0.9 < best.low < 0.97
    assert best.p_value < 0.001


def test_one_question_has_no_interval():
    one = paired_difference([[0, 1]], [[1, 1]])
    assert one.value == 0.5
    assert math.isnan(one.low)
    assert str(one) == "no data"


@pytest.mark.parametrize("scores", [[[]], [[2.0]], [[math.nan]]])
def test_scores_that_are_none(scores):
    with pytest.raises(ValueError, match="scores lie in"):
        paired_difference(scores, [[1.0]])


def test_holm_by_hand():
    adjusted = holm({"gsm8k": 0.04, "math": 0.01, "minerva": 0.03, "cmath": 0.005})
    assert adjusted == pytest.approx({"gsm8k": 0.06, "math": 0.03, "minerva": 0.06, "cmath": 0.02})
    assert list(adjusted) == ["gsm8k", "math", "minerva", "cmath"]
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
    with pytest.raises(ValueError, match=r"a: 1\.5 is no p-value"):
        holm({"a": 1.5})


def test_holm_rejects_what_stepping_down_rejects():
    generator = np.random.default_rng(0)
    for _ in range(200):
        p_values = {str(i): float(p) for i, p in enumerate(generator.random(6) ** 4)}
        rejected = set()
        for rank, name in enumerate(sorted(p_values, key=p_values.get)):
            if p_values[name] > 0.05 / (6 - rank):
                break
            rejected.add(name)
        assert {name for name, p in holm(p_values).items() if p <= 0.05} == rejected


def test_results_are_frozen():
    with pytest.raises(FrozenInstanceError):
        majority(["a"]).votes = 2
