import json

import pytest

from grouprl.answers import equal, last_box
from grouprl.rewards import is_correct


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{ {a} }", "{a}"),
        (r"\fbox{3} \boxed{4", None),
        (r"\boxed{4} \boxed{5", "4"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        ("no box", None),
        (r"\boxed{}", ""),
    ],
)
def test_last_box(text, box):
    assert last_box(text) == box


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("14", "14"),
        ("14.0", "14"),
        ("1,000", "1000"),
        (r"\frac{1}{2}", "0.5"),
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"-\frac{1}{2}", "-1/2"),
        (r"2/5", "4/10"),
        ("$5$", "5"),
        (r"90^\circ", "90"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"14 \text{ cm}", "14"),
        (r"\text{Evelyn}", "Evelyn"),
        ("−3", "-3"),
    ],
)
def test_equal_answers(prediction, gold):
    assert equal(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("14", "15"),
        ("", ""),
        ("3=4", "4"),
        ("12", "1"),
        ("1/0", "0"),
        (r"\frac{1}{0}", "1"),
        ("1,2", "12"),
        ("(1,2)", "12"),
        ("4, 5", "4"),
    ],
)
def test_different_answers(prediction, gold):
    assert not equal(prediction, gold)


def test_long_and_hostile_answers_come_back_at_once():
    for text in ("9" * 100_000, "{" * 100_000, "\\frac{1}{" * 5000, "__import__('os')", "9**9**9**9"):
        assert not equal(text, "4")
        assert last_box("\\boxed{" + text) is None or text.count("{") == 0


def test_recorded_groups_of_a_real_model(real_data):
    """Rule-based comparison of text and numbers: no wrong answer is accepted; the misses are other spellings."""
    accepted = missed = 0
    with (real_data / "recorded_groups.jsonl").open() as lines:
        for line in lines:
            group = json.loads(line)
            for text, truth in zip(group["completions"], group["scores_checked"], strict=True):
                correct = is_correct(text, group["gold"])
                assert not (correct and not truth), (group["id"], last_box(text), group["gold"])
                accepted += correct
                missed += bool(truth) and not correct
    assert accepted >= 700
    assert missed <= 37


def test_a_text_full_of_unclosed_boxes_takes_no_time():
    """One pass: 10 000 unclosed boxes, and 10 000 nested ones, are read at once and do not recurse."""
    assert last_box(r"\boxed{" * 10_000) is None
    assert last_box(r"\boxed{" * 10_000 + "7" + "}" * 10_000) == "7"
    assert last_box(r"\boxed{1} and \boxed{2") == "1"
    assert last_box(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"


def test_a_percent_sign_is_part_of_the_answer():
    assert equal("5%", r"5\%")
    assert not equal("5%", "5")
