"""Which groups make a minibatch, and how much their tokens weigh: the same on any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from grouprl.batch import Experience, MinibatchCounts
from grouprl.losses.aggregations import Aggregation


def minibatch_groups(
    groups: int, minibatches: int, *, seed: tuple[int, ...], rank: int = 0
) -> Iterator[Int[Tensor, " groups"]]:
    """The groups of each minibatch of a PPO epoch, by their row on this rank.

    The groups of all ranks are cut into blocks of as many groups as there are minibatches, and each minibatch takes one
    group of each stratum, drawn from (seed, stratum). So minibatches are the same sets of groups on any number of
    ranks, and each rank holds as many groups of each.

    Args:
        groups: Groups on this rank, a multiple of ``minibatches``.
        minibatches: Minibatches of an epoch.
        seed: What the draw depends on beside the stratum: the run's seed, iteration and epoch.
        rank: This rank.
    """
    strata = groups // minibatches
    rows = np.stack(
        [
            stratum * minibatches + np.random.default_rng((*seed, rank * strata + stratum)).permutation(minibatches)
            for stratum in range(strata)
        ]
    )
    yield from torch.from_numpy(rows).unbind(dim=1)


def token_weights(
    aggregation: Aggregation, experience: Experience, groups: Int[Tensor, " groups"], strategy: Strategy
) -> Float[Tensor, "groups group"]:
    """Weight of each token of each sequence of a minibatch, from counts over all ranks."""
    lengths = experience.mask[groups].sum(-1)
    counts = strategy.reduce(MinibatchCounts.count(lengths), reduce_op="sum")
    return aggregation.weights(lengths, MinibatchCounts(*counts.tolist()))
