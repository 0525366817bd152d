"""Rewards that know nothing of the answer: what a run gains by them is not due to the reward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from grouprl.batch import Prompts
from grouprl.rewards import checks
from grouprl.rewards.base import Completions, Rewards
from grouprl.rewards.parts import graded, rewards_of, style_parts


@dataclass(frozen=True)
class RandomReward:
    """1 by chance and 0 else, whatever the completion: the control that shows what training alone does.

    Drawn from the seed, the iteration and the prompt's place in it, so that a resumed run draws the same. Correctness
    and style are logged. (Spurious rewards: arXiv 2506.10947.)
    """

    probability: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        checks.random_reward(self.probability)

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        drawn = [
            np.random.default_rng((self.seed, prompts.iteration, index)).random(len(row)) < self.probability
            for index, row in zip(prompts.indices, completions, strict=True)
        ]
        correct, _ = graded(completions, prompts.answers)
        values = torch.tensor(np.array(drawn), dtype=torch.float32)
        return rewards_of(values, {"correct": correct, **style_parts(completions)}, ())
