"""Sampling: G completions per prompt, with the logprobs of the very distribution they were drawn from.

Every draw is a function of (seed, iteration, global prompt index, sample index): neither the batch a prompt shares
nor the rank it is on changes its completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from grouprl import checks
from grouprl.batch import Prompts, Rollouts
from grouprl.decoding import Decoder, Key
from grouprl.policy import Policy, pad_left
from grouprl.tool_decoding import ToolRounds, Written


class Sampler(Protocol):
    """Draws a group of completions for each prompt. A dataclass, so that `dataclasses.replace` sets the group size."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def group_size(self) -> int:
        """Completions of each prompt."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the logprobs it records are the trainer's own up to rounding, and so the old logprobs."""
        ...

    def __call__(self, policy: Policy, prompts: Prompts, *, seed: int, greedy: bool = False) -> Rollouts: ...


@dataclass(frozen=True)
class GroupSampler:
    """Samples a group of completions for each prompt, prefilling each prompt once.

    ``top_k`` and ``top_p`` are here to be refused: a truncated distribution is not the policy's own, and its
    probabilities would not be those that are trained.
    """

    exact: ClassVar[bool] = True

    group_size: int = 8
    max_new_tokens: int = 96
    """Longest completion, the output of tools included."""
    max_sequences: int = 1024
    """At most so many sequences are decoded at once; more prompts are taken in turns."""
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    """Texts that end a completion, as a token does; they are cut off its text."""
    tools: Literal["none", "python"] = "none"
    """``python``: code blocks are run and their output goes back (see `grouprl.tool_decoding`)."""
    tool_rounds: ToolRounds | None = None
    """Rounds and sandbox of ``tools=python``; None: the defaults."""

    def __post_init__(self) -> None:
        checks.group_sampler(self.group_size, self.max_new_tokens, self.max_sequences, self.top_k, self.top_p)
        checks.choice("sampler.tools", self.tools, ("none", "python"))

    @torch.no_grad()
    def __call__(self, policy: Policy, prompts: Prompts, *, seed: int, greedy: bool = False) -> Rollouts:
        """Sample ``group_size`` completions for each prompt (one with ``greedy``).

        Args:
            policy: The policy; its temperature is the sampling temperature.
            prompts: P prompts.
            seed: Seed of the run.
            greedy: Take the most likely token each time.
        """
        check_lengths(policy, prompts, self.max_new_tokens)
        group = 1 if greedy else self.group_size
        per_chunk = max(1, self.max_sequences // group)
        written: list[Written] = []
        for start in range(0, len(prompts), per_chunk):
            chunk = prompts.take(range(len(prompts))[start : start + per_chunk])
            keys = None if greedy else _keys(chunk, group, seed)
            written.append(self._decode(policy, chunk, group, keys))
        return assemble(policy, prompts, written, group, self.stop)

    def _decode(self, policy: Policy, prompts: Prompts, group: int, keys: Sequence[Key] | None) -> Written:
        if self.tools == "python":
            rounds = self.tool_rounds or ToolRounds()
            return rounds.decode(policy, prompts.token_ids, group, self.max_new_tokens, keys=keys, stop=self.stop)
        return Written.of(
            Decoder(policy, prompts.token_ids, group, self.max_new_tokens, keys=keys, stop=self.stop).run()
        )


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


def _keys(prompts: Prompts, group: int, seed: int) -> list[Key]:
    return [(seed, prompts.iteration, index, sample) for index in prompts.indices for sample in range(group)]


def assemble(
    policy: Policy, prompts: Prompts, written: Sequence[Written], group: int, stop: Sequence[str] = ()
) -> Rollouts:
    """Rollouts of P prompts from decoded rows, ``group`` rows to a prompt; texts are cut at the first of ``stop``."""
    lengths = torch.cat([part.lengths for part in written])
    width = int(lengths.max())

    def joined(parts: Sequence[Tensor]) -> Tensor:
        rows = [torch.nn.functional.pad(part[:, :width], (0, max(0, width - part.shape[1]))) for part in parts]
        return torch.cat(rows).unflatten(0, (len(prompts), group))

    pad = policy.tokenizer.pad_token_id
    completion_mask = (torch.arange(width, device=lengths.device) < lengths.unsqueeze(-1)).unflatten(
        0, (len(prompts), group)
    )
    completion_ids = joined([part.token_ids for part in written]).masked_fill(~completion_mask, pad)
    rows = zip(completion_ids.flatten(0, 1).tolist(), lengths.tolist(), strict=True)
    texts = policy.tokenizer.batch_decode([row[:length] for row, length in rows], skip_special_tokens=True)
    texts = [_cut(text, stop) for text in texts]
    prompt_ids, prompt_mask = pad_left(prompts.token_ids, policy)
    tools = any(part.sampled is not None for part in written)
    return Rollouts(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=completion_ids,
        completion_mask=completion_mask,
        sampler_logprobs=joined([part.logprobs for part in written]),
        truncated=torch.cat([part.truncated for part in written]).unflatten(0, (len(prompts), group)),
        completions=tuple(tuple(texts[i : i + group]) for i in range(0, len(texts), group)),
        sampled_mask=joined([part.sampled for part in written if part.sampled is not None]) & completion_mask
        if tools
        else None,
        tool_calls=tuple(call for part in written for call in part.calls),
    )


def _cut(text: str, stop: Sequence[str]) -> str:
    """A completion up to the first stop text."""
    ends = [position for position in (text.find(end) for end in stop) if position >= 0]
    return text[: min(ends)] if ends else text
