"""Sampler corrections: the weight of a token that was drawn from another distribution than the trainer's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from grouprl.batch import LossInputs, PerToken
from grouprl.losses import checks


class SamplerCorrection(Protocol):
    """Weight of each token from ``w = exp(old_logp - sampler_logp)``: how much likelier the trainer finds it.

    Called with w [sequences, tokens], returns [sequences, tokens]. Tokens drawn by an engine whose logprobs are not the
    trainer's are off-policy from the start; an expectation over the trainer's distribution weighs each with its w. No
    gradient flows through w. Where the sampler's logprobs are the old logprobs every w is 1, and this axis is not read.
    It may have ``measures(w)``, as a `grouprl.losses.gates.Gate` may.
    """

    def __call__(self, w: PerToken) -> PerToken: ...


@dataclass(frozen=True)
class NoCorrection:
    """Each token weighs 1: what was drawn by the engine is taken for the trainer's own."""

    def __call__(self, w: PerToken) -> PerToken:
        return torch.ones_like(w)


@dataclass(frozen=True)
class TruncatedWeights:
    """``min(w, cap)``, truncated importance sampling (TIS) at token level: a bound on the variance at little bias.

    The truncation is Ionides' (2008, J. Comput. Graph. Stat. 17:295); its use between an inference engine and a
    trainer is that of https://fengyao.notion.site/off-policy-rl.
    """

    cap: float = 2.0
    """Largest weight, above 1."""

    def __post_init__(self) -> None:
        checks.truncated_weights(self.cap)

    def __call__(self, w: PerToken) -> PerToken:
        return w.clamp(max=self.cap)

    def measures(self, w: PerToken) -> dict[str, Tensor]:
        """Weight of each token, and whether it was limited."""
        return {"correction/weight": self(w), "correction/limited": w > self.cap}


@dataclass(frozen=True)
class MaskedWeights:
    """``w`` where it is at most ``cap`` and 0 elsewhere: masked importance sampling (MIS).

    A token the sampler found far too unlikely is dropped.

    Dropped tokens still count in the denominators, so that those of a minibatch do not depend on the mismatch.
    """

    cap: float = 2.0
    """Largest weight, above 1."""

    def __post_init__(self) -> None:
        checks.masked_weights(self.cap)

    def __call__(self, w: PerToken) -> PerToken:
        return w.masked_fill(w > self.cap, 0.0)

    def measures(self, w: PerToken) -> dict[str, Tensor]:
        """Weight of each token, and whether it was dropped."""
        return {"correction/weight": self(w), "correction/limited": w > self.cap}


@torch.no_grad()
def sampler_ratio(inputs: LossInputs) -> PerToken:
    """``exp(old_logp - sampler_logp)`` of each token, [sequences, tokens]; 1 where masked.

    The caller sees to it that `LossInputs.sampler_logprobs` are there.
    """
    assert inputs.sampler_logprobs is not None
    return (inputs.old_logprobs - inputs.sampler_logprobs).masked_fill(~inputs.mask, 0.0).exp()
