"""What rewards and their scorer refuse, without torch."""

from __future__ import annotations

MARGIN = 1e-3
"""By how much correctness has to outweigh style: more than float32 sums and the ranks' resolution blur."""
ON_UNSCORABLE = ("drop_sample", "drop_group", "stop")


def math_reward(correct: float, box: float, steps: float, notation: float) -> None:
    """Arguments of `grouprl.rewards.parts.MathReward`."""
    style = {"box": box, "steps": steps, "notation": notation}
    for name, weight in {"correct": correct, **style}.items():
        if not weight >= 0:
            raise ValueError(f"reward.{name}={weight}: weights are at least 0.")
    if correct < sum(style.values()) + MARGIN:
        raise ValueError(
            f"reward.correct={correct} does not outweigh the style parts together ({sum(style.values()):g}) "
            f"by {MARGIN:g}: a wrong answer could outscore a right one. Raise reward.correct or lower the others."
        )


def graded_reward(correct: float) -> None:
    """Arguments of `grouprl.rewards.graded.GradedReward`."""
    if not (1 + MARGIN) / 2 <= correct < 1:
        raise ValueError(
            f"reward.correct={correct}: give more than 0.5 and less than 1, so that no wrong answer outscores a right "
            "one and intermediate results count."
        )


def random_reward(probability: float) -> None:
    """Arguments of `grouprl.rewards.controls.RandomReward`."""
    if not 0 < probability < 1:
        raise ValueError(f"reward.probability={probability}: give a number above 0 and below 1.")


def wrong_label_reward(samples: int) -> None:
    """Arguments of `grouprl.rewards.controls.WrongLabelReward`."""
    if samples < 1:
        raise ValueError(f"reward.samples={samples}: give 1 or more.")
