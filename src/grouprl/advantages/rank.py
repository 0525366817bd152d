"""Ranks of the rewards of a group: REPO's advantage, and its tie rule."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from grouprl.advantages import checks
from grouprl.advantages.base import Parts, Valid, finished, prepared
from grouprl.batch import PerSample

Ties = Literal["average", "min", "max", "dense", "random"]


@dataclass(frozen=True)
class RankAdvantage:
    """Ranks of the rewards in their group, mapped linearly to [-1, 1] (REPO).

    With average ties, ``A_i = sum_j sign(r_i - r_j) / (G - 1)``. The ranks ignore how large a difference is, so a
    single outlier cannot dominate its group. With 0/1 rewards this *is* the leave-one-out advantage (RLOO), bit for
    bit: ranks differ from mean-centring only where a group has three or more reward levels.
    ``average`` sums to zero over a group; ``min``, ``max`` and ``dense`` do not.
    """

    ties: Ties = "average"
    """Rank of equal rewards: their average, lowest (min) or highest (max) rank, the rank of their level (dense), or
    a random order (random: a control that shows what positional noise costs)."""
    resolution: float = 1e-6
    """Rewards are rounded to multiples of this first: (0.1 + 0.2) + 0.7 and 0.1 + (0.2 + 0.7) are a tie. 0: off."""
    seed: int = 0
    """Seed of the random tie order, which is a function of the seed and the rewards. Read by ties="random" alone."""

    def __post_init__(self) -> None:
        checks.rank_advantage(self.ties, self.resolution)

    def __call__(self, rewards: PerSample, *, valid: Valid | None = None, parts: Parts | None = None) -> PerSample:
        values, valid, count = prepared(rewards, valid)
        if self.resolution > 0:
            values = (values / self.resolution).round()
        if self.ties == "random":
            values = self._break_ties(values)
        pairs = valid.unsqueeze(-1) & valid.unsqueeze(-2)
        difference = (values.unsqueeze(-1) - values.unsqueeze(-2)).sign() * pairs
        below, above = (difference > 0).sum(-1).double(), (difference < 0).sum(-1).double()
        opponents = (count - 1).clamp(min=1)
        if self.ties in ("average", "random"):
            advantages = (below - above) / opponents
        elif self.ties == "min":
            advantages = 2 * below / opponents - 1
        elif self.ties == "max":
            advantages = 1 - 2 * above / opponents
        else:
            advantages = self._dense(values, valid)
        return finished(advantages, rewards, valid, tied=(difference == 0).all(-1).all(-1, keepdim=True))

    def _break_ties(self, values: Tensor) -> Tensor:
        key = zlib.crc32(values.contiguous().cpu().numpy().tobytes(), self.seed)
        noise = torch.rand(values.shape, generator=torch.Generator().manual_seed(key), dtype=torch.float64)
        order = noise.to(values.device).argsort(-1)
        shuffled = values.gather(-1, order).argsort(dim=-1, stable=True)
        return order.gather(-1, shuffled).argsort(-1).to(values.dtype)

    @staticmethod
    def _dense(values: Tensor, valid: Tensor) -> Tensor:
        ordered, index = values.masked_fill(~valid, torch.inf).sort(-1)
        steps = (ordered[..., 1:] != ordered[..., :-1]) & ordered[..., 1:].isfinite()
        level = torch.cat([torch.zeros_like(steps[..., :1], dtype=torch.long), steps.cumsum(-1)], -1)
        highest = level.amax(-1, keepdim=True).clamp(min=1)
        return (2 * level.to(values.dtype) / highest - 1).gather(-1, index.argsort(-1))
