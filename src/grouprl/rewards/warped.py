"""A reward on another scale, or with outliers: what an advantage makes of the size of rewards, as a known treatment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from grouprl.batch import Prompts
from grouprl.rewards import checks
from grouprl.rewards.base import Completions, Reward, Rewards, as_rewards

_STREAM = 1
"""Tells what is drawn here from what the reward within may draw from the same seed."""


@dataclass(frozen=True)
class WarpedReward:
    """Another reward, raised to a power that keeps its order, and some of its values multiplied.

    Ranks do not see a change of scale that keeps the order, and an outlier moves them by no more than its place; what
    subtracts a mean or divides by a standard deviation sees both. The parts are those of the reward within, and
    ``unwarped``, its total.
    """

    reward: Reward
    power: float = 1.0
    """Of each reward's size; its sign stays. Above 0."""
    outlier_share: float = 0.0
    """Chance that a reward is multiplied, drawn from the seed, the iteration and the prompt's place in it."""
    outlier_factor: float = 10.0
    """By what."""
    seed: int = 0

    def __post_init__(self) -> None:
        if hasattr(self.reward, "find"):
            raise ValueError("reward.reward: one that looks for labels before training cannot be warped.")
        checks.warped_reward(self.power, self.outlier_share, self.outlier_factor)

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        """Score P groups of G completions."""
        found = as_rewards(self.reward(completions, prompts), completions)
        values = found.values.sign() * found.values.abs() ** self.power
        drawn = [
            np.random.default_rng((_STREAM, self.seed, prompts.iteration, index)).random(len(row)) < self.outlier_share
            for index, row in zip(prompts.indices, completions, strict=True)
        ]
        values = torch.where(torch.tensor(np.array(drawn)), self.outlier_factor * values, values)
        return replace(found, values=values, parts={**found.parts, "unwarped": found.values})
