"""Decoding with a KV cache: one prefill per prompt, finished rows dropped, each logprob recorded as it is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from grouprl.policy.plain import at_least_float32
from grouprl.policy.policy import Policy
from grouprl.progress import tell

_COMPACT_AT = 0.8
"""Finished rows are dropped once at most this share of the rows goes on: dropping copies the cache."""
_CHECK_EVERY = 16
"""Steps between two looks for finished rows on a GPU."""
_BLOCK = 256
"""Tokens in a block of the vocabulary, in `draw`."""

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
        check_every: int | None = None,
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
            check_every: Look for finished rows every so many steps; None: what suits the device. To look, the CPU
                waits for the GPU. What rows write after their end is discarded, so the results do not depend on it.
        """
        self.policy, self.prompts, self.group, self.stop = policy, prompts, group, tuple(stop)
        rows, device = len(prompts) * group, policy.device
        self.check_every = check_every or (_CHECK_EVERY if device.type == "cuda" and not stop else 1)
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
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        alive = torch.ones_like(rows, dtype=torch.bool)
        steps = self.policy.next_tokens(self.prompts, self.group, self.limit)
        logits = steps.prefill()
        for step in range(self.limit):
            tokens = self._draw(logits, rows, step)
            tell("sampling", len(rows))
            alive &= self._goes_on(tokens, rows, alive, step)
            if step + 1 == self.limit:
                break
            if (step + 1) % self.check_every == 0:
                living = int(alive.sum())
                if not living:
                    break
                if living <= _COMPACT_AT * len(rows):
                    keep = alive.nonzero().squeeze(-1)
                    rows, tokens, alive = rows[keep], tokens[keep], alive[keep]
                    steps.keep(keep)
            logits = steps.step(tokens)
        written = torch.arange(self.limit, device=rows.device) < self.lengths.unsqueeze(-1)
        self.token_ids.masked_fill_(~written, self.policy.tokenizer.pad_token_id)
        self.logprobs.masked_fill_(~written, 0.0)
        if not bool(self.logprobs.isfinite().all()):
            raise FloatingPointError(
                "The policy's logits hold NaN or infinity, so that nothing can be sampled from it: its weights or its "
                "arithmetic overflow. Look at the latest checkpoints, and compute in float32."
            )
        return self

    def _draw(self, logits: Tensor, rows: Tensor, step: int) -> Tensor:
        """The next token of each row, recorded with its logprob."""
        logits = at_least_float32(logits) / self.policy.temperature
        uniforms = None if self.uniforms is None else self.uniforms[rows, step]
        tokens, logprobs = draw(logits, uniforms)
        self.token_ids[rows, step] = tokens
        self.logprobs[rows, step] = logprobs
        return tokens

    def _goes_on(self, tokens: Tensor, rows: Tensor, alive: Tensor, step: int) -> Tensor:
        """Which rows go on after the token just drawn; the ends of the living others are noted."""
        ends = torch.isin(tokens, self.eos) & alive
        # Written for all rows, not for those a mask picks: to count these, the CPU would wait for the GPU.
        self.ended[rows] |= ends
        if self.stop:
            window = max(map(len, self.stop)) + 8
            recent = self.token_ids[rows, max(0, step + 1 - window) : step + 1]
            texts = self.policy.tokenizer.batch_decode(recent)
            wrote = (
                torch.tensor([any(stop in text for stop in self.stop) for text in texts], device=rows.device) & alive
            )
            self.stopped[rows] |= wrote & ~ends
            ends = ends | wrote
        finished = ends | (self.limits[rows] <= step + 1)
        self.lengths[rows] = torch.where(finished & alive, step + 1, self.lengths[rows])
        return ~finished


def draw(
    logits: Float[Tensor, "rows vocabulary"], uniforms: Float[Tensor, " rows"] | None
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """One token of each row, by inversion of its cumulative distribution, and the token's logprob in nats.

    The inversion has two levels, so that only one block of a large vocabulary is summed one by one. The first token
    whose cumulative probability exceeds the uniform number is drawn: never one of probability 0.

    Args:
        logits: Logits at the sampling temperature.
        uniforms: Numbers in [0, 1) in float64; None: the most likely token.
    """
    logits = logits - logits.amax(-1, keepdim=True)
    exponentials = logits.exp()
    blocks = pad(exponentials, (0, -logits.shape[-1] % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    sums = blocks.sum(-1, dtype=torch.float64)
    cumulative = sums.cumsum(-1)
    total = cumulative[:, -1:]
    if uniforms is None:
        tokens = logits.argmax(-1, keepdim=True)
    else:
        threshold = uniforms.unsqueeze(-1) * total
        block = _first_above(cumulative, threshold)
        inside = blocks.take_along_dim(block.unsqueeze(-1), 1).squeeze(1).double().cumsum(-1)
        below = (cumulative - sums).gather(-1, block)
        # Below 0 by rounding, the threshold would be under the first token of the block, even one of probability 0.
        tokens = block * _BLOCK + _first_above(inside, (threshold - below).clamp(min=0.0))
    logprobs = logits.gather(-1, tokens) - total.log().to(logits.dtype)
    return tokens.squeeze(-1), logprobs.squeeze(-1)


def _first_above(cumulative: Tensor, threshold: Tensor) -> Tensor:
    """Place of the first number above the threshold, [rows, 1]; where rounding leaves none, of the last that grew."""
    place = torch.searchsorted(cumulative, threshold, right=True)
    return place.minimum((cumulative < cumulative[:, -1:]).sum(-1, keepdim=True))


def _uniforms(keys: Sequence[Key], skip: Sequence[int], tokens: int) -> Tensor:
    """Uniform numbers in [0, 1), [rows, tokens]: one counter-based stream for each sequence."""
    streams = [
        np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).random(used + tokens)[used:]
        for key, used in zip(keys, skip, strict=True)
    ]
    return torch.from_numpy(np.stack(streams))
