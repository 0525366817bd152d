"""Rewards of one's own: one that cannot score anything fails before anything is sampled, with the line that failed."""

import functools
import re
from pathlib import Path

import pytest

import grouprl
from grouprl import MathReward
from grouprl.batch import Prompts
from grouprl.rewards.base import described
from grouprl.rewards.isolation import IsolatedReward, importable, load_object
from grouprl.rewards.own import try_reward

PROMPTS = Prompts(("1 + 1?",), ("2",), ((5,),), (0,))
GROUP = 4


def of_length(completions, prompts):
    return [[float(len(text)) for text in group] for group in completions]


def of_length_in(unit, completions, prompts):
    return [[len(text) / unit for text in group] for group in completions]


def of_the_boxed(completions, prompts):
    """Only some of the texts can be scored."""
    return [[float(re.search(r"boxed{(\d+)}", text).group(1)) for text in group] for group in completions]


def of_nothing(completions, prompts):
    """None of the texts is of the kind that it scores."""
    return [[float("nan")] * len(group) for group in completions]


class Whole:
    def __call__(self, completions, prompts):
        assert [len(group) for group in completions] in ([GROUP], [1])
        return of_length(completions, prompts)


@pytest.mark.parametrize(
    "reward", [of_length, functools.partial(of_length_in, 10), of_the_boxed, of_nothing, Whole(), MathReward()]
)
def test_what_does_not_fail_is_taken(reward):
    try_reward(reward, PROMPTS, GROUP)


def of_a_ratio(completions, prompts):
    return [[len(text) / 0 for text in group] for group in completions]


def of_one(completions):
    return [[1.0]]


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (of_a_ratio, r"ZeroDivisionError: division by zero \(test_own\.py, line \d+\)"),
        (of_one, "TypeError: of_one.* takes 1 positional argument but 2 were given"),
        (lambda completions, prompts: [1.0, 2.0], "Error: "),
    ],
)
def test_what_fails_on_all_is_refused(reward, said):
    with pytest.raises(
        ValueError, match=rf"^reward: it fails on every completion\. .*{said}.*reward\(completions, prompts\)"
    ):
        try_reward(reward, PROMPTS, GROUP)


def test_a_function_in_a_process_of_its_own_says_its_line_as_well(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def score(completions, prompts):\n    total = 0\n    return 1 / total\n")
    reward = IsolatedReward(f"{file}:score")
    with pytest.raises(ValueError, match=r"ZeroDivisionError: division by zero \(mine\.py, line 3\)"):
        try_reward(reward, PROMPTS, GROUP)
    reward.close()


def test_the_line_is_the_last_of_ones_own():
    with pytest.raises(re.error) as raised:
        re.compile("(")  # fails within the standard library
    assert re.search(r"\(test_own\.py, line \d+\)$", described(raised.value))
    assert described(ValueError("no")) == "ValueError: no"
    beside = f"{Path(grouprl.__file__).parent}_mine/own.py"  # a folder whose name goes on where the package's ends
    with pytest.raises(ZeroDivisionError) as raised:
        exec(compile("1 / 0", beside, "exec"))
    assert described(raised.value) == "ZeroDivisionError: division by zero (own.py, line 1)"


@pytest.mark.parametrize(("group", "name", "line"), [("reward", "Reward", 3), ("advantage", "advantage", 7)])
def test_a_run_answers_in_one_line(train, tmp_path, capfd, group, name, line):
    """A class of one's own, named by its file."""
    (tmp_path / "my own.py").write_text(
        "class Reward:\n    def __call__(self, completions, prompts):\n        return completions[0][0] / 2\n\n\n"
        "def advantage(rewards):\n    return nothing\n"
    )
    assert train(f"{group}=custom", f"{group}._target_=my own.py:{name}") == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert re.search(rf"my own\.py, line {line}\)", said), said


def test_two_files_of_one_name_are_two(tmp_path):
    """And a dot in a name is none of a package's."""
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my.parts.py").write_text(f"class Gate:\n    at = {folder!r}\n")
    first, second = (importable(f"{tmp_path}/{folder}/my.parts.py:Gate") for folder in ("first", "second"))
    assert (load_object(first).at, load_object(second).at) == ("first", "second")
    assert importable("package.module.Name") == "package.module.Name"
