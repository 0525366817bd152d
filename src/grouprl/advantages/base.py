"""Group advantages: from the rewards of a group to how much each of its completions is to be reinforced.

Every estimator is a frozen dataclass called as ``advantage(rewards, *, valid=None, parts=None)``:

- ``rewards``: float [prompts, group], one reward per completion.
- ``valid``: bool [prompts, group], False where a completion could not be scored. Such a sample gets advantage 0
  and is left out of its group's statistics.
- ``parts``: name -> [prompts, group], the named parts of the reward, for estimators that normalise each apart.
  Those of this package look at the total alone.

and returns a tensor of the shape and dtype of ``rewards`` (whole numbers and bools: of the default dtype).
Degenerate groups: where all valid rewards are equal, or fewer than two samples are valid, every advantage is exactly
0 (only ``RankAdvantage(ties="random")``, the control with positional noise, differs).

Deviations from the REPO recipe as published:

1. Tied rewards share their average rank (published: the order of the list decides, which is noise).
2. A larger reward gives a larger advantage; the loss is the negated objective.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from jaxtyping import Bool
from torch import Tensor

from grouprl.batch import PerSample

Valid = Bool[Tensor, "prompts group"]
Parts = Mapping[str, PerSample]


class Advantage(Protocol):
    """Anything that turns the rewards of groups into advantages of the same shape."""

    def __call__(self, rewards: PerSample, *, valid: Valid | None = None, parts: Parts | None = None) -> PerSample: ...


def prepared(rewards: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
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


def group_mean(values: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    """Mean over the valid samples of each group, [prompts, 1]."""
    return (values * valid).sum(-1, keepdim=True) / count.clamp(min=1)


def finished(advantages: Tensor, rewards: Tensor, valid: Tensor, tied: Tensor | None = None) -> Tensor:
    """Exactly 0 for invalid samples and tied groups, whatever the arithmetic left. Integers become floats."""
    if tied is None:
        highest = rewards.masked_fill(~valid, -torch.inf).amax(-1, keepdim=True)
        lowest = rewards.masked_fill(~valid, torch.inf).amin(-1, keepdim=True)
        tied = highest <= lowest
    dtype = rewards.dtype if rewards.is_floating_point() else torch.get_default_dtype()
    return advantages.masked_fill(tied | ~valid, 0.0).to(dtype)
