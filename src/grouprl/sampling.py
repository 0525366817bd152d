"""Sampling: G completions per prompt, with the logprobs of the very distribution they were drawn from.

Every draw is a function of (seed, iteration, global prompt index, sample index): neither the batch a prompt shares
nor the rank it is on changes its completions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from grouprl import checks
from grouprl.batch import Prompts, Rollouts
from grouprl.logprobs import at_least_float32, position_ids
from grouprl.policy import Policy


@dataclass(frozen=True)
class GroupSampler:
    """Samples a group of completions for each prompt, prefilling each prompt once.

    ``top_k`` and ``top_p`` are here to be refused: a truncated distribution is not the policy's own, and its
    probabilities would not be those that are trained.
    """

    group_size: int = 8
    max_new_tokens: int = 96
    max_sequences: int = 1024
    """At most so many sequences are decoded at once; more prompts are taken in turns."""
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        checks.group_sampler(self.group_size, self.max_new_tokens, self.top_k, self.top_p)

    @torch.no_grad()
    def __call__(self, policy: Policy, prompts: Prompts, *, seed: int, greedy: bool = False) -> Rollouts:
        """Sample ``group_size`` completions for each prompt (one with ``greedy``).

        Args:
            policy: The policy; its temperature is the sampling temperature.
            prompts: P prompts.
            seed: Seed of the run.
            greedy: Take the most likely token each time.
        """
        self._check_lengths(policy, prompts)
        group = 1 if greedy else self.group_size
        per_chunk = max(1, self.max_sequences // group)
        chunks = [prompts.take(range(len(prompts))[i : i + per_chunk]) for i in range(0, len(prompts), per_chunk)]
        drawn = [
            _Decoder(policy, chunk, group, self.max_new_tokens, None if greedy else seed).run() for chunk in chunks
        ]
        return _assemble(policy, prompts, drawn, group)

    def _check_lengths(self, policy: Policy, prompts: Prompts) -> None:
        longest = max(len(ids) for ids in prompts.token_ids)
        if policy.context is not None and longest + self.max_new_tokens > policy.context:
            raise ValueError(
                f"max_new_tokens={self.max_new_tokens}: with a prompt of {longest} tokens it exceeds the model's "
                f"context of {policy.context}. Use max_new_tokens={max(1, policy.context - longest)} or less."
            )


class _Decoder:
    """Decodes the groups of some prompts with a KV cache, dropping rows as they finish."""

    def __init__(self, policy: Policy, prompts: Prompts, group: int, max_new_tokens: int, seed: int | None) -> None:
        self.policy, self.prompts, self.group, self.limit = policy, prompts, group, max_new_tokens
        self.eos = torch.tensor(policy.eos_ids, device=policy.device)
        rows, device = len(prompts) * group, policy.device
        self.uniforms = None if seed is None else _uniforms(seed, prompts, group, max_new_tokens).to(device)
        self.token_ids = torch.full((rows, max_new_tokens), policy.tokenizer.pad_token_id, device=device)
        dtype = torch.float64 if policy.base.dtype == torch.float64 else torch.float32
        self.logprobs = torch.zeros(rows, max_new_tokens, device=device, dtype=dtype)
        self.lengths = torch.full((rows,), max_new_tokens, device=device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)

    def run(self) -> _Decoder:
        model: nn.Module = self.policy.model
        prompt_ids, prompt_mask = _pad_left(self.prompts, self.policy)
        cache = DynamicCache(config=self.policy.base.config)
        # One more sequence of the prompt than needed costs little; one prefill per prompt saves much.
        output = model(
            input_ids=prompt_ids,
            attention_mask=prompt_mask.long(),
            position_ids=position_ids(prompt_mask),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].repeat_interleave(self.group, 0)
        cache.batch_repeat_interleave(self.group)
        mask = torch.cat([prompt_mask, prompt_mask.new_ones(len(prompt_mask), self.limit)], -1)
        mask = mask.long().repeat_interleave(self.group, 0)
        positions = prompt_mask.sum(-1).repeat_interleave(self.group, 0)
        rows = torch.arange(len(logits), device=logits.device)
        for step in range(self.limit):
            tokens = self._draw(logits, rows, step)
            alive = ~torch.isin(tokens, self.eos)
            if not alive.all():
                ended = rows[~alive]
                self.ended[ended], self.lengths[ended] = True, step + 1
                keep = alive.nonzero().squeeze(-1)
                rows, tokens, mask, positions = rows[keep], tokens[keep], mask[keep], positions[keep]
                if len(rows) and step + 1 < self.limit:
                    cache.batch_select_indices(keep)
            if not len(rows) or step + 1 == self.limit:
                break
            logits = model(
                input_ids=tokens.unsqueeze(-1),
                attention_mask=mask[:, : prompt_mask.shape[1] + step + 1],
                position_ids=(positions + step).unsqueeze(-1),
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
        return self

    def _draw(self, logits: Tensor, rows: Tensor, step: int) -> Tensor:
        """The next token of each row, by inversion of the cumulative distribution, recorded with its logprob."""
        log_probabilities = (at_least_float32(logits) / self.policy.temperature).log_softmax(-1)
        if self.uniforms is None:
            tokens = log_probabilities.argmax(-1)
        else:
            cumulative = log_probabilities.double().exp().cumsum(-1)
            threshold = self.uniforms[rows, step].unsqueeze(-1) * cumulative[:, -1:]
            # The first token whose cumulative probability exceeds the threshold: one of probability 0 never does.
            tokens = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
            tokens = tokens.clamp(max=logits.shape[-1] - 1)
        self.token_ids[rows, step] = tokens
        self.logprobs[rows, step] = log_probabilities.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return tokens


def _uniforms(seed: int, prompts: Prompts, group: int, tokens: int) -> Tensor:
    """Uniform numbers in [0, 1), [prompts * group, tokens]: one counter-based stream for each sequence."""
    keys = [(seed, prompts.iteration, index, sample) for index in prompts.indices for sample in range(group)]
    streams = [np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).random(tokens) for key in keys]
    return torch.from_numpy(np.stack(streams))


def _pad_left(prompts: Prompts, policy: Policy) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids in prompts.token_ids)
    pad = policy.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts.token_ids], device=policy.device)
    lengths = torch.tensor([len(ids) for ids in prompts.token_ids], device=policy.device)
    return ids, torch.arange(width, device=policy.device) >= (width - lengths).unsqueeze(-1)


def _assemble(policy: Policy, prompts: Prompts, drawn: list[_Decoder], group: int) -> Rollouts:
    lengths = torch.cat([decoder.lengths for decoder in drawn])
    width = int(lengths.max())
    token_ids = torch.cat([decoder.token_ids for decoder in drawn])[:, :width]
    texts = policy.tokenizer.batch_decode(list(_completions(token_ids, lengths)), skip_special_tokens=True)
    prompt_ids, prompt_mask = _pad_left(prompts, policy)

    def grouped(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (len(prompts), group))

    return Rollouts(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=grouped(token_ids),
        completion_mask=grouped(torch.arange(width, device=lengths.device) < lengths.unsqueeze(-1)),
        sampler_logprobs=grouped(torch.cat([decoder.logprobs for decoder in drawn])[:, :width]),
        truncated=grouped(~torch.cat([decoder.ended for decoder in drawn])),
        completions=tuple(tuple(texts[i : i + group]) for i in range(0, len(texts), group)),
    )


def _completions(token_ids: Tensor, lengths: Tensor) -> Iterator[list[int]]:
    for row, length in zip(token_ids.tolist(), lengths.tolist(), strict=True):
        yield row[:length]
