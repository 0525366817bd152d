"""What the advantages refuse, without torch."""

from __future__ import annotations

from grouprl.checks import choice

TIES = ("average", "min", "max", "dense", "random")


def rank_advantage(ties: str, resolution: float) -> None:
    """Arguments of `grouprl.advantages.rank.RankAdvantage`."""
    choice("advantage.ties", ties, TIES)
    if not resolution >= 0:
        raise ValueError(f"advantage.resolution={resolution}: give a number of at least 0.")


def z_score_advantage(epsilon: float) -> None:
    """Arguments of `grouprl.advantages.baselines.ZScoreAdvantage`."""
    if not epsilon >= 0:
        raise ValueError(f"advantage.epsilon={epsilon}: give a number of at least 0.")
