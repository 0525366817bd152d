"""Word problems: what they say is what their numbers are, and training and held-out arithmetic never meet."""

import hashlib
import re

import pytest

from grouprl.answers.grading import grade
from grouprl.data.exemplars import named_sets, read_exemplars
from grouprl.data.problems import word_problems
from grouprl.data.words import LEVELS, Story, distinct_stories


def read(text):
    """The values of a story, worked out from its sentences alone."""
    who, value = re.match(r"(\w+) has (\d+) \w+\.", text).groups()
    found, value = [], int(value)
    for sentence in re.findall(r"[^.?]+[.?]", text)[1:-1]:
        (number,) = map(int, re.findall(r"\d+", sentence))
        if "times as many" in sentence:
            assert sentence.split()[-1] == f"{who}."
            who, value = sentence.split()[0], value * number
        elif "boxes" in sentence or "bags" in sentence:
            assert value % number == 0
            value //= number
        else:
            gains = "more" in sentence or "another" in sentence
            assert who in sentence
            value += number if gains else -number
        found.append(value)
    asked = re.findall(r"[^.?]+[.?]", text)[-1]
    assert f"does {who} have now?" in asked or "in each" in asked
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_a_story_says_what_its_numbers_are(level):
    for problem in distinct_stories("train", 200, seed=3, levels={level: 1.0}):
        values = read(problem.text)
        assert problem.level == level == len(values)
        assert [*problem.intermediate, problem.answer] == [str(value) for value in values]
        assert all(1 <= value <= 100 for value in values)


def test_the_stream_is_a_function_of_its_arguments():
    texts = [p.text for p in distinct_stories("train", 50, seed=0, levels=dict.fromkeys(LEVELS, 1.0))]
    assert texts == [p.text for p in distinct_stories("train", 50, seed=0, levels=dict.fromkeys(LEVELS, 1.0))]
    assert texts != [p.text for p in distinct_stories("train", 50, seed=1, levels=dict.fromkeys(LEVELS, 1.0))]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == "8ff97686dc5aa039"


def test_no_calculation_is_on_both_sides_whatever_the_seeds():
    splits = [word_problems(train_size=2000, heldout_size=300, seed=seed, heldout_seed=seed) for seed in (0, 7)]
    numbers = [
        {
            tuple(re.findall(r"\d+|buys|finds|gives \w+|gets|sells|loses|borrows|times|boxes|bags", p.problem))
            for p in part
        }
        for part in (splits[0].train, splits[1].heldout)
    ]
    assert not numbers[0] & numbers[1]
    assert {Story(3, (("+", 4),)).split, Story(5, (("+", 4),)).split} <= {"train", "heldout"}
    shares = [Story(n, (("+", k),)).split == "heldout" for n in range(3, 60) for k in range(2, 40)]
    assert 0.17 < sum(shares) / len(shares) < 0.23


def test_levels_weigh_and_are_checked():
    one = word_problems(train_size=100, heldout_size=20, levels={1: 1.0})
    assert not any(p.intermediate for p in one.train)
    counts = [len(p.intermediate) + 1 for p in word_problems(train_size=400, heldout_size=0, levels={1: 3, 3: 1}).train]
    assert set(counts) == {1, 3}
    assert 0.68 < counts.count(1) / len(counts) < 0.8
    for levels, wanted in (({5: 1.0}, "among 1, 2, 3, 4"), ({1: -1.0, 2: 2.0}, "at least 0"), ({2: 0.0}, "not all 0")):
        with pytest.raises(ValueError, match=wanted):
            word_problems(levels=levels)
    with pytest.raises(ValueError, match="no more than"):
        word_problems(train_size=50_000, levels={1: 1.0})


def test_its_worked_examples_ship_under_its_name_and_are_none_of_its_problems():
    shots = read_exemplars("words")
    assert "words" in named_sets()
    assert len(shots) == 3
    for shot in shots:
        assert grade(shot.boxed, shot.answer).correct
        assert [str(value) for value in read(shot.problem)] == [shot.answer]
        assert "\n" not in shot.boxed  # a completion ends with its line
    names = {problem.problem.split()[0] for problem in word_problems(train_size=500).train}
    assert not names & {"Ida", "Karl"}
    with pytest.raises(ValueError, match=r"prompt.exemplars=wordz: give a JSONL file, or one of .*words"):
        read_exemplars("wordz")
