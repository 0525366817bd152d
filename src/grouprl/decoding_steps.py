"""The forward passes of decoding: `StackSteps` with a preallocated cache, `PlainSteps` with transformers' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache

from grouprl.logprobs import position_ids
from grouprl.policy import Policy, pad_left
from grouprl.stack import Stack, grouped_attention


class Steps(Protocol):
    """Logits of the next token of each row: P prompts, ``group`` rows each."""

    def prefill(self) -> Tensor:
        """Logits after the prompts, [rows, vocabulary]."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Logits after one more token [rows] of each row."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        ...


class PlainSteps:
    """Passes of the transformers model with a `DynamicCache`: for any causal language model."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], group: int) -> None:
        self.model: nn.Module = policy.model
        self.cache = DynamicCache(config=policy.base.config)
        self.group = group
        self.prompt_ids, self.mask = pad_left(prompts, policy)
        self.positions = self.mask.sum(-1)

    def prefill(self) -> Tensor:
        """See `Steps`."""
        logits = self.model(
            input_ids=self.prompt_ids,
            attention_mask=self.mask.long(),
            position_ids=position_ids(self.mask),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        self.cache.batch_repeat_interleave(self.group)
        self.mask, self.positions = (part.repeat_interleave(self.group, 0) for part in (self.mask, self.positions))
        return logits.repeat_interleave(self.group, 0)

    def step(self, tokens: Tensor) -> Tensor:
        """See `Steps`."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], -1)
        logits = self.model(
            input_ids=tokens.unsqueeze(-1),
            attention_mask=self.mask.long(),
            position_ids=self.positions.unsqueeze(-1),
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        self.positions = self.positions + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        """See `Steps`."""
        self.cache.batch_select_indices(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]


class StackSteps:
    """Passes of a `Stack`; keys and values are written in place.

    Caches are [rows, kv_heads, columns, head_dim]. Prompts end at the same column, so that all rows write to the
    same one; columns before a shorter prompt are masked.
    """

    def __init__(self, stack: Stack, policy: Policy, prompts: Sequence[Sequence[int]], group: int, limit: int) -> None:
        self.stack = stack
        self.prompts, self.group, self.limit = prompts, group, limit
        self.device = policy.device
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        lengths = torch.tensor([len(ids) for ids in prompts], device=self.device)
        self.width = self.column = int(lengths.max())
        self.positions = lengths.repeat_interleave(group)
        self.hidden_columns: Tensor | None = None
        """0 where a row sees a column, -inf before its prompt, [rows, 1, 1, columns]; None: every row sees all."""
        if len({len(ids) for ids in prompts}) > 1:
            columns = torch.arange(self.width + limit, device=self.device)
            before = columns < (self.width - self.positions).unsqueeze(-1)
            bias = torch.zeros(before.shape, dtype=stack.head_weight.dtype, device=self.device)
            self.hidden_columns = bias.masked_fill(before, -torch.inf)[:, None, None]

    def prefill(self) -> Tensor:
        """See `Steps`. Prompts are packed without padding, and their caches repeated for the group."""
        token_ids = torch.tensor([token for ids in self.prompts for token in ids], device=self.device)
        lengths = self.positions[:: self.group].unsqueeze(-1)
        columns = torch.arange(self.width, device=self.device)
        starts = lengths.cumsum(0) - lengths
        # Padded right, attention needs no mask beside the causal one; the cache holds prompts padded left.
        right = (starts + columns).clamp(max=len(token_ids) - 1)
        left = (starts + columns - (self.width - lengths)).clamp(min=0)
        cells = (columns < lengths).flatten().nonzero().squeeze(-1)

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for caches, part in ((self.keys, k), (self.values, v)):
                if len(caches) == number:
                    caches.append(
                        part.new_empty(len(self.positions), part.shape[1], self.width + self.limit, part.shape[2])
                    )
                cache = caches[number][: len(self.positions)].unflatten(0, (len(left), self.group))
                cache[:, :, :, : self.width] = part[left].transpose(1, 2).unsqueeze(1)
            q, k, v = (part[right].transpose(1, 2) for part in (q, k, v))
            attended = grouped_attention(q, k, v, is_causal=True, scale=self.stack.scaling)
            return attended.transpose(1, 2).flatten(0, 1)[cells]

        hidden = self.stack.hidden_states(token_ids, columns.expand_as(right).flatten()[cells], attend)
        last = hidden[(starts + lengths - 1).squeeze(-1)]
        return self.stack.head(last).repeat_interleave(self.group, 0)

    def step(self, tokens: Tensor) -> Tensor:
        """See `Steps`."""
        column, end = self.column, self.column + 1
        bias = None if self.hidden_columns is None else self.hidden_columns[..., :end]

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.keys[number], self.values[number]
            keys[:, :, column], values[:, :, column] = k, v
            # The query heads of one key head take the place of query tokens.
            attended = scaled_dot_product_attention(
                q.unflatten(1, (self.stack.kv_heads, -1)),
                keys[:, :, :end],
                values[:, :, :end],
                attn_mask=bias,
                scale=self.stack.scaling,
            )
            return attended.flatten(1, 2)

        hidden = self.stack.hidden_states(tokens, self.positions, attend)
        self.column, self.positions = end, self.positions + 1
        return self.stack.head(hidden)

    def keep(self, rows: Tensor) -> None:
        """See `Steps`."""
        for caches in (self.keys, self.values):
            for number, cache in enumerate(caches):
                kept = cache.new_empty((len(rows), *cache.shape[1:]))
                torch.index_select(cache[:, :, : self.column], 0, rows, out=kept[:, :, : self.column])
                caches[number] = kept
        self.positions = self.positions[rows]
        self.hidden_columns = None if self.hidden_columns is None else self.hidden_columns[rows]
