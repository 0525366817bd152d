"""The forward passes of decoding with a preallocated cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from grouprl.policy.engine.shared import shared_tokens, visible_after
from grouprl.policy.engine.stack import DecoderStack, grouped_attention


class StackSteps:
    """Forward passes of a `DecoderStack`; keys and values are written in place.

    Caches are [rows, kv_heads, columns, head_dim]. Prompts end at the same column, so that all rows write to the
    same one; columns before a shorter prompt are masked.
    """

    def __init__(self, stack: DecoderStack, prompts: Sequence[Sequence[int]], group: int, limit: int) -> None:
        """Set up the forward passes of some prompts.

        Args:
            stack: The model's.
            prompts: Tokens of each prompt.
            group: Rows of each prompt.
            limit: New tokens at most.
        """
        self.stack = stack
        self.prompts, self.group, self.limit = prompts, group, limit
        self.device = stack.head_weight.device
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
        """See `grouprl.policy.plain.Steps`; prompts are packed without padding, their caches repeated for the group.

        What all prompts begin with, such as worked examples, is computed once.
        """
        shared = shared_tokens(self.prompts)
        prefix = self._prefix(self.prompts[0][:shared]) if shared else []
        rests = [ids[shared:] for ids in self.prompts]
        token_ids = torch.tensor([token for ids in rests for token in ids], device=self.device)
        lengths = (self.positions[:: self.group] - shared).unsqueeze(-1)
        width = self.width - shared
        columns = torch.arange(width, device=self.device)
        starts = lengths.cumsum(0) - lengths
        # Padded right, attention needs no mask beside the causal one; the cache holds prompts padded left.
        right = (starts + columns).clamp(max=len(token_ids) - 1)
        cells = (columns < lengths).flatten().nonzero().squeeze(-1)
        places = torch.arange(self.width, device=self.device) - (width - lengths)  # in a prompt, of a column
        left = torch.where(places < shared, places.clamp(min=0), starts + places)

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            before = prefix[number] if shared else (k[:0], v[:0])
            for caches, first, part in ((self.keys, before[0], k), (self.values, before[1], v)):
                if len(caches) == number:
                    caches.append(
                        part.new_empty(len(self.positions), part.shape[1], self.width + self.limit, part.shape[2])
                    )
                cache = caches[number][: len(self.positions)].unflatten(0, (len(left), self.group))
                cache[:, :, :, : self.width] = torch.cat([first, part])[left].transpose(1, 2).unsqueeze(1)
            queries, keys, values = (part[right].transpose(1, 2) for part in (q, k, v))
            if not shared:
                attended = grouped_attention(queries, keys, values, is_causal=True, scale=self.stack.scaling)
            else:
                keys, values = (
                    torch.cat([first.transpose(0, 1).expand(len(left), -1, -1, -1), own], 2)
                    for first, own in zip(before, (keys, values), strict=True)
                )
                mask = visible_after(shared, width, q)
                attended = grouped_attention(queries, keys, values, attn_mask=mask, scale=self.stack.scaling)
            return attended.transpose(1, 2).flatten(0, 1)[cells]

        hidden = self.stack.hidden_states(token_ids, shared + columns.expand_as(right).flatten()[cells], attend)
        last = hidden[(starts + lengths - 1).squeeze(-1)]
        return self.stack.head(last).repeat_interleave(self.group, 0)

    def _prefix(self, tokens: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each layer for tokens that all prompts begin with, [tokens, kv_heads, head_dim]."""
        found: list[tuple[Tensor, Tensor]] = []

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            found.append((k, v))
            queries, keys, values = (part.transpose(0, 1).unsqueeze(0) for part in (q, k, v))
            attended = grouped_attention(queries, keys, values, is_causal=True, scale=self.stack.scaling)
            return attended[0].transpose(0, 1)

        ids = torch.tensor(tokens, device=self.device)
        self.stack.hidden_states(ids, torch.arange(len(ids), device=self.device), attend)
        return found

    def step(self, tokens: Tensor) -> Tensor:
        """See `grouprl.policy.plain.Steps`."""
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
        """See `grouprl.policy.plain.Steps`."""
        for caches in (self.keys, self.values):
            for number, cache in enumerate(caches):
                kept = cache.new_empty((len(rows), *cache.shape[1:]))
                torch.index_select(cache[:, :, : self.column], 0, rows, out=kept[:, :, : self.column])
                caches[number] = kept
        self.positions = self.positions[rows]
        self.hidden_columns = None if self.hidden_columns is None else self.hidden_columns[rows]
