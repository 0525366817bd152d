"""Policy losses as points on five axes: gate x ratio level x aggregation x KL x sampler correction.

``PolicyLoss(gate, ratio, aggregation, kl, correction)`` is every loss here; a paper's loss is a choice on each axis
(the presets are `conf/loss/*.yaml`, the axes `conf/loss/AXIS/*.yaml`). A loss is called on the logprobs of some
sequences and their `LossInputs`, and returns `LossOutputs`; it never logs and holds no state. Each axis says itself
what of it is worth logging; denominators are those of `grouprl.losses.aggregations`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from grouprl.batch import RATIO_EDGES, LossInputs, LossOutputs, PerToken
from grouprl.losses.aggregations import Aggregation, GroupTokenMean
from grouprl.losses.corrections import NoCorrection, SamplerCorrection, sampler_ratio
from grouprl.losses.gates import ClipGate, Gate
from grouprl.losses.kl import K3, KLPenalty
from grouprl.losses.ratios import RatioLevel, TokenRatio


@dataclass(frozen=True)
class PolicyLoss:
    """The negated objective ``sum_i w_i sum_t c_it (gate(ratio_it, A_it) - KL_it)``.

    w are the token weights; c is the sampler correction, which weighs the KL penalty, too, whose expectation is over
    the same drawn tokens.

    The default point is REPO: ``-E[1/sum_i |o_i| sum_i sum_t min(ratio A, clip(ratio, 1-eps_low, 1+eps_high) A)]``.
    """

    gate: Gate = field(default_factory=ClipGate)
    """How an advantage acts through the ratio."""
    ratio: RatioLevel = field(default_factory=TokenRatio)
    """One importance ratio for each token, or one for each sequence."""
    aggregation: Aggregation = field(default_factory=GroupTokenMean)
    """The denominators; its caller makes the token weights of `LossInputs` with it."""
    kl: KLPenalty = field(default_factory=K3)
    """The pull towards the reference policy."""
    correction: SamplerCorrection = field(default_factory=NoCorrection)
    """Weight of tokens that another distribution drew."""

    @property
    def needs_reference(self) -> bool:
        """Whether reference logprobs are read. At beta 0 no reference is loaded or run."""
        return self.kl.beta > 0

    @property
    def band(self) -> tuple[float, float]:
        """How far below and above 1 ratios are left alone; 0.2 where the gate has no such clip."""
        return getattr(self.gate, "eps_low", 0.2), getattr(self.gate, "eps_high", 0.2)

    def __call__(self, logprobs: PerToken, inputs: LossInputs) -> LossOutputs:
        """Loss of some sequences of a minibatch; the losses of its micro-batches add up to the minibatch's.

        Args:
            logprobs: Current log-probabilities [sequences, tokens] in nats, at the sampling temperature. Gradients flow
                through these.
            inputs: Everything else, of the same sequences.

        Returns:
            The loss, a scalar with gradient, and sums and maxima over trained tokens of what the axes measure.

        Raises:
            ValueError: A tensor of ``inputs`` or what the gate returns has another shape, or there are no reference
                logprobs and beta is above 0.
        """
        _check_shapes(logprobs, inputs)
        mask = inputs.mask
        log_ratio = (logprobs - inputs.old_logprobs).masked_fill(~mask, 0.0)
        advantages = inputs.advantages.unsqueeze(-1)
        if self.needs_reference:
            advantages = self.kl.adjust_advantages(advantages, inputs)
        ratio = self.ratio(log_ratio, mask, advantages)
        objective = self.gate(ratio, advantages, logprobs)
        if objective.shape != logprobs.shape:
            raise ValueError(
                f"The gate {type(self.gate).__name__} returned {list(objective.shape)}: it must return one objective a "
                f"token, [sequences, tokens] = {list(logprobs.shape)}."
            )
        if self.needs_reference:
            objective = objective - self.kl.penalty(logprobs, inputs)
        if inputs.sampler_logprobs is not None:
            objective = objective * self.correction(sampler_ratio(inputs))
        weights = inputs.token_weights.to(objective.dtype).unsqueeze(-1)
        loss = -(weights * objective.masked_fill(~mask, 0.0)).sum()
        ratio, log_ratio = ratio.detach(), log_ratio.detach()
        return LossOutputs(loss, *self._measure(log_ratio, ratio, advantages, inputs), _counts(ratio[mask]))

    @torch.no_grad()
    def _measure(
        self, log_ratio: Tensor, ratio: Tensor, advantages: Tensor, inputs: LossInputs
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        mask = inputs.mask
        values = {"ratio/mean": ratio, "approx_kl": log_ratio.expm1() - log_ratio}
        if inputs.ref_logprobs is not None:
            difference = (inputs.ref_logprobs - inputs.old_logprobs).masked_fill(~mask, 0.0)
            values["reference_kl"] = difference.expm1() - difference
        values |= _measures_of(self.ratio, log_ratio, mask, advantages) | _measures_of(self.gate, ratio, advantages)
        if inputs.sampler_logprobs is not None:
            values |= _measures_of(self.correction, sampler_ratio(inputs))
        maxima = {"ratio/max": ratio, "ratio/max_deviation": (ratio - 1).abs()}
        return (
            {name: (value * mask).sum() for name, value in values.items()},
            {name: (value * mask).max() for name, value in maxima.items()},
            mask.sum(),
        )


def _measures_of(axis: object, *arguments: Tensor) -> dict[str, Tensor]:
    """What an axis measures of each token; those that measure nothing, such as a plain function, need not say so."""
    measures = getattr(axis, "measures", None)
    return measures(*arguments) if measures is not None else {}


def _check_shapes(logprobs: Tensor, inputs: LossInputs) -> None:
    sequences, tokens = logprobs.shape
    if inputs.mask.dtype != torch.bool:
        raise ValueError(
            f"LossInputs.mask has dtype {inputs.mask.dtype}: give bools, True where a token is trained on."
        )
    per_token, per_sequence = (sequences, tokens), (sequences,)
    wanted: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("old_logprobs", "mask", "ref_logprobs", "sampler_logprobs"), per_token),
        **dict.fromkeys(("advantages", "token_weights"), per_sequence),
    }
    for name, shape in wanted.items():
        tensor = getattr(inputs, name)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(
                f"LossInputs.{name} has shape {list(tensor.shape)}; with logprobs [sequences, tokens] = "
                f"{[sequences, tokens]} it must be {list(shape)}. Flatten [prompts, group] tensors."
            )


def _counts(ratios: Tensor) -> Tensor:
    """How many ratios lie between the edges."""
    edges = torch.tensor(RATIO_EDGES, dtype=ratios.dtype, device=ratios.device)
    return torch.bincount(torch.bucketize(ratios, edges), minlength=len(RATIO_EDGES) + 1)
