"""The batches that travel through one training step, and the legend of their axes.

Axis words, used in every public annotation:

- ``prompts``: the P prompts of one iteration (one row per problem).
- ``group``: the G completions sampled for one prompt. The group is an axis, never an index column.
- ``groups``: the groups of one minibatch, some of the ``prompts``.
- ``sequences``: ``prompts * group`` rows, after the group axis was flattened (in `Experience.minibatch` alone).
- ``prompt_tokens``: prompt positions, padded on the left.
- ``tokens``: completion positions, padded on the right.

Masks are bool and True where a token counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PerToken = Float[Tensor, "sequences tokens"]
PerSample = Float[Tensor, "prompts group"]

_Batch = TypeVar("_Batch")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Prompts:
    """Problems of one iteration, encoded for a policy."""

    problems: tuple[str, ...]
    """Problem texts, as the user wrote them."""
    answers: tuple[str, ...]
    """Gold answers."""
    token_ids: tuple[tuple[int, ...], ...]
    """Prompt tokens after the chat template, unpadded."""
    indices: tuple[int, ...]
    """Global index of each prompt in its iteration: with the seed, all that sampling depends on."""
    iteration: int = 0
    """RL iteration the prompts are for."""
    intermediate: tuple[tuple[str, ...], ...] = ()
    """Intermediate results on the way to each answer, in order; empty where the problems come without any."""
    spares: int = 0
    """How many of the last ones are drawn in the place of groups without a signal alone."""

    def __len__(self) -> int:
        return len(self.problems)

    def take(self, rows: Sequence[int]) -> Prompts:
        """The prompts of the chosen rows, with their global indices."""
        return Prompts(
            problems=tuple(self.problems[row] for row in rows),
            answers=tuple(self.answers[row] for row in rows),
            token_ids=tuple(self.token_ids[row] for row in rows),
            indices=tuple(self.indices[row] for row in rows),
            iteration=self.iteration,
            intermediate=tuple(self.intermediate[row] for row in rows) if self.intermediate else (),
        )


@dataclass(frozen=True)
class Rollouts:
    """G sampled completions for each of P prompts."""

    prompt_ids: Int[Tensor, "prompts prompt_tokens"]
    prompt_mask: Bool[Tensor, "prompts prompt_tokens"]
    completion_ids: Int[Tensor, "prompts group tokens"]
    completion_mask: Bool[Tensor, "prompts group tokens"]
    """True up to and including the first end-of-sequence token."""
    sampler_logprobs: Float[Tensor, "prompts group tokens"]
    """Log-probabilities recorded while sampling, at the sampling temperature, in nats; 0 where masked."""
    truncated: Bool[Tensor, "prompts group"]
    """True where a completion ran into ``max_new_tokens`` without ending."""
    completions: tuple[tuple[str, ...], ...]
    """Decoded completions without special tokens."""
    sampled_mask: Bool[Tensor, "prompts group tokens"] | None = None
    """False for tokens a tool wrote, which are attended to and not trained on; None: the policy drew all."""
    tool_calls: tuple[Any, ...] = ()
    """What tools gave (`grouprl.sandbox.sandbox.ToolOutput`)."""

    @property
    def drawn(self) -> Bool[Tensor, "prompts group tokens"]:
        """Completion tokens that were drawn from the policy."""
        return self.completion_mask if self.sampled_mask is None else self.sampled_mask

    @property
    def lengths(self) -> Int[Tensor, "prompts group"]:
        """Number of completion tokens, the end-of-sequence token included."""
        return self.completion_mask.sum(-1)


class TokenLogprobs(NamedTuple):
    """Results of one forward pass for each completion token, in nats; 0 where masked."""

    logprobs: PerToken
    entropy: PerToken
    """Entropy of the distribution each token was drawn from, without gradient."""


@dataclass(frozen=True)
class LossInputs:
    """What a loss needs beside the current logprobs. One row per sequence."""

    old_logprobs: PerToken
    """Of the policy that sampled, in nats, at the sampling temperature."""
    advantages: Float[Tensor, " sequences"]
    """One for each sequence."""
    mask: Bool[Tensor, "sequences tokens"]
    """True at completion tokens that are trained on. Elsewhere logprobs may be anything."""
    token_weights: Float[Tensor, " sequences"]
    """Weight of each token of a sequence, fixed over the whole minibatch (see `grouprl.losses.aggregations`)."""
    ref_logprobs: PerToken | None = None
    sampler_logprobs: PerToken | None = None
    """The sampler's own, where those are not the old logprobs (see `grouprl.losses.corrections`)."""


_DEVIATIONS = [10 ** (exponent / 4) for exponent in range(-16, 1)]
RATIO_EDGES = (*(1 - deviation for deviation in reversed(_DEVIATIONS)), *(1 + deviation for deviation in _DEVIATIONS))
"""Edges of the bins that ratios are counted in, from 0 to 2: the closer to 1, the finer."""


