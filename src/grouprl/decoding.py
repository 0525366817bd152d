"""Decoding with a KV cache: one prefill per distinct prompt, rows dropped as they end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from grouprl.logprobs import at_least_float32, position_ids
from grouprl.policy import Policy

Key = tuple[int, ...]
"""Seed, iteration, global prompt index, sample index: all that a draw depends on, beside its place in the text."""


class Decoder:
    """Decodes some sequences of each of some prompts, and records the logprob of every token it draws."""

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group: int,
        max_new_tokens: int | Sequence[int],
        *,
        keys: Sequence[Key] | None = None,
        skip: Sequence[int] | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        """Set up P prompts with ``group`` sequences each: P * group rows.

        Args:
            policy: The policy; its temperature is the sampling temperature.
            prompts: Tokens of each prompt.
            group: Sequences of each prompt.
            max_new_tokens: Tokens of each row at most.
            keys: Key of the random stream of each row; None: the most likely token each time.
            skip: Numbers of each stream that were used before.
            stop: Texts that end a row, too; the token that completes one is kept.
        """
        self.policy, self.prompts, self.group, self.stop = policy, prompts, group, tuple(stop)
        rows, device = len(prompts) * group, policy.device
        limits = [max_new_tokens] * rows if isinstance(max_new_tokens, int) else list(max_new_tokens)
        self.limit, self.limits = max(limits), torch.tensor(limits, device=device)
        self.eos = torch.tensor(policy.eos_ids, device=device)
        self.uniforms = None
        if keys is not None:
            self.uniforms = _uniforms(keys, skip or [0] * rows, self.limit).to(device)
        self.token_ids = torch.full((rows, self.limit), policy.tokenizer.pad_token_id, device=device)
        dtype = torch.float64 if policy.base.dtype == torch.float64 else torch.float32
        self.logprobs = torch.zeros(rows, self.limit, device=device, dtype=dtype)
        self.lengths = self.limits.clone()
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)
        """Rows that drew an end-of-sequence token."""
        self.stopped = torch.zeros(rows, dtype=torch.bool, device=device)
        """Rows that wrote a stop text."""

    @torch.no_grad()
    def run(self) -> Decoder:
        """Decode all rows to their end."""
        model: nn.Module = self.policy.model
        prompt_ids, prompt_mask = pad_left(self.prompts, self.policy)
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
            alive = self._still_alive(tokens, rows, step)
            if not alive.all():
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

    def _still_alive(self, tokens: Tensor, rows: Tensor, step: int) -> Tensor:
        """Which rows go on after the token just drawn; the ends of the others are noted."""
        ends = torch.isin(tokens, self.eos)
        self.ended[rows[ends]] = True
        if self.stop:
            window = max(map(len, self.stop)) + 8
            recent = self.token_ids[rows, max(0, step + 1 - window) : step + 1]
            texts = self.policy.tokenizer.batch_decode(recent)
            wrote = torch.tensor([any(stop in text for stop in self.stop) for text in texts], device=rows.device)
            self.stopped[rows[wrote & ~ends]] = True
            ends = ends | wrote
        finished = ends | (self.limits[rows] <= step + 1)
        self.lengths[rows[finished]] = step + 1
        return ~finished


def _uniforms(keys: Sequence[Key], skip: Sequence[int], tokens: int) -> Tensor:
    """Uniform numbers in [0, 1), [rows, tokens]: one counter-based stream for each sequence."""
    streams = [
        np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).random(used + tokens)[used:]
        for key, used in zip(keys, skip, strict=True)
    ]
    return torch.from_numpy(np.stack(streams))


def pad_left(prompts: Sequence[Sequence[int]], policy: Policy) -> tuple[Tensor, Tensor]:
    """Prompt tokens [prompts, prompt_tokens], padded on the left, and their mask."""
    width = max(len(ids) for ids in prompts)
    pad = policy.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts], device=policy.device)
    lengths = torch.tensor([len(ids) for ids in prompts], device=policy.device)
    return ids, torch.arange(width, device=policy.device) >= (width - lengths).unsqueeze(-1)
