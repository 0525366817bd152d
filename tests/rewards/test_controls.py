"""Rewards that do not know the right answer: what they pay for, and that it is not that."""

import pytest

from grouprl.batch import Prompts
from grouprl.rewards.controls import MajorityReward, WrongLabelReward


def prompts(*answers):
    problems = tuple(f"problem {n}" for n in range(len(answers)))
    rows = len(answers)
    return Prompts(problems, answers, token_ids=((1,),) * rows, indices=tuple(range(rows)))


def boxed(*answers):
    return ["no answer" if answer is None else rf"It is $\boxed{{{answer}}}$." for answer in answers]


def test_the_majority_is_paid_right_or_wrong():
    rows = [boxed("1", r"\frac{1}{2}", "0.5", None), boxed("7", "8", "8", "7"), boxed(None, None, None, None)]
    found = MajorityReward()(rows, prompts("1", "8", "3"))
    assert found.values.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]
    assert found.parts["correct"].tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert found.valid.all()


def test_a_wrong_label_is_the_most_frequent_wrong_answer():
    reward, asked = WrongLabelReward(samples=6), prompts("1", "2", "3")
    drawn = [
        boxed("1", "1", "1", "5", "4", "4.0"),  # the right answer is the most frequent of all
        boxed("2", "2", None, "2", "2", "2"),  # none is wrong
        boxed("9", "8", "3", None, "8", "9"),  # a tie: the first
    ]
    reward.find(drawn, asked)
    assert reward.labels == {"problem 0": "4", "problem 1": None, "problem 2": "9"}
    found = reward([boxed("4", "1", "5"), boxed("2", "7", None), boxed("9.0", "8", "3")], asked)
    assert found.values.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert found.parts["correct"].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_problem_without_a_look_for_its_label_is_refused():
    with pytest.raises(ValueError, match=r"No label was looked for: 'problem 0'"):
        WrongLabelReward()([boxed("1")], prompts("1"))
    with pytest.raises(ValueError, match=r"reward\.samples=0"):
        WrongLabelReward(samples=0)
