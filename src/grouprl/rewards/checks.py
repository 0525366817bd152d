"""What rewards and their scorer refuse, without torch."""

from __future__ import annotations

import math

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


def warped_reward(power: float, outlier_share: float, outlier_factor: float) -> None:
    """Arguments of `grouprl.rewards.warped.WarpedReward`."""
    if not 0 < power < math.inf:
        raise ValueError(f"reward.power={power}: give a number above 0, so that the order stays.")
    if not 0 <= outlier_share <= 1:
        raise ValueError(f"reward.outlier_share={outlier_share}: give a share, 0 to 1.")
    if not math.isfinite(outlier_factor):
        raise ValueError(f"reward.outlier_factor={outlier_factor}: give a finite number.")


def wrong_label_reward(samples: int) -> None:
    """Arguments of `grouprl.rewards.controls.WrongLabelReward`."""
    if samples < 1:
        raise ValueError(f"reward.samples={samples}: give 1 or more.")
