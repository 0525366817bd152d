"""Group advantages: from the rewards of a group to how much each of its completions is to be reinforced.

Every estimator is a frozen dataclass called as ``advantage(rewards, *, valid=None, parts=None)``:

- ``rewards``: float [prompts, group], one reward per completion.
- ``valid``: bool [prompts, group], False where a completion could not be scored. Such a sample gets advantage 0
  and is left out of its group's statistics.
- ``parts``: name -> [prompts, group], the named parts of the reward, for estimators that normalise each apart.
  The estimators of this file look at the total alone.

and returns a tensor of the shape and dtype of ``rewards``. Degenerate groups: where all valid rewards are equal, or
fewer than two samples are valid, every advantage is exactly 0 (only ``RankAdvantage(ties="random")``, the control
with positional noise, differs).

Deviations from the REPO recipe as published:

1. Tied rewards share their average rank (published: the order of the list decides, which is noise).
2. A larger reward gives a larger advantage; the loss is the negated objective.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grouprl import checks

Rewards = Float[Tensor, "prompts group"]
Valid = Bool[Tensor, "prompts group"]
Parts = Mapping[str, Float[Tensor, "prompts group"]]
Ties = Literal["average", "min", "max", "dense", "random"]


class Advantage(Protocol):
    """Anything that turns the rewards of groups into advantages of the same shape."""

    def __call__(self, rewards: Rewards, *, valid: Valid | None = None, parts: Parts | None = None) -> Rewards: ...


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

    def __call__(self, rewards: Rewards, *, valid: Valid | None = None, parts: Parts | None = None) -> Rewards:
        values, valid, count = _prepare(rewards, valid)
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
        return _finish(advantages, rewards, valid, tied=(difference == 0).all(-1).all(-1, keepdim=True))

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


@dataclass(frozen=True)
class ZScoreAdvantage:
    """Rewards centred on the group's mean and divided by its standard deviation (GRPO, arXiv 2402.03300).

    ``A_i = (r_i - mean) / (std + epsilon)``. Groups with few successes or few failures weigh more than balanced
    ones: at G=16 a lone success is weighed up to 3.9 times as much as under leave-one-out.
    """

    epsilon: float = 1e-4
    """Added to the standard deviation."""
    unbiased: bool = False
    """Divide the variance by G - 1 (sample) instead of G (population)."""

    def __call__(self, rewards: Rewards, *, valid: Valid | None = None, parts: Parts | None = None) -> Rewards:
        values, valid, count = _prepare(rewards, valid)
        centered = (values - _mean(values, valid, count)) * valid
        freedom = (count - 1 if self.unbiased else count).clamp(min=1)
        deviation = (centered.square().sum(-1, keepdim=True) / freedom).sqrt()
        return _finish(centered / (deviation + self.epsilon), rewards, valid)


@dataclass(frozen=True)
class CenteredAdvantage:
    """Rewards minus the group's mean, ``A_i = r_i - mean`` (Dr. GRPO, arXiv 2503.20783).

    No division by a deviation, so that a group's weight does not depend on its difficulty.
    """

    def __call__(self, rewards: Rewards, *, valid: Valid | None = None, parts: Parts | None = None) -> Rewards:
        values, valid, count = _prepare(rewards, valid)
        return _finish(values - _mean(values, valid, count), rewards, valid)


@dataclass(frozen=True)
class LeaveOneOutAdvantage:
    """Rewards minus the mean of the *other* rewards of the group (RLOO, arXiv 2402.14740).

    ``A_i = r_i - mean_{j != i} r_j = (G r_i - sum_j r_j) / (G - 1)``: an unbiased baseline. It is computed in the
    second form, which makes it bitwise equal to `RankAdvantage` with 0/1 rewards.
    """

    def __call__(self, rewards: Rewards, *, valid: Valid | None = None, parts: Parts | None = None) -> Rewards:
        values, valid, count = _prepare(rewards, valid)
        total = (values * valid).sum(-1, keepdim=True)
        return _finish((count * values - total) / (count - 1).clamp(min=1), rewards, valid)


def _prepare(rewards: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards in float64 (0 where invalid), the mask, and the number of valid samples [prompts, 1]."""
    if rewards.ndim != 2:
        raise ValueError(f"rewards must have shape [prompts, group], got {list(rewards.shape)}.")
    if rewards.shape[1] < 2:
        raise ValueError(f"group_size={rewards.shape[1]}: a group advantage needs at least 2 completions a prompt.")
    if valid is None:
        valid = torch.ones_like(rewards, dtype=torch.bool)
    if valid.shape != rewards.shape:
        raise ValueError(f"valid has shape {list(valid.shape)}, rewards have {list(rewards.shape)}.")
    if not rewards[valid].isfinite().all():
        raise ValueError("rewards hold NaN or infinity: mark samples that could not be scored in `valid`.")
    return rewards.double().masked_fill(~valid, 0.0), valid, valid.sum(-1, keepdim=True)


def _mean(values: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    return (values * valid).sum(-1, keepdim=True) / count.clamp(min=1)


def _finish(advantages: Tensor, rewards: Tensor, valid: Tensor, tied: Tensor | None = None) -> Tensor:
    """Exactly 0 for invalid samples and tied groups, whatever the arithmetic left; the dtype of the rewards."""
    if tied is None:
        highest = rewards.masked_fill(~valid, -torch.inf).amax(-1, keepdim=True)
        lowest = rewards.masked_fill(~valid, torch.inf).amin(-1, keepdim=True)
        tied = highest <= lowest
    return advantages.masked_fill(tied | ~valid, 0.0).to(rewards.dtype)
