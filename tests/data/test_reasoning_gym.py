"""Problems of reasoning_gym: with a stand-in of two generators, and the library itself where it is installed."""

import pytest
from helpers import stand_in_gym

from grouprl.answers import verifiers
from grouprl.answers.grading import grade_all
from grouprl.answers.verifiers import is_verified, readable
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, check_job
from grouprl.data.problems import reasoning_gym_problems
from grouprl.data.reasoning_gym import set_up


@pytest.fixture
def library(monkeypatch, python):
    stand_in_gym.put_in_place(monkeypatch)


def test_problems_with_a_verifier_and_without(library):
    makes = reasoning_gym_problems("makes", train_size=12, heldout_size=4)
    assert all(is_verified(problem.answer) for problem in (*makes.train, *makes.heldout))
    assert makes.train[0].problem.startswith("Make ")
    right = [rf"\boxed{{{readable(problem.answer).removeprefix('such as ')}}}" for problem in makes.heldout]
    assert all(verdict.correct for verdict in grade_all(right, [problem.answer for problem in makes.heldout]))
    echo = reasoning_gym_problems("echo", train_size=8, heldout_size=4)
    assert all(problem.problem == f"Say {problem.answer}." for problem in (*echo.train, *echo.heldout))


def test_the_splits_share_no_problem_and_seeds_are_their_own(library):
    first = reasoning_gym_problems("echo", train_size=10, heldout_size=5)
    assert len({problem.problem for problem in (*first.train, *first.heldout)}) == 15
    assert reasoning_gym_problems("echo", train_size=10, heldout_size=5) == first
    other = reasoning_gym_problems("echo", train_size=10, heldout_size=5, seed=1)
    assert other.heldout == first.heldout
    assert other.train != first.train
    assert reasoning_gym_problems("echo", train_size=1, heldout_size=5, heldout_seed=1).heldout != first.heldout
    fewer = reasoning_gym_problems("echo", train_size=4, heldout_size=5)
    assert list(fewer.train) == list(first.train)[:4]


def test_difficulty_and_settings(library):
    assert set_up("makes", 1, {}).settings.most == 99
    assert set_up("makes", None, {"most": 30, "least": 3}).settings.most == 30
    assert set_up("makes", 1, {"least": 50}).settings.least == 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("make", None, {}), r"data.generator=make: .* no such generator .* makes"),
        (("composite", None, {}), r"data.generator=composite: .* no such generator"),
        (("makes", 2, {}), "data.difficulty=2: makes has the levels 0 to 1"),
        (("echo", 0, {}), "data.difficulty=0: echo has no levels"),
        (("makes", None, {"more": 1}), "data.options.more: makes has the settings as_tuple, least, most"),
        (("makes", None, {"seed": 1}), "data.options.seed: makes has"),
        (("makes", None, {"most": 1}), r"data.options=.*'most': 1.*: makes does not take them: most must be >= least"),
    ],
)
def test_what_the_library_does_not_have(library, arguments, said):
    with pytest.raises(ValueError, match=said):
        set_up(*arguments)


def test_more_problems_than_there_are(library):
    with pytest.raises(
        ValueError, match=r"data.generator=echo: 20 different problems were found among 420, and 21 are"
    ):
        reasoning_gym_problems("echo", train_size=1, heldout_size=21)


def test_data_that_text_does_not_hold_is_refused(library):
    """Its verifier looks for a tuple, and JSON has lists."""
    with pytest.raises(ValueError, match=r"data.generator=makes: what its verifier needs cannot be written as text"):
        reasoning_gym_problems("makes", options={"as_tuple": True}, train_size=1, heldout_size=1)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "data.generator has no value. Add: data.generator=countdown"),
        (["data.generator=makes", "data.difficulty=-1"], "data.difficulty=-1: give a level from 0"),
        (
            ["data.generator=makes", "data.options.most=3"],
            "entries of data.options are added. Write +data.options.most=3",
        ),
        (["data.generator=makes", "data.options={most:3}"], "added one by one, as in +data.options.min_numbers=3"),
        (["data.generator=makes", "data.options=3"], "data.options"),
        (["data.generator=makes", "data.train_size=0"], "data.train_size=0"),
    ],
)
def test_what_is_refused_before_anything_is_loaded(library, overrides, said):
    with pytest.raises(UsageError) as error:
        check_command("train", ["data=reasoning_gym", *overrides], multirun=False)
    assert said in str(error.value)


def test_without_the_library_it_says_how_to_have_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "grouprl\[reasoning_gym\]"'):
        reasoning_gym_problems("makes")


@pytest.mark.slow
def test_a_run_is_trained_on_its_verifier(library, train, monkeypatch):
    """Boxed answers of training and of the held-out evaluation are asked about, each batch of them in one go."""
    asked, scored = [], verifiers._scored
    monkeypatch.setattr(verifiers, "_scored", lambda parts: asked.append(sum(map(len, parts))) or scored(parts))
    config = check_job("train", ["data=reasoning_gym", "data.generator=makes"])
    assert config.reward._target_.endswith("CorrectReward")
    options = ["data=reasoning_gym", "data.generator=makes", "data.train_size=16", "data.heldout_size=4"]
    assert train(*options, "steps=1") == 0
    assert len(asked) == 3  # before, while and after it is trained
    assert all(asked)


@pytest.mark.slow
def test_the_library_itself():
    """Right answers that are not the library's own, and a generator without a verifier."""
    pytest.importorskip("reasoning_gym", reason="reasoning_gym is not installed")
    options = {"min_numbers": 3, "max_numbers": 3}
    problems = reasoning_gym_problems("countdown", options=options, train_size=8, heldout_size=4)
    golds = [problem.answer for problem in problems.train]
    own = [readable(gold).removeprefix("such as ") for gold in golds]
    wrong = [f"{answer} + 1" for answer in own]
    other = [rf"\left({answer}\right)".replace("*", r"\times ") for answer in own]
    found = grade_all([rf"\boxed{{{answer}}}" for answer in (*own, *other, *wrong)], golds * 3)
    assert [verdict.correct for verdict in found] == [True] * 16 + [False] * 8
    plain = reasoning_gym_problems("gcd", difficulty=0, train_size=4, heldout_size=2)
    assert all(problem.answer.isdigit() for problem in plain.train)
