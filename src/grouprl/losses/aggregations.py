"""Aggregations: the denominators of a loss, as the weight of each token.

Each sequence carries a weight that is fixed over the optimizer step's whole minibatch (all micro-batches, all ranks),
so that a loss is a plain sum and the gradient does not depend on how the minibatch is cut. With N groups, n sequences
of L_i tokens, and L_g the tokens of a group:

| aggregation | weight of a token | source |
|---|---|---|
| `GroupTokenMean` | 1 / (N L_g) | REPO |
| `BatchTokenMean` | 1 / sum L | DAPO, arXiv 2503.14476 |
| `SequenceMean` | 1 / (n L_i) | GRPO, arXiv 2402.03300 |
| `ConstantLength` | 1 / (n L_max) | Dr. GRPO, arXiv 2503.20783 |

Deviation from the REPO recipe as published: a token mean over the group does *not* keep long responses from dominating.
Under it a response weighs in proportion to its length; `SequenceMean` weighs responses alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grouprl.batch import MinibatchCounts
from grouprl.losses import checks

Lengths = Int[Tensor, "prompts group"]
"""Trained tokens of each sequence."""


class Aggregation(Protocol):
    """Weight of each token of each sequence.

    `weights` takes the lengths [prompts, group] of the sequences on this rank and the counts of the whole minibatch,
    and returns [prompts, group] in float64: 0 for sequences without a trained token.
    """

    def weights(self, lengths: Lengths, counts: MinibatchCounts) -> Float[Tensor, "prompts group"]: ...


@dataclass(frozen=True)
class GroupTokenMean:
    """A token mean inside each group, then a mean over groups (REPO): ``1 / (N L_g)``."""

    def weights(self, lengths: Lengths, counts: MinibatchCounts) -> Tensor:
        return _inverse(counts.groups * lengths.sum(-1, keepdim=True).expand_as(lengths), lengths)


@dataclass(frozen=True)
class BatchTokenMean:
    """A mean over all tokens of the minibatch (DAPO, arXiv 2503.14476): ``1 / sum L``."""

    def weights(self, lengths: Lengths, counts: MinibatchCounts) -> Tensor:
        return _inverse(torch.full_like(lengths, 1) * counts.tokens, lengths)


@dataclass(frozen=True)
class SequenceMean:
    """A token mean inside each sequence, then a mean over sequences (GRPO, arXiv 2402.03300): ``1 / (n L_i)``."""

    def weights(self, lengths: Lengths, counts: MinibatchCounts) -> Tensor:
        return _inverse(counts.sequences * lengths, lengths)


@dataclass(frozen=True)
class ConstantLength:
    """Token sums over a constant (Dr. GRPO, arXiv 2503.20783): ``1 / (n L_max)``. A token's weight knows no length."""

    max_tokens: int = 1024
    """L_max: the generation budget ``max_new_tokens``."""

    def __post_init__(self) -> None:
        checks.constant_length(self.max_tokens)

    def weights(self, lengths: Lengths, counts: MinibatchCounts) -> Tensor:
        return _inverse(torch.full_like(lengths, self.max_tokens) * counts.sequences, lengths)


def _inverse(denominators: Tensor, lengths: Tensor) -> Tensor:
    denominators = denominators.to(torch.float64)
    return torch.where(lengths > 0, 1 / denominators.clamp(min=1e-30), 0.0)