@dataclass(frozen=True)
class LossOutputs:
    """What a loss returns: the loss, and sums over trained tokens from which means are made by the caller."""

    loss: Float[Tensor, ""]
    token_sums: dict[str, Float[Tensor, ""]]
    """Sums over trained tokens by name (``ratio/mean``, ``approx_kl`` in nats, ``clip_fraction/high`` and what else the
    axes measure): divide by ``tokens``."""
    maxima: dict[str, Float[Tensor, ""]]
    """Largest values over trained tokens by name."""
    tokens: Int[Tensor, ""]
    """Trained tokens."""
    ratio_counts: Int[Tensor, " bins"] | None = None
    """How many of them have a ratio between two of `RATIO_EDGES`, or beyond the last; None: not counted."""


@dataclass(frozen=True)
class Minibatch:
    """Whole groups with the group axis flattened, ready for one optimizer step."""

    prompt_ids: Int[Tensor, "sequences prompt_tokens"]
    prompt_mask: Bool[Tensor, "sequences prompt_tokens"]
    completion_ids: Int[Tensor, "sequences tokens"]
    completion_mask: Bool[Tensor, "sequences tokens"]
    loss_inputs: LossInputs | None = None
    sampled_mask: Bool[Tensor, "sequences tokens"] | None = None
    """As in `Rollouts`."""

    @property
    def drawn(self) -> Bool[Tensor, "sequences tokens"]:
        """Completion tokens that were drawn from the policy."""
        return self.completion_mask if self.sampled_mask is None else self.sampled_mask

    def __len__(self) -> int:
        return len(self.completion_ids)

    def with_signal(self) -> Minibatch:
        """Rows whose advantage is not zero: exact when nothing but the advantage gives a gradient."""
        assert self.loss_inputs is not None
        return self.rows((self.loss_inputs.advantages != 0).nonzero().squeeze(-1))

    @property
    def new_prompt(self) -> Bool[Tensor, " sequences"]:
        """True where a sequence has another prompt than the one before it: the sequences of a group are neighbours."""
        first = torch.ones(len(self), dtype=torch.bool, device=self.prompt_ids.device)
        same = (self.prompt_ids[1:] == self.prompt_ids[:-1]) & (self.prompt_mask[1:] == self.prompt_mask[:-1])
        first[1:] = ~same.all(-1)
        return first

    @property
    def tokens(self) -> int:
        """Tokens of a forward pass: completions, and each prompt that neighbours share once. Padding does not count."""
        return int(self.prompt_mask[self.new_prompt].sum() + self.completion_mask.sum())

    def micro_batches(self, sequences: int = 0, tokens: int = 0) -> Iterator[Minibatch]:
        """Pieces that hold whole groups where they fit, groups of similar length together, padding trimmed.

        Args:
            sequences: At most so many sequences in a piece; 0: any number.
            tokens: At most so many tokens in a piece, a shared prompt counted once; 0: any number. A single sequence
                may exceed it.
        """
        return (self.piece(rows) for rows in self.cuts(sequences, tokens))

    def cuts(self, sequences: int = 0, tokens: int = 0) -> Iterator[Int[Tensor, " rows"]]:
        """Rows of each piece of `micro_batches`, for who puts results back in their place."""
        lengths, prompts = self.completion_mask.sum(-1).tolist(), self.prompt_mask.sum(-1).tolist()
        groups: list[list[int]] = []
        for row, first in enumerate(self.new_prompt.tolist()):
            if first:
                groups.append([])
            groups[-1].append(row)
        groups.sort(key=lambda rows: prompts[rows[0]] + max(lengths[row] for row in rows))

        def fit(parts: Sequence[Sequence[int]]) -> bool:
            """Whether parts of groups, each of which has its prompt computed, make one piece."""
            cost = sum(prompts[rows[0]] + sum(lengths[row] for row in rows) for rows in parts)
            return (not sequences or sum(map(len, parts)) <= sequences) and (not tokens or cost <= tokens)

        parts = [part for rows in groups for part in _runs(rows, lambda rows: fit([rows]))]
        for piece in _runs(parts, fit):
            yield torch.tensor([row for rows in piece for row in rows], device=self.prompt_ids.device)

    def rows(self, rows: Int[Tensor, " rows"]) -> Minibatch:
        """The chosen sequences."""
        return _map_tensors(self, lambda tensor: tensor[rows])

    def piece(self, rows: Int[Tensor, " rows"]) -> Minibatch:
        """The chosen sequences, without columns that are padding in all of them."""
        return self.rows(rows)._trimmed()

    def _trimmed(self) -> Minibatch:
        first = self.prompt_mask.shape[-1] - int(self.prompt_mask.sum(-1).max())
        longest = int(self.completion_mask.sum(-1).max())
        return Minibatch(
            prompt_ids=self.prompt_ids[:, first:],
            prompt_mask=self.prompt_mask[:, first:],
            completion_ids=self.completion_ids[:, :longest],
            completion_mask=self.completion_mask[:, :longest],
            loss_inputs=None
            if self.loss_inputs is None
            else _map_tensors(self.loss_inputs, lambda t: t[:, :longest] if t.ndim == 2 else t),
            sampled_mask=None if self.sampled_mask is None else self.sampled_mask[:, :longest],
        )


