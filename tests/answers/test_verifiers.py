"""Golds that a verifier decides on: in the sandbox, each answer by itself."""

import json
import os

import pytest
import torch
from helpers import stand_in_gym

from grouprl.answers import grading, judge, verifiers
from grouprl.answers.verifiers import readable, readings, verdicts, verified_gold
from grouprl.batch import Prompts
from grouprl.rewards.parts import CorrectReward
from grouprl.rewards.rules import are_correct

SETTINGS = {"as_tuple": False}
GOLD = verified_gold("makes", SETTINGS, "3 + 4", {"numbers": [3, 4]})


@pytest.fixture
def library(monkeypatch, python):
    """The stand-in library, where this machine can have a sandbox."""
    stand_in_gym.put_in_place(monkeypatch)


def test_any_right_answer_is_right(library):
    texts = [
        rf"So \boxed{{{answer}}}." for answer in ("3+4", "10 - 3", r"14 \div 2", r"\text{7}", r"\frac{21}{3}", "8", "?")
    ]
    found = grading.grade_all([*texts, "no box"], [GOLD] * (len(texts) + 1))
    assert [verdict.status for verdict in found] == ["correct"] * 5 + ["wrong"] * 2 + ["unparsable"]
    assert found[0].rule == "reasoning_gym makes: 1"
    assert found[5].rule == "reasoning_gym makes: 0.05"
    assert grading.grade(texts[1], GOLD).correct


def test_golds_of_both_kinds_in_one_grading(library):
    assert are_correct([[r"\boxed{7}", r"\boxed{6}"], [r"\boxed{1/2}"]], [GOLD, "0.5"]) == [[True, False], [True]]


def test_a_reward_is_the_verifiers_word(library):
    prompts = Prompts(("Make 7.",), (GOLD,), ((1,),), (0,))
    rewards = CorrectReward()([[r"\boxed{3 + 4}", r"\boxed{9}"]], prompts)
    assert rewards.values.tolist() == [[1.0, 0.0]]
    assert torch.equal(rewards.parts["correct"], rewards.values)


def test_one_answer_takes_nothing_from_another(library, tmp_path):
    """What is evaluated can end its own process and write nowhere: the others are scored all the same."""
    file = tmp_path / "written"
    answers = [
        "__import__('os').kill(__import__('os').getppid(), 9)",
        "__import__('os')._exit(0)",
        f"open({str(file)!r}, 'w').write('x')",
        "__import__('socket').create_connection(('127.0.0.1', 9))",
        "print('[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]')",
        "3 + 4",
    ]
    found = verdicts([(answer, GOLD) for answer in answers])
    assert [status for status, _ in found] == ["timeout", "timeout", "wrong", "wrong", "wrong", "correct"]
    assert not file.exists()


def test_a_verifier_has_its_time(library, monkeypatch):
    monkeypatch.setattr(verifiers, "ANSWER_S", 0.3)
    slow, right = verdicts([("[0 for _ in iter(int, 1)]", GOLD), ("7", GOLD)])
    assert slow == ("timeout", "reasoning_gym makes: no score within 0.3 s")
    assert right[0] == "correct"


def test_what_was_scored_is_remembered_and_what_was_late_is_not(library, monkeypatch):
    monkeypatch.setattr(verifiers, "ANSWER_S", 0.3)
    late = ("[0 for _ in iter(int, 1)]", GOLD)
    asked, run = [], verifiers._scored
    monkeypatch.setattr(
        verifiers, "_scored", lambda parts: asked.extend(p for part in parts for p in part) or run(parts)
    )
    for _ in range(2):
        verdicts([("7", GOLD), late, ("7", GOLD)])
    assert asked == [("7", GOLD), late, late]


def test_long_answers_are_wrong_unread(monkeypatch):
    monkeypatch.setattr(verifiers, "_scored", lambda parts: [1 / 0 for _ in parts])
    assert verdicts([("7" * 20_001, GOLD)]) == [("wrong", "too long")]


def test_a_score_of_many_readings_is_the_best():
    assert readings(r"\left(3 + 4\right) \times 2") == [r"\left(3 + 4\right) \times 2", "(3 + 4) * 2"]
    assert readings("3+4") == ["3+4"]
    scores = {"a": 0.05, "b": 1.0}
    gold = json.loads(GOLD.removeprefix(verifiers.SCHEME))
    assert judge.apart(lambda gold: lambda answer, entry: scores[answer], gold, ["a", "b"], 5.0) == 1.0
    assert judge.apart(lambda gold: lambda answer, entry: os._exit(3), gold, ["a"], 5.0) == "no score"


def test_how_a_gold_is_shown():
    assert readable(GOLD) == "such as 3 + 4"
    assert readable(verified_gold("puzzle", {}, None, {})) == "any that puzzle accepts"
    assert readable("5") == "5"


def test_a_users_gold_that_only_looks_like_one_is_text():
    gold = "reasoning_gym: a library"
    assert readable(gold) == gold
    assert [grading.grade(rf"\boxed{{{answer}}}", gold).correct for answer in (gold, "another")] == [True, False]
