"""Policy losses as points on five axes: gate x ratio level x aggregation x KL x sampler correction.

``PolicyLoss(gate, ratio, aggregation, kl, correction)`` is every loss here; a paper's loss is a choice on each axis
(the presets are `conf/loss/*.yaml`). A loss is called on the logprobs of some sequences and their `LossInputs`, and
returns `LossOutputs`; it never logs and holds no state.

Denominators. Each sequence carries a weight that is fixed over the optimizer step's whole minibatch (all
micro-batches, all ranks), so a loss is a plain sum and the gradient does not depend on how the minibatch is cut.
With N groups, n sequences of L_i tokens, and L_g the tokens of a group:

| aggregation | weight of a token | source |
|---|---|---|
| `GroupTokenMean` | 1 / (N L_g) | REPO |
| `BatchTokenMean` | 1 / sum L | DAPO, arXiv 2503.14476 |
| `SequenceMean` | 1 / (n L_i) | GRPO, arXiv 2402.03300 |
| `ConstantLength` | 1 / (n L_max) | Dr. GRPO, arXiv 2503.20783 |

Deviation from the REPO recipe as published: a token mean over the group does *not* keep long responses from
dominating. Under it a response weighs in proportion to its length; `SequenceMean` weighs responses alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grouprl import checks
from grouprl.batch import LossInputs, LossOutputs, Totals
from grouprl.corrections import NoCorrection, SamplerCorrection, sampler_ratio

PerToken = Float[Tensor, "sequences tokens"]
Lengths = Int[Tensor, "prompts group"]


# --- gate: how an advantage acts through the ratio ------------------------------------------------------------------


class Gate(Protocol):
    """Per-token objective (to be maximised) from ratio, advantages [sequences, 1 or tokens] and current logprobs."""

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken: ...


@dataclass(frozen=True)
class ClipGate:
    """The PPO clip with its two sides apart: ``min(ratio A, clip(ratio, 1 - eps_low, 1 + eps_high) A)``.

    Raising ``eps_high`` alone lets unlikely tokens grow (DAPO's clip-higher). ``ratio_max`` also bounds the ratio of
    tokens with a negative advantage (dual-clip PPO's c, TRL's two-sided delta).
    """

    eps_low: float = 0.2
    eps_high: float = 0.2
    ratio_max: float | None = None

    def __post_init__(self) -> None:
        checks.clip_gate(self.eps_low, self.eps_high, self.ratio_max)

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken:
        clipped_ratio = ratio.clamp(1 - self.eps_low, 1 + self.eps_high)
        objective = torch.minimum(ratio * advantages, clipped_ratio * advantages)
        if self.ratio_max is not None:
            objective = torch.where(advantages < 0, objective.maximum(self.ratio_max * advantages), objective)
        return objective


@dataclass(frozen=True)
class DetachedRatioGate:
    """CISPO (arXiv 2506.13585): ``stop_gradient(min(ratio, ratio_max)) A logp``. No token loses its gradient."""

    ratio_max: float = 5.0

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken:
        return ratio.detach().clamp(max=self.ratio_max) * advantages * logprobs


@dataclass(frozen=True)
class SoftGate:
    """SAPO (arXiv 2511.20347): ``(4 / tau) sigmoid(tau (ratio - 1)) A``, a smooth gate with gradient 1 at ratio 1."""

    tau_positive: float = 1.0
    """Steepness where the advantage is above 0."""
    tau_negative: float = 1.05
    """Steepness elsewhere."""

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken:
        tau = torch.full_like(advantages, self.tau_negative).masked_fill(advantages > 0, self.tau_positive)
        return 4 / tau * torch.sigmoid(tau * (ratio - 1)) * advantages


@dataclass(frozen=True)
class NoGate:
    """Plain importance weighting, ``ratio A``."""

    def __call__(self, ratio: PerToken, advantages: Tensor, logprobs: PerToken) -> PerToken:
        return ratio * advantages


# --- ratio level: one ratio per token or per sequence ---------------------------------------------------------------


class RatioLevel(Protocol):
    """Importance ratio of each token from log-ratios, mask and advantages [sequences, 1 or tokens]."""

    def __call__(self, log_ratio: PerToken, mask: Bool[Tensor, "sequences tokens"], advantages: Tensor) -> PerToken: ...


@dataclass(frozen=True)
class TokenRatio:
    """Each token its own ratio, ``exp(logp_t - old_logp_t)``."""

    def __call__(self, log_ratio: PerToken, mask: Tensor, advantages: Tensor) -> PerToken:
        return log_ratio.exp()


@dataclass(frozen=True)
class SequenceRatio:
    """One length-normalised ratio per sequence, ``exp(mean_t log ratio_t)`` (GSPO, arXiv 2507.18071).

    It stays near 1: use ``eps_low=3e-4 eps_high=4e-4`` and `SequenceMean`.
    """

    def __call__(self, log_ratio: PerToken, mask: Tensor, advantages: Tensor) -> PerToken:
        return _sequence_mean(log_ratio, mask).exp().expand_as(log_ratio)


@dataclass(frozen=True)
class GeometricRatio:
    """Tokens clipped in log space on the side their advantage pushes to, then averaged (GMPO, arXiv 2507.20673).

    Takes the place of a gate: use it with `NoGate`.
    """

    clip: float = 0.4

    def __call__(self, log_ratio: PerToken, mask: Tensor, advantages: Tensor) -> PerToken:
        clipped = torch.where(advantages > 0, log_ratio.clamp(max=self.clip), log_ratio.clamp(min=-self.clip))
        return _sequence_mean(clipped, mask).exp().expand_as(log_ratio)


def _sequence_mean(values: PerToken, mask: Tensor) -> Tensor:
    return (values * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)


# --- aggregation: the weight of each token, see the table at the top ------------------------------------------------


class Aggregation(Protocol):
    """Weight of each token of each sequence, [prompts, group]; 0 for sequences without a trained token."""

    def weights(self, lengths: Lengths, totals: Totals) -> Float[Tensor, "prompts group"]: ...


@dataclass(frozen=True)
class GroupTokenMean:
    """A token mean inside each group, then a mean over groups (REPO): ``1 / (N L_g)``."""

    def weights(self, lengths: Lengths, totals: Totals) -> Tensor:
        return _inverse(totals.groups * lengths.sum(-1, keepdim=True).expand_as(lengths), lengths)


@dataclass(frozen=True)
class BatchTokenMean:
    """A mean over all tokens of the minibatch (DAPO): ``1 / sum L``."""

    def weights(self, lengths: Lengths, totals: Totals) -> Tensor:
        return _inverse(torch.full_like(lengths, 1) * totals.tokens, lengths)


@dataclass(frozen=True)
class SequenceMean:
    """A token mean inside each sequence, then a mean over sequences (GRPO): ``1 / (n L_i)``."""

    def weights(self, lengths: Lengths, totals: Totals) -> Tensor:
        return _inverse(totals.sequences * lengths, lengths)


@dataclass(frozen=True)
class ConstantLength:
    """Token sums over a constant (Dr. GRPO): ``1 / (n L_max)``. The weight of a token knows no length."""

    max_tokens: int = 1024
    """L_max: the generation budget ``max_new_tokens``."""

    def weights(self, lengths: Lengths, totals: Totals) -> Tensor:
        return _inverse(torch.full_like(lengths, self.max_tokens) * totals.sequences, lengths)


def _inverse(denominators: Tensor, lengths: Tensor) -> Tensor:
    denominators = denominators.to(torch.float64)
    return torch.where(lengths > 0, 1 / denominators.clamp(min=1e-30), 0.0)


# --- KL to the reference --------------------------------------------------------------------------------------------


class KLPenalty(Protocol):
    """A pull towards the reference policy: through the advantages, through a penalty on each token, or neither."""

    @property
    def beta(self) -> float: ...

    def shape(self, advantages: Tensor, inputs: LossInputs) -> Tensor: ...

    def penalty(self, logprobs: PerToken, inputs: LossInputs) -> PerToken | float: ...


@dataclass(frozen=True)
class K1:
    """The k1 estimate as a per-token reward: ``A_t - beta (old_logp_t - ref_logp_t)``.

    It is taken off *after* the advantage. Inside a ranked reward it would untie every group (arXiv 2512.21852).
    """

    beta: float = 0.0

    def shape(self, advantages: Tensor, inputs: LossInputs) -> Tensor:
        return advantages - self.beta * (inputs.old_logprobs - _reference(inputs))

    def penalty(self, logprobs: PerToken, inputs: LossInputs) -> float:
        return 0.0


@dataclass(frozen=True)
class K2:
    """``beta / 2 (logp - ref_logp)^2`` in the loss, weighted by the ratio in off-policy epochs (arXiv 2512.21852)."""

    beta: float = 0.0

    def shape(self, advantages: Tensor, inputs: LossInputs) -> Tensor:
        return advantages

    def penalty(self, logprobs: PerToken, inputs: LossInputs) -> PerToken:
        ratio = (logprobs - inputs.old_logprobs).exp().detach()
        return self.beta * ratio * 0.5 * (logprobs - _reference(inputs)).square()


@dataclass(frozen=True)
class K3:
    """``beta (exp(ref - logp) - (ref - logp) - 1)`` in the loss (GRPO). Its gradient is biased (arXiv 2512.21852)."""

    beta: float = 0.0

    def shape(self, advantages: Tensor, inputs: LossInputs) -> Tensor:
        return advantages

    def penalty(self, logprobs: PerToken, inputs: LossInputs) -> PerToken:
        difference = _reference(inputs) - logprobs
        return self.beta * (difference.exp() - difference - 1)


def _reference(inputs: LossInputs) -> PerToken:
    if inputs.ref_logprobs is None:
        raise ValueError("beta is above 0, but there are no reference logprobs: set beta=0 or load a reference.")
    return inputs.ref_logprobs


# --- the loss -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PolicyLoss:
    """The negated objective ``sum_i w_i sum_t c_it (gate(ratio_it, A_it) - KL_it)``; see the axes above.

    c is the sampler correction; it weighs the KL penalty, too, whose expectation is over the same drawn tokens.

    The default point is REPO: ``-E[1/sum_i |o_i| sum_i sum_t min(ratio A, clip(ratio, 1-eps_low, 1+eps_high) A)]``.
    """

    gate: Gate = field(default_factory=ClipGate)
    ratio: RatioLevel = field(default_factory=TokenRatio)
    aggregation: Aggregation = field(default_factory=GroupTokenMean)
    kl: KLPenalty = field(default_factory=K3)
    correction: SamplerCorrection = field(default_factory=NoCorrection)

    def __post_init__(self) -> None:
        if self.kl.beta < 0:
            raise ValueError(f"beta={self.kl.beta}: give a number of at least 0.")

    @property
    def needs_reference(self) -> bool:
        """Whether reference logprobs are read. At beta 0 no reference is loaded or run."""
        return self.kl.beta > 0

    def __call__(self, logprobs: PerToken, inputs: LossInputs) -> LossOutputs:
        """Loss of some sequences of a minibatch; the losses of its micro-batches add up to the minibatch's.

        Args:
            logprobs: Current log-probabilities in nats, at the sampling temperature. Gradients flow through these.
            inputs: Everything else, of the same sequences; a shape that does not match raises a ValueError.
        """
        _check_shapes(logprobs, inputs)
        mask = inputs.mask
        log_ratio = (logprobs - inputs.old_logprobs).masked_fill(~mask, 0.0)
        advantages = inputs.advantages.unsqueeze(-1)
        if self.needs_reference:
            advantages = self.kl.shape(advantages, inputs)
        ratio = self.ratio(log_ratio, mask, advantages)
        objective = self.gate(ratio, advantages, logprobs)
        if self.needs_reference:
            objective = objective - self.kl.penalty(logprobs, inputs)
        if inputs.sampler_logprobs is not None:
            objective = objective * self.correction(sampler_ratio(inputs))
        weights = inputs.weights.to(objective.dtype).unsqueeze(-1)
        loss = -(weights * objective.masked_fill(~mask, 0.0)).sum()
        return LossOutputs(loss, *self._measure(log_ratio.detach(), ratio.detach(), advantages, inputs))

    @torch.no_grad()
    def _measure(
        self, log_ratio: Tensor, ratio: Tensor, advantages: Tensor, inputs: LossInputs
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        mask = inputs.mask
        low, high = 1 - getattr(self.gate, "eps_low", 1.0), 1 + getattr(self.gate, "eps_high", torch.inf)
        sums = {
            "ratio/mean": ratio,
            "clip_fraction/low": (ratio < low) & (advantages < 0),
            "clip_fraction/high": (ratio > high) & (advantages > 0),
            "approx_kl": log_ratio.expm1() - log_ratio,
        }
        if inputs.ref_logprobs is not None:
            difference = inputs.ref_logprobs - inputs.old_logprobs
            sums["reference_kl"] = difference.expm1() - difference
        if inputs.sampler_logprobs is not None:
            w = sampler_ratio(inputs)
            sums["correction/weight"] = self.correction(w)
            sums["correction/limited"] = w > getattr(self.correction, "cap", torch.inf)
        maxima = {"ratio/max": ratio, "ratio/max_deviation": (ratio - 1).abs()}
        return (
            {name: (values * mask).sum() for name, values in sums.items()},
            {name: (values * mask).max() for name, values in maxima.items()},
            mask.sum(),
        )


def _check_shapes(logprobs: Tensor, inputs: LossInputs) -> None:
    sequences, tokens = logprobs.shape
    wanted: dict[str, tuple[int, ...]] = {"old_logprobs": (sequences, tokens), "mask": (sequences, tokens)}
    wanted |= {"advantages": (sequences,), "weights": (sequences,)}
    if inputs.sampler_logprobs is not None:
        wanted["sampler_logprobs"] = (sequences, tokens)
    for name, shape in wanted.items():
        found = tuple(getattr(inputs, name).shape)
        if found != shape:
            raise ValueError(
                f"LossInputs.{name} has shape {list(found)}; with logprobs [sequences, tokens] = {[sequences, tokens]} "
                f"it must be {list(shape)}. Flatten [prompts, group] tensors."
            )