@dataclass(frozen=True)
class Experience:
    """Scored rollouts: what the PPO epochs of one iteration train on."""

    rollouts: Rollouts
    advantages: Float[Tensor, "prompts group"]
    trained: Bool[Tensor, "prompts group"]
    """False for samples left out of numerator and denominators (unscorable, or truncated where so asked)."""
    ref_logprobs: Float[Tensor, "prompts group tokens"] | None = None
    old_logprobs: Float[Tensor, "prompts group tokens"] | None = None
    """The trainer's own, before the first optimizer step; None: those the sampler recorded."""

    @property
    def mask(self) -> Bool[Tensor, "prompts group tokens"]:
        """Tokens that are trained on."""
        return self.rollouts.drawn & self.trained.unsqueeze(-1)

    def minibatch(self, groups: Int[Tensor, " groups"], token_weights: Float[Tensor, "groups group"]) -> Minibatch:
        """Flatten the chosen groups into sequences. This is the one place where the group axis goes.

        Args:
            groups: Rows of the chosen groups.
            token_weights: Weight of each token of each of their sequences.
        """
        rollouts, group_size = self.rollouts, self.advantages.shape[1]
        mask = self.mask[groups]
        sampler_logprobs = rollouts.sampler_logprobs[groups].flatten(0, 1)
        inputs = LossInputs(
            old_logprobs=sampler_logprobs if self.old_logprobs is None else self.old_logprobs[groups].flatten(0, 1),
            advantages=self.advantages[groups].flatten(),
            mask=mask.flatten(0, 1),
            token_weights=token_weights.flatten(),
            ref_logprobs=None if self.ref_logprobs is None else self.ref_logprobs[groups].flatten(0, 1),
            sampler_logprobs=None if self.old_logprobs is None else sampler_logprobs,
        )
        return Minibatch(
            prompt_ids=rollouts.prompt_ids[groups].repeat_interleave(group_size, 0),
            prompt_mask=rollouts.prompt_mask[groups].repeat_interleave(group_size, 0),
            completion_ids=rollouts.completion_ids[groups].flatten(0, 1),
            completion_mask=rollouts.completion_mask[groups].flatten(0, 1),
            loss_inputs=inputs,
            sampled_mask=None if rollouts.sampled_mask is None else rollouts.sampled_mask[groups].flatten(0, 1),
        )


@dataclass(frozen=True)
class MinibatchCounts:
    """Counts over the whole minibatch (all micro-batches, all ranks), from which denominators are made."""

    groups: float
    """Groups with at least one trained token."""
    sequences: float
    """Sequences with at least one trained token."""
    tokens: float
    """Trained tokens."""

    @classmethod
    def of(cls, lengths: Int[Tensor, "prompts group"]) -> MinibatchCounts:
        """The counts of a minibatch that is on this rank as a whole, from the trained tokens of its sequences."""
        return cls(*cls.count(lengths).tolist())

    @classmethod
    def count(cls, lengths: Int[Tensor, "prompts group"]) -> Float[Tensor, 3]:
        """The three counts of a minibatch as a tensor, so that ranks can sum them."""
        counts = ((lengths.sum(-1) > 0).sum(), (lengths > 0).sum(), lengths.sum())
        return torch.stack(counts).to(torch.float64)


def _runs(items: Sequence[_Item], fit: Callable[[list[_Item]], bool]) -> Iterator[list[_Item]]:
    """Neighbours together for as long as they fit; an item that does not fit by itself stands alone."""
    run: list[_Item] = []
    for item in items:
        if run and not fit([*run, item]):
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def _map_tensors(batch: _Batch, function: Callable[[Tensor], Tensor]) -> _Batch:
    """A copy of a batch with ``function`` applied to each tensor, nested batches included."""
    changes: dict[str, object] = {}
    for field in fields(batch):  # type: ignore[arg-type]
        value = getattr(batch, field.name)
        if isinstance(value, LossInputs):
            changes[field.name] = _map_tensors(value, function)
        elif isinstance(value, Tensor):
            changes[field.name] = function(value)
    return replace(batch, **changes)  # type: ignore[type-var]
