"""Advantages of one's own: functions of the rewards are taken, and what is none is answered with its file and line."""

import functools
import math
import re

import pytest
import torch

from grouprl import RankAdvantage
from grouprl.advantages.own import AdvantageError, advantages_of, place_of, try_advantage

REWARDS = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
VALID = torch.ones_like(REWARDS, dtype=torch.bool)


def called(advantage):
    return advantages_of(advantage, REWARDS, VALID, {"correct": REWARDS})


def of_rewards(rewards):
    return rewards - rewards.mean(-1, keepdim=True)


def of_all(rewards, *, valid, parts):
    return of_rewards(parts["correct"]).masked_fill(~valid, 0.0)


def of_more(rewards, scale, **others):
    return scale * of_rewards(rewards) if set(others) == {"valid", "parts"} else None


class Centered:
    def __call__(self, rewards, valid=None):
        return of_rewards(rewards) * valid


@pytest.mark.parametrize(
    "advantage",
    [of_rewards, of_all, functools.partial(of_more, scale=1.0), Centered(), lambda r: of_rewards(r).tolist()],
)
def test_functions_of_the_rewards_and_of_what_they_ask_for_are_taken(advantage):
    try_advantage(advantage)
    torch.testing.assert_close(called(advantage), of_rewards(REWARDS))


def test_whole_numbers_become_floats_and_shipped_estimators_are_not_tried():
    assert called(lambda rewards: rewards.sign().long()).dtype == torch.float32
    try_advantage(RankAdvantage())
    assert called(RankAdvantage()).equal(RankAdvantage()(REWARDS))


def divides(rewards):
    spread = rewards.std(-1, keepdim=True)
    return of_rewards(rewards) / spread


def fails(rewards):
    centered = of_rewards(rewards)
    return centered + nothing


def one_too_few(rewards):
    return rewards.mean(-1)


@pytest.mark.parametrize(
    ("advantage", "said"),
    [
        (
            one_too_few,
            r"one_too_few \(test_own.py, line \d+\) returned shape \[2\] for rewards \[2, 4\]. advantage\(rew",
        ),
        (lambda rewards: rewards[:, :1], r"returned shape \[2, 1\] for rewards \[2, 4\]"),
        (
            lambda rewards: None,
            r"returned NoneType. advantage\(rewards, \*, valid, parts\) of rewards \[prompts, group\]",
        ),
        (lambda rewards: "x", "returned str"),
        (divides, r"divides \(test_own.py, line \d+\) returned NaN or infinity, such as for .*\[1.0, 1.0, 1.0, 1.0\]"),
        (fails, r"fails \(test_own.py, line \d+\) fails on the rewards .*NameError: name 'nothing' is not defined"),
        (lambda: None, r"TypeError: .*takes 0 positional arguments but 1 was given"),
        (lambda rewards, extra: rewards, "missing 1 required positional argument: 'extra'"),
        (3.0, "cannot be called"),
    ],
)
def test_what_is_no_advantage_is_answered_before_anything_is_sampled(advantage, said):
    with pytest.raises(AdvantageError, match=said) as error:
        try_advantage(advantage)
    assert "\n" not in str(error.value)


def test_the_line_is_the_one_that_failed():
    first = re.search(r"line (\d+)", place_of(fails)).group(1)
    with pytest.raises(AdvantageError, match=rf"line {int(first) + 2}\) fails on"):
        try_advantage(fails)
    assert place_of(math.sqrt) == "sqrt"


def test_what_comes_later_is_looked_at_as_well():
    def later(rewards):
        return rewards if rewards.shape[1] == 4 else rewards / 0

    try_advantage(later)
    with pytest.raises(AdvantageError, match="returned NaN or infinity"):
        called(later)


@pytest.mark.parametrize("name", ["one_too_few", "fails", "of_reward"])
def test_a_run_answers_in_one_line(train, tmp_path, capfd, name):
    (tmp_path / "my_estimators.py").write_text(
        "def one_too_few(rewards):\n    return rewards.mean(-1)\n\n\ndef fails():\n    pass\n"
    )
    assert train("advantage=custom", f"advantage._target_=my_estimators.{name}") == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert ("my_estimators.py, line" in said) or (
        name == "of_reward" and "my_estimators has no of_reward; it has: fails, one_too_few" in said
    )
