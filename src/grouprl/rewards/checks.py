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
