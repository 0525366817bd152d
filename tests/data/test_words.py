"""Word problems: what they say is what their numbers are, and training and held-out arithmetic never meet."""

import hashlib
import re

import pytest

from grouprl.answers.grading import grade
from grouprl.cli.build import component
from grouprl.cli.config.preflight import check_job
from grouprl.data.exemplars import named_sets, read_exemplars
from grouprl.data.problems import word_problems
from grouprl.data.words import LEVELS, Story, distinct_stories

LIKE = (1, 1, 1, 1)


def only(level):
    """Weights of one level alone."""
    return [float(level == other) for other in LEVELS]


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
    for problem in distinct_stories("train", 200, seed=3, levels=only(level)):
        values = read(problem.text)
        assert problem.level == level == len(values)
        assert [*problem.intermediate, problem.answer] == [str(value) for value in values]
        assert all(1 <= value <= 100 for value in values)


def test_the_stream_is_a_function_of_its_arguments():
    texts = [p.text for p in distinct_stories("train", 50, seed=0, levels=(1, 1, 1, 1))]
    assert texts == [p.text for p in distinct_stories("train", 50, seed=0, levels=(1, 1, 1, 1))]
    assert texts != [p.text for p in distinct_stories("train", 50, seed=1, levels=(1, 1, 1, 1))]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == "955dbc9743b407e0"


def test_a_held_out_problem_has_a_calculation_that_no_training_problem_has():
    """Whatever the seeds; what is added or multiplied the other way round is the same calculation."""
    seen = {
        c
        for seed in (0, 7)
        for p in distinct_stories("train", 2000, seed=seed, levels=LIKE)
        for c in p.story.calculations
    }
    for level in LEVELS:
        heldout = distinct_stories("heldout", 100, seed=0, levels=only(level))
        assert all(set(p.story.calculations) - seen for p in heldout)
    assert Story(8, (("+", 5), ("*", 3))).calculations == ("5+8", "3*13")
    assert (
        Story(5, (("+", 8),)).calculations == Story(8, (("+", 5),)).calculations != Story(8, (("-", 5),)).calculations
    )
    shares = [Story(n, (("-", k),)).split == "heldout" for n in range(3, 60) for k in range(2, 40)]
    assert 0.17 < sum(shares) / len(shares) < 0.23


def test_levels_weigh_and_are_checked():
    one = word_problems(train_size=100, heldout_size=20, levels=[1, 0, 0, 0])
    assert not any(p.intermediate for p in (*one.train, *one.heldout))
    counts = [
        len(p.intermediate) + 1 for p in word_problems(train_size=2000, heldout_size=0, levels=[3, 0, 1, 0]).train
    ]
    assert set(counts) == {1, 3}
    assert 0.72 < counts.count(1) / len(counts) < 0.78  # though few calculations of one step are new by then
    for levels in ([1.0], [1, -1, 0, 1], [0, 0, 0, 0], {1: 1.0}, "1111", [1, 0, 0, float("inf")]):
        with pytest.raises(ValueError, match="1, 2, 3 and 4 steps"):
            word_problems(levels=levels)
    with pytest.raises(ValueError, match="no more than"):
        word_problems(train_size=50_000, levels=[1, 0, 0, 0])


def test_the_experiment_has_problems_of_one_step_alone():
    config = check_job("train", ["experiment=smollm2_words"])
    splits = component(config, "data")
    assert (len(splits.train), len(splits.heldout)) == (600, 80)
    assert not any(problem.intermediate for part in (splits.train, splits.heldout) for problem in part)


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
