"""Ratio levels: one importance ratio for each token, or one for each sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool
from torch import Tensor

from grouprl.batch import PerToken
from grouprl.losses import checks

LARGEST = 80.0
"""Of a log-ratio in nats: its exponential and sums of many such are finite in float32."""

_FINITE = 1e4
"""Numbers up to which `LARGEST` is found by subtraction."""


class RatioLevel(Protocol):
    """Importance ratio of each token.

    Called with log-ratios [sequences, tokens] in nats (0 where masked), the mask [sequences, tokens] and advantages
    [sequences, 1 or tokens]; returns [sequences, tokens]. One that limits something may have
    ``measures(log_ratio, mask, advantages)``, as a `grouprl.losses.gates.Gate` may.
    """

    def __call__(self, log_ratio: PerToken, mask: Bool[Tensor, "sequences tokens"], advantages: Tensor) -> PerToken: ...


@dataclass(frozen=True)
class TokenRatio:
    """Each token its own ratio, ``exp(logp_t - old_logp_t)`` (PPO, arXiv 1707.06347)."""

    def __call__(self, log_ratio: PerToken, mask: Tensor, advantages: Tensor) -> PerToken:
        return bounded_exp(log_ratio)


@dataclass(frozen=True)
class SequenceRatio:
    """One length-normalised ratio per sequence, ``exp(mean_t log ratio_t)`` (GSPO, arXiv 2507.18071).

    It stays near 1: use ``eps_low=3e-4 eps_high=4e-4`` and `grouprl.losses.aggregations.SequenceMean`.
    """

    def __call__(self, log_ratio: PerToken, mask: Tensor, advantages: Tensor) -> PerToken:
        return bounded_exp(_sequence_mean(log_ratio, mask)).expand_as(log_ratio)


@dataclass(frozen=True)
class GeometricRatio:
    """Tokens clipped in log space on the side their advantage pushes to, then averaged (GMPO, arXiv 2507.20673).

    Takes the place of a gate: use it with `grouprl.losses.gates.NoGate`.
    """

    clip: float = 0.4
    """Largest log-ratio of a token in nats, on the side its advantage pushes to."""

    def __post_init__(self) -> None:
        checks.geometric_ratio(self.clip)

    def __call__(self, log_ratio: PerToken, mask: Tensor, advantages: Tensor) -> PerToken:
        clipped = torch.where(advantages > 0, log_ratio.clamp(max=self.clip), log_ratio.clamp(min=-self.clip))
        return bounded_exp(_sequence_mean(clipped, mask)).expand_as(log_ratio)

    def measures(self, log_ratio: PerToken, mask: Tensor, advantages: Tensor) -> dict[str, Tensor]:
        """Whether each token is past its side of the clip."""
        return {
            "ratio/clipped_low": (log_ratio < -self.clip) & (advantages < 0),
            "ratio/clipped_high": (log_ratio > self.clip) & (advantages > 0),
        }


def bounded_exp(x: Tensor) -> Tensor:
    """``exp(x)``, and above `LARGEST` its value and slope there.

    Where it would be infinite, its gradient is NaN wherever a clip, whose own is 0, has it multiplied.
    """
    x = x.clamp(max=_FINITE)
    return (x - (x - LARGEST).clamp(min=0).detach()).exp()


def _sequence_mean(values: PerToken, mask: Tensor) -> Tensor:
    return (values * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
