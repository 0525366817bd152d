"""The graded reward: what counts as a right intermediate result, and what listing numbers brings."""

import itertools

import pytest
import torch

from grouprl.batch import Prompts
from grouprl.data.problems import tiny_problems
from grouprl.data.tiny.task import distinct_problems, solution
from grouprl.rewards.controls import RandomReward
from grouprl.rewards.graded import GradedReward, share_of_results

RESULTS, ANSWER = ("7", "63", "80"), "76"


def written(*values):
    return "\n".join(f"Step {n}: $1 + 1 = {value}$." for n, value in enumerate(values, start=1))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (written(7, 63, 80, 76), 1.0),
        (written(7, 63, 80), 1.0),
        (written(7, 63, 81, 77), (2 - 1) / 3),  # two statements that are neither
        (written(7, 63, 81), (2 - 0.5) / 3),
        (written(7, 64, 80), (2 - 0.5) / 3),
        (written(7, 8, 63, 80), (2 - 0.5) / 3),  # 8 is the attempt at 63
        (written(8, 7, 63, 80), (2 - 0.5) / 3),
        (written(8, 64, 81, 77), 0.0),
        (written(7), 1 / 3),
        (written(7, 7, 7), 1 / 3),  # each counts once
        (written(63, 7, 80), 2 / 3),  # 7 comes too late, and has been passed
        (written(80), 1 / 3),
        (written(76), 0.0),  # the answer before the results is one more statement
        ("", 0.0),
        (r"\boxed{7} 63 80", 0.0),  # no statements
        ("5 + 2 = 7, 7 * 9 = 63; 63 + 17 = 80.", 1.0),
        ("$5 + 2 = 7 \\times 9 = 63$", 1 / 3),  # 7 is no result there: the expression goes on
        ("x = 7.0", 1 / 3),
    ],
)
def test_statements_are_read_in_order_and_others_cost(text, wanted):
    assert share_of_results(text, RESULTS, ANSWER) == pytest.approx(max(0.0, wanted))


@pytest.mark.parametrize("form", ["{0} = {0}.", "{0} + 0 = {0}", "= {0}\n", "$1 \\times {0} = {0}$."])
def test_a_text_that_lists_every_number_gets_nothing(form):
    for order in (range(300), reversed(range(300)), itertools.chain(*([range(100)] * 5))):
        assert share_of_results(" ".join(form.format(n) for n in order), RESULTS, ANSWER) == 0


def test_more_guesses_a_result_are_worth_less_than_the_first_of_them():
    """Whichever of the first guesses are right: all ways to be right or wrong, and a second guess of the other kind."""
    for rights in itertools.product([True, False], repeat=3):
        ours = [int(result) + (not right) for result, right in zip(RESULTS, rights, strict=True)]
        second = [int(result) + right for result, right in zip(RESULTS, rights, strict=True)]
        hedged = [guess for pair in zip(ours, second, strict=True) for guess in pair]
        first_alone = share_of_results(written(*ours), RESULTS, ANSWER)
        assert share_of_results(written(*hedged), RESULTS, ANSWER) <= first_alone
        if first_alone:
            assert share_of_results(written(*hedged), RESULTS, ANSWER) < first_alone
            assert share_of_results(written(*ours, *second), RESULTS, ANSWER) < first_alone


def test_a_result_that_comes_twice_is_paid_once_each_time_it_is_reached():
    results = ("20", "15", "20", "7")
    assert share_of_results(written(20), results, "9") == share_of_results(written(20, 20, 20), results, "9") == 1 / 4
    assert share_of_results(written(20, 15, 20, 7), results, "9") == 1
    assert share_of_results(written(20, 15, 20, 20, 7), results, "9") == 1
    assert share_of_results("$4 + 16 = 20$\n$20 + 20 = 40$", ("20", "40", "20"), "9") == 2 / 3


def test_thousands_and_negative_numbers():
    assert share_of_results("a = 1,200. b = -3.", ("1200", "-3"), "5") == 1
    assert share_of_results("a = 1,20", ("1",), "5") == 0


def prompts_of(problems):
    names = tuple(problem.text for problem in problems)
    return Prompts(
        names,
        tuple(problem.answer for problem in problems),
        ((),) * len(names),
        tuple(range(len(names))),
        intermediate=tuple(problem.intermediate for problem in problems),
    )


def test_no_wrong_answer_outscores_a_right_one_and_levels_are_many():
    problems = distinct_problems("train", 60, seed=3)
    problems = [problem for problem in problems if problem.family != "equation"]  # a slip leaves a remainder there
    ways = [{}, {"slips": {1: 1}}, {"slips": {2: 1}}, {"slips": {3: 1}}, {"steps": False}]
    texts = [[solution(problem, **way) for way in ways] for problem in problems]
    found = GradedReward()(texts, prompts_of(problems))
    right = found.parts["correct"].bool()
    assert right[:, 0].all()
    assert found.values[right].min() > found.values[~right].max()
    assert torch.equal(
        found.values[:, 0], torch.ones(len(problems))
    )  # a solution of the task is graded as right throughout
    levels = [len(row.unique()) for row in found.parts["intermediate"]]
    assert sum(count >= 3 for count in levels) > 10


def test_problems_without_intermediate_results_are_refused():
    prompts = Prompts(("1 + 1?",), ("2",), ((),), (0,))
    with pytest.raises(ValueError, match="reward=graded: the problems have no intermediate results"):
        GradedReward()([["2", "3"]], prompts)
    with pytest.raises(ValueError, match="no wrong answer outscores a right one"):
        GradedReward(correct=0.5)


def test_the_embedded_task_comes_with_them():
    splits = tiny_problems(train_size=8, heldout_size=4)
    assert all(2 <= len(problem.intermediate) <= 4 for problem in (*splits.train, *splits.heldout))


def test_the_random_reward_is_drawn_by_seed_iteration_and_place():
    prompts = prompts_of(distinct_problems("train", 200, seed=1))
    texts = [["1", "2", "3", "4"]] * 200
    first = RandomReward()(texts, prompts)
    assert torch.equal(first.values, RandomReward()(texts, prompts).values)
    rows = [5, 0, 199]
    assert torch.equal(first.values[rows], RandomReward()([texts[0]] * 3, prompts.take(rows)).values)
    assert not torch.equal(first.values, RandomReward(seed=1)(texts, prompts).values)
    assert first.values.mean() == pytest.approx(0.5, abs=0.05)
    assert RandomReward(probability=0.1)(texts, prompts).values.mean() == pytest.approx(0.1, abs=0.04)
    assert set(first.parts) == {"correct", "box", "steps", "notation"}
    with pytest.raises(ValueError, match=r"reward.probability=1"):
        RandomReward(probability=1)
