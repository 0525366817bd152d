"""Gates: how an advantage acts through the ratio of new to old probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from grouprl.batch import PerToken
from grouprl.losses import checks


class Gate(Protocol):
    """Objective of each token, to be maximised.

    Called with ratio [sequences, tokens], advantages [sequences, 1 or tokens] and current logprobs [sequences, tokens]
    in nats; returns [sequences, tokens]. A gate that limits something may have ``measures(ratio, advantages)``, which
    gives [sequences, tokens] of bools or numbers by name; their means over trained tokens are logged.
    """

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken: ...


@dataclass(frozen=True)
class ClipGate:
    """The PPO clip with its two sides apart: ``min(ratio A, clip(ratio, 1 - eps_low, 1 + eps_high) A)``.

    Raising ``eps_high`` alone lets unlikely tokens grow (DAPO's clip-higher, arXiv 2503.14476).
    """

    eps_low: float = 0.2
    """The ratio of a token with a negative advantage is clipped below 1 - eps_low (TRL: ``epsilon``)."""
    eps_high: float = 0.2
    """The ratio of a token with a positive advantage is clipped above 1 + eps_high (TRL: ``epsilon_high``)."""
    dual_clip: float | None = None
    """Also the largest ratio of a token with a negative advantage (dual-clip PPO's c, arXiv 1912.09729;
    TRL: ``delta``). None: no bound."""

    def __post_init__(self) -> None:
        checks.clip_gate(self.eps_low, self.eps_high, self.dual_clip)

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken:
        clipped_ratio = ratio.clamp(1 - self.eps_low, 1 + self.eps_high)
        objective = torch.minimum(ratio * advantages, clipped_ratio * advantages)
        if self.dual_clip is not None:
            objective = torch.where(advantages < 0, objective.maximum(self.dual_clip * advantages), objective)
        return objective

    def measures(self, ratio: PerToken, advantages: Tensor) -> dict[str, Tensor]:
        """Whether each token is past the side of the clip that stops its gradient."""
        found = {
            "clip_fraction/low": (ratio < 1 - self.eps_low) & (advantages < 0),
            "clip_fraction/high": (ratio > 1 + self.eps_high) & (advantages > 0),
        }
        if self.dual_clip is not None:
            found["clip_fraction/dual"] = (ratio > self.dual_clip) & (advantages < 0)
        return found


@dataclass(frozen=True)
class CispoGate:
    """CISPO (arXiv 2506.13585): ``stop_gradient(min(ratio, ratio_max)) A logp``. No token loses its gradient."""

    ratio_max: float = 5.0
    """Largest weight of a token (1 + eps_high of the paper; TRL: ``epsilon_high``)."""

    def __post_init__(self) -> None:
        checks.cispo_gate(self.ratio_max)

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken:
        return ratio.detach().clamp(max=self.ratio_max) * advantages * logprobs

    def measures(self, ratio: PerToken, advantages: Tensor) -> dict[str, Tensor]:
        """Whether each token's weight is limited."""
        return {"clip_fraction/weight": ratio > self.ratio_max}


@dataclass(frozen=True)
class SapoGate:
    """SAPO (arXiv 2511.20347): ``(4 / tau) sigmoid(tau (ratio - 1)) A``, a smooth gate with gradient 1 at ratio 1."""

    tau_positive: float = 1.0
    """Temperature tau of the paper where the advantage is above 0."""
    tau_negative: float = 1.05
    """The same elsewhere."""

    def __post_init__(self) -> None:
        checks.sapo_gate(self.tau_positive, self.tau_negative)

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken:
        tau = torch.full_like(advantages, self.tau_negative).masked_fill(advantages > 0, self.tau_positive)
        return 4 / tau * torch.sigmoid(tau * (ratio - 1)) * advantages


@dataclass(frozen=True)
class NoGate:
    """Plain importance weighting, ``ratio A``: the surrogate objective of TRPO (arXiv 1502.05477) without its bound."""

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken:
        return ratio * advantages
