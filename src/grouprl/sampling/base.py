"""What samplers share: G completions per prompt, with the logprobs of the very distribution they were drawn from.

Every draw is a function of (seed, iteration, global prompt index, sample index): neither the batch a prompt shares
nor the rank it is on changes its completions.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from grouprl.batch import Prompts, Rollouts
from grouprl.policy.plain import pad_left
from grouprl.policy.policy import Policy
from grouprl.sampling.decoding import Decoder, Key
from grouprl.sandbox.sandbox import ToolOutput


class Sampler(Protocol):
    """Draws a group of completions for each prompt. A dataclass, so that `dataclasses.replace` sets the group size."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def group_size(self) -> int:
        """Completions of each prompt."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Tokens of the longest completion."""
        ...

    @property
    def max_sequences(self) -> int:
        """Sequences that are decoded at once at most, 0: any number. Completions do not depend on it."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the logprobs it records are the trainer's own up to rounding, and so the old logprobs."""
        ...

    def __call__(self, policy: Policy, prompts: Prompts, *, seed: int, greedy: bool = False) -> Rollouts:
        """Sample ``group_size`` completions for each prompt (one with ``greedy``).

        Args:
            policy: The policy; its temperature is the sampling temperature.
            prompts: P prompts.
            seed: Seed of the run.
            greedy: Take the most likely token each time.
        """
        ...


@dataclass(frozen=True)
class DecodedRows:
    """Decoded rows, with what tools added to them."""

    token_ids: Tensor
    """[rows, tokens]"""
    logprobs: Tensor
    """[rows, tokens]; 0 for tool tokens."""
    lengths: Tensor
    """[rows]"""
    truncated: Tensor
    """[rows]: cut off at the limit."""
    sampled: Tensor | None = None
    """[rows, tokens]: False for tool tokens; None: all were drawn."""
    calls: tuple[ToolOutput, ...] = ()
    """Outputs of all tool calls, in no order."""

    @classmethod
    def of(cls, decoder: Decoder) -> DecodedRows:
        """The rows of a decoder that has run."""
        truncated = ~(decoder.ended | decoder.stopped)
        return cls(decoder.token_ids, decoder.logprobs, decoder.lengths, truncated)


def check_lengths(policy: Policy, prompts: Prompts, max_new_tokens: int, context: int | None = None) -> None:
    """Refuse prompts whose completions may not fit the context: the model's, or ``context`` if smaller."""
    limits = [limit for limit in (context, policy.context) if limit is not None]
    longest = max(len(ids) for ids in prompts.token_ids)
    context = min(limits, default=None)
    if context is not None and longest + max_new_tokens > context:
        raise ValueError(
            f"max_new_tokens={max_new_tokens}: with a prompt of {longest} tokens it exceeds the context of {context} "
            f"tokens. Use max_new_tokens={max(1, context - longest)} or less."
        )


def sampling_seed(seed: int, repeat: str | None) -> int:
    """The seed of training's draws: the run's, and with the name of a repetition one of its own."""
    return seed if repeat is None else seed + (zlib.crc32(repeat.encode()) + 1) * 2**64


def keys_of(prompts: Prompts, group: int, seed: int) -> list[Key]:
    """The key of each row's random stream: (seed, iteration, global prompt index, sample index)."""
    return [(seed, prompts.iteration, index, sample) for index in prompts.indices for sample in range(group)]


def assemble(
    policy: Policy, prompts: Prompts, decoded: Sequence[DecodedRows], group: int, stop: Sequence[str] = ()
) -> Rollouts:
    """Rollouts of P prompts from decoded rows, ``group`` rows to a prompt; texts are cut at the first of ``stop``."""
    lengths = torch.cat([part.lengths for part in decoded])
    width = int(lengths.max())

    def joined(parts: Sequence[Tensor]) -> Tensor:
        rows = [torch.nn.functional.pad(part[:, :width], (0, max(0, width - part.shape[1]))) for part in parts]
        return torch.cat(rows).unflatten(0, (len(prompts), group))

    pad = policy.tokenizer.pad_token_id
    completion_mask = (torch.arange(width, device=lengths.device) < lengths.unsqueeze(-1)).unflatten(
        0, (len(prompts), group)
    )
    completion_ids = joined([part.token_ids for part in decoded]).masked_fill(~completion_mask, pad)
    rows = zip(completion_ids.flatten(0, 1).tolist(), lengths.tolist(), strict=True)
    texts = [_cut(text, stop) for text in policy.texts_of(row[:length] for row, length in rows)]
    prompt_ids, prompt_mask = pad_left(prompts.token_ids, pad, policy.device)
    tools = any(part.sampled is not None for part in decoded)
    return Rollouts(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=completion_ids,
        completion_mask=completion_mask,
        sampler_logprobs=joined([part.logprobs for part in decoded]),
        truncated=torch.cat([part.truncated for part in decoded]).unflatten(0, (len(prompts), group)),
        completions=tuple(tuple(texts[i : i + group]) for i in range(0, len(texts), group)),
        sampled_mask=joined([part.sampled for part in decoded if part.sampled is not None]) & completion_mask
        if tools
        else None,
        tool_calls=tuple(call for part in decoded for call in part.calls),
    )


def _cut(text: str, stop: Sequence[str]) -> str:
    """A completion up to the first stop text."""
    ends = [position for position in (text.find(end) for end in stop) if position >= 0]
    return text[: min(ends)] if ends else text
