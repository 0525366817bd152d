import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from grouprl.answers import grading as answers
from grouprl.answers.grading import Verdict, grade
from grouprl.batch import Prompts
from grouprl.rewards.base import as_rewards
from grouprl.rewards.parts import CorrectReward, FormatReward, MathReward
from grouprl.rewards.rules import has_box, has_notation, has_steps, is_correct


def prompts(*golds):
    return Prompts(tuple("p" for _ in golds), golds, tuple(() for _ in golds), tuple(range(len(golds))))


GOOD = "Step 1: $3 + 4 = 7$.\nStep 2: $7 \\times 2 = 14$.\nThe answer is \\boxed{14}."


@pytest.mark.parametrize(
    ("text", "box", "steps", "notation", "correct"),
    [
        (GOOD, 1, 1, 1, 1),
        (GOOD.replace("14}", "15}"), 1, 1, 1, 0),
        ("The answer is \\boxed{14}.", 1, 0, 0, 1),
        ("Step 1: 3 + 4 = 7.\nStep 2: 7 x 2 = 14.\nThe answer is 14.", 0, 1, 0, 0),
        ("First, add 3 and 4. Then, double it: \\(7 \\cdot 2 = 14\\).", 0, 1, 1, 0),
        ("1. Add.\n2. Double.\n\\boxed{}", 0, 1, 0, 0),
        ("It costs $5 and then $6 more", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_parts(text, box, steps, notation, correct):
    found = has_box(text), has_steps(text), has_notation(text), is_correct(text, "14")
    assert found == (box, steps, notation, correct)


def test_total_and_parts():
    rewards = MathReward()([[GOOD, "\\boxed{14}"], ["no", GOOD]], prompts("14", "15"))
    torch.testing.assert_close(rewards.values, torch.tensor([[1.0, 0.8], [0.0, 0.3]]))
    assert rewards.parts["correct"].tolist() == [[1, 1], [0, 0]]
    assert rewards.parts["notation"].tolist() == [[1, 0], [0, 1]]
    gated = MathReward(style_needs_correct=True)([["no", GOOD]], prompts("15"))
    assert gated.values.tolist() == [[0, 0]]
    assert CorrectReward()([[GOOD, "no"]], prompts("14")).values.tolist() == [[1, 0]]
    torch.testing.assert_close(
        FormatReward()([[GOOD, "\\boxed{1}"]], prompts("99")).values, torch.tensor([[1.0, 1 / 3]])
    )


WEIGHT = st.floats(0, 2, allow_nan=False)
PIECES = ["Step 1: $1 + 1 = 2$.", "Step 2: then $2 = 2$.", "\\boxed{1}", "\\boxed{2}", "and 3", "\\[x\\]"]


@pytest.mark.slow
@given(
    WEIGHT, WEIGHT, WEIGHT, WEIGHT, st.booleans(), st.lists(st.lists(st.sampled_from(PIECES)), min_size=2, max_size=8)
)
def test_a_wrong_answer_never_outscores_a_right_one(correct, box, steps, notation, gate, pieces):
    """For every weighting that is accepted, over all styles."""
    try:
        reward = MathReward(correct, box, steps, notation, gate)
    except ValueError:
        assert correct < box + steps + notation + 1e-3 + 1e-9
        assume(False)
    rewards = reward([["\n".join(p) for p in pieces]], prompts("1"))
    right = rewards.values[rewards.parts["correct"] == 1]
    wrong = rewards.values[rewards.parts["correct"] == 0]
    if len(right) and len(wrong):
        assert right.min() > wrong.max()


def test_weights_that_let_style_win_are_refused():
    with pytest.raises(ValueError, match=r"reward.correct=0.3 does not outweigh.*0.3"):
        MathReward(correct=0.3)
    with pytest.raises(ValueError, match=r"reward.box=-0.1"):
        MathReward(box=-0.1)


def test_what_a_users_reward_may_return():
    texts = [["a", "b"], ["c", "d"]]
    rewards = as_rewards([[1, 2], [float("nan"), float("inf")]], texts)
    assert rewards.valid.tolist() == [[True, True], [False, False]]
    assert rewards.values.tolist() == [[1, 2], [0, 0]]
    with pytest.raises(ValueError, match=r"\[4\].*\[2, 2\]"):
        as_rewards([1, 2, 3, 4], texts)
    with pytest.raises(ValueError, match="nested lists"):
        as_rewards("good", texts)


def test_an_answer_whose_grading_was_killed_is_no_wrong_answer(monkeypatch):
    """It leaves its group, counted as a timeout."""
    killed = Verdict(False, "timeout", "x", "killed after its time")
    monkeypatch.setattr(answers, "grade", lambda text, *rest, **more: killed if "hang" in text else grade(text, *rest))
    for reward in (MathReward(), CorrectReward()):
        found = reward([[r"\boxed{4}", r"\boxed{hang}", r"\boxed{5}"]], prompts("4"))
        assert found.valid.tolist() == [[True, False, True]]
        assert found.parts["correct"].tolist() == [[1.0, 0.0, 0.0]]
        assert [(f.prompt, f.sample, f.kind) for f in found.failures] == [(0, 1, "timeout")]
