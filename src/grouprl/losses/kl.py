"""KL penalties: the pull towards the reference policy.

The estimators k1, k2 and k3 are those of http://joschu.net/blog/kl-approx.html; their gradients in rewards and in
losses: arXiv 2512.21852.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from grouprl.batch import LossInputs, PerToken
from grouprl.losses import checks
from grouprl.losses.ratios import bounded_exp


class KLPenalty(Protocol):
    """A pull towards the reference policy: through the advantages, through a penalty on each token, or neither.

    Read only where ``beta`` is above 0; then `LossInputs.ref_logprobs` [sequences, tokens] in nats has to be there.
    """

    @property
    def beta(self) -> float:
        """Coefficient of the penalty; 0: no reference is loaded or run."""
        ...

    def adjust_advantages(self, advantages: Tensor, inputs: LossInputs) -> Tensor:
        """Advantages [sequences, 1 or tokens] with the penalty taken off [sequences, tokens], or as they were."""
        ...

    def penalty(self, logprobs: PerToken, inputs: LossInputs) -> PerToken | float:
        """What is taken off the objective of each token, [sequences, tokens], with gradient."""
        ...


@dataclass(frozen=True)
class K1:
    """The k1 estimate as a per-token reward: ``A_t - beta (old_logp_t - ref_logp_t)``.

    It is taken off *after* the advantage. Inside a ranked reward it would break every tie (arXiv 2512.21852).
    """

    beta: float = 0.0
    """Coefficient of the penalty; 0: off."""

    def __post_init__(self) -> None:
        checks.kl_penalty(self.beta)

    def adjust_advantages(self, advantages: Tensor, inputs: LossInputs) -> Tensor:
        return advantages - self.beta * _where_trained(inputs.old_logprobs - _reference(inputs), inputs)

    def penalty(self, logprobs: PerToken, inputs: LossInputs) -> float:
        return 0.0


@dataclass(frozen=True)
class K2:
    """``beta / 2 (logp - ref_logp)^2`` in the loss, weighted by the ratio in off-policy epochs (arXiv 2512.21852)."""

    beta: float = 0.0
    """Coefficient of the penalty; 0: off."""

    def __post_init__(self) -> None:
        checks.kl_penalty(self.beta)

    def adjust_advantages(self, advantages: Tensor, inputs: LossInputs) -> Tensor:
        return advantages

    def penalty(self, logprobs: PerToken, inputs: LossInputs) -> PerToken:
        ratio = bounded_exp(_where_trained(logprobs - inputs.old_logprobs, inputs)).detach()
        return self.beta * ratio * 0.5 * _where_trained(logprobs - _reference(inputs), inputs).square()


@dataclass(frozen=True)
class K3:
    """``beta (exp(ref - logp) - (ref - logp) - 1)`` in the loss (GRPO, arXiv 2402.03300).

    Its gradient is biased (arXiv 2512.21852).
    """

    beta: float = 0.0
    """Coefficient of the penalty; 0: off."""

    def __post_init__(self) -> None:
        checks.kl_penalty(self.beta)

    def adjust_advantages(self, advantages: Tensor, inputs: LossInputs) -> Tensor:
        return advantages

    def penalty(self, logprobs: PerToken, inputs: LossInputs) -> PerToken:
        difference = _where_trained(_reference(inputs) - logprobs, inputs)
        return self.beta * (bounded_exp(difference) - difference - 1)


def _where_trained(difference: PerToken, inputs: LossInputs) -> PerToken:
    """0 at other tokens, whose logprobs may be anything."""
    return difference.masked_fill(~inputs.mask, 0.0)


def _reference(inputs: LossInputs) -> PerToken:
    if inputs.ref_logprobs is None:
        raise ValueError("beta is above 0, but there are no reference logprobs: set beta=0 or load a reference.")
    return inputs.ref_logprobs
