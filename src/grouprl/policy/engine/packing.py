"""Training logprobs without padding, with the tokens of a prompt computed once for its whole group.

The rows of a forward pass are the tokens of each distinct prompt (what all prompts begin with comes first, once), then
those of each completion but its last, which predicts nothing. Layers other than attention see rows alone. Inside
attention, completions are taken in blocks, padded to the longest of the block; each attends to its prompt's keys and to
its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import pad

from grouprl.batch import Minibatch, TokenLogprobs
from grouprl.policy.engine.head import token_logprobs
from grouprl.policy.engine.products import row_count
from grouprl.policy.engine.shared import shared_tokens, visible_after
from grouprl.policy.engine.stack import DecoderStack, grouped_attention

_CPU_BLOCK = 4
"""Sequences of one prompt that a CPU attends for at once: padding costs more there than another call does."""


def packed_logprobs(
    stack: DecoderStack, batch: Minibatch, temperature: float = 1.0, *, recompute: bool = False
) -> TokenLogprobs:
    """What `grouprl.policy.plain.completion_logprobs` gives, from packed rows.

    Args:
        stack: The model.
        batch: Prompts padded left, completions padded right.
        temperature: Divides the logits.
        recompute: Gradient checkpointing.
    """
    packed = PackedRows.of(batch, stack)
    table = stack.tied_table()
    hidden = stack.hidden_states(packed.token_ids, packed.positions, packed.attend, table=table, recompute=recompute)
    head = table or stack.head_weight
    logprobs, entropy = token_logprobs(hidden[packed.predictors], head, packed.targets, temperature)
    mask, out = batch.drawn, logprobs.new_zeros(batch.drawn.shape)
    # Values beyond those of the drawn tokens are left (see `PackedRows`).
    return TokenLogprobs(out.masked_scatter(mask, logprobs), out.masked_scatter(mask, entropy))


@dataclass(frozen=True)
class _Block:
    """Sequences that are attended for at once."""

    prompt_of: Tensor
    """Number of the prompt of each sequence, [sequences]."""
    prompt_tokens: int
    """Length of the longest of these prompts."""
    visible: Tensor
    """[1 or sequences, 1, tokens, prompt_tokens + tokens]: 0 where a completion token sees a key, else -inf."""


@dataclass(frozen=True)
class PackedRows:
    """Where the tokens of a batch lie among the rows.

    On a CPU zeros follow, up to a number of rows (and of drawn tokens) that products are fast for. No token attends to
    these rows, and no loss is taken of what they predict.
    """

    token_ids: Tensor
    """[rows]"""
    positions: Tensor
    """[rows]"""
    predictors: Tensor
    """Row whose hidden state predicts each drawn completion token, [drawn]."""
    targets: Tensor
    """The drawn completion tokens, [drawn]."""
    blocks: tuple[_Block, ...]
    shared: int
    """Tokens that all prompts begin with and that have rows of their own, before those of the prompts; 0: none."""
    grids: tuple[tuple[int, int], ...]
    """[sequences, tokens] of the grids inside attention, padded right: of what is shared, if anything is, of the
    distinct prompts, then of the blocks."""
    row_of_cell: Tensor
    """Row in each cell of the flat grids, one after the other; padding cells hold some row."""
    cell_of_row: Tensor
    """Cell of each row, [rows]."""
    padding_cells: Tensor
    """Cells that hold no row of their own."""
    padding_rows: Tensor
    """Rows that have no cell of their own."""
    scaling: float

    @classmethod
    def of(cls, batch: Minibatch, stack: DecoderStack) -> PackedRows:
        """Lay a batch out; sequences with equal prompts next to each other share its rows."""
        device = batch.prompt_ids.device
        first = batch.new_prompt
        prompt_of = first.long().cumsum(0) - 1
        prompt_ids, prompt_mask = batch.prompt_ids[first], batch.prompt_mask[first]
        lengths, written = prompt_mask.sum(-1), batch.completion_mask.sum(-1) - 1
        listed = zip(prompt_ids.tolist(), lengths.tolist(), strict=True)  # padded left
        shared = shared_tokens([ids[len(ids) - length :] for ids, length in listed])
        own_tokens = prompt_mask & (prompt_mask.cumsum(-1) > shared)
        rests = lengths - shared
        columns = torch.arange(max(int(lengths.max()), batch.completion_ids.shape[1]), device=device)
        # Padding right, a prompt needs no mask beside the causal one.
        prompt_grid = columns[: int(rests.max())] < rests.unsqueeze(-1)
        completion_grid = columns[: int(written.max())] < written.unsqueeze(-1)
        prompt_rows = _number(prompt_grid, shared)
        completion_rows = _number(completion_grid, shared + int(rests.sum()))
        tokens = completion_grid.shape[1]
        positions = (
            columns[:shared],
            (shared + columns).expand(len(lengths), -1)[:, : prompt_grid.shape[1]][prompt_grid],
            (lengths[prompt_of].unsqueeze(-1) + columns[:tokens])[completion_grid],
        )
        last_of_prompt = prompt_rows.gather(-1, rests.unsqueeze(-1) - 1)[prompt_of]
        drawn = batch.drawn[:, : tokens + 1]
        autocast, kind = torch.is_autocast_enabled(device.type), device.type
        dtype = torch.get_autocast_dtype(kind) if autocast else stack.head_weight.dtype
        blocks, grids = [], [(prompt_rows, prompt_grid)]
        if shared:
            grids.insert(0, (columns[None, :shared], torch.ones_like(columns[None, :shared], dtype=torch.bool)))
        for members in _partition(prompt_of.tolist(), written.tolist(), small=device.type == "cpu"):
            own = torch.tensor(members, device=device)
            longest, keys = int(written[own].max()), lengths[prompt_of[own]]
            grids.append((completion_rows[own, :longest], completion_grid[own, :longest]))
            visible = _visible(keys[:1] if bool((keys == keys[0]).all()) else keys, longest, dtype)
            blocks.append(_Block(prompt_of[own], int(keys.max()), visible))
        row_of_cell = torch.cat([rows.flatten() for rows, _ in grids])
        is_filled = torch.cat([grid.flatten() for _, grid in grids])
        filled = is_filled.nonzero().squeeze(-1)
        room = row_count(len(filled), stack.head_weight)

        def rounded_up(rows: Tensor) -> Tensor:
            return pad(rows, (0, row_count(len(rows), stack.head_weight) - len(rows)))

        return cls(
            token_ids=rounded_up(
                torch.cat(
                    [
                        prompt_ids[0, prompt_mask[0]][:shared],
                        prompt_ids[own_tokens],
                        batch.completion_ids[:, :tokens][completion_grid],
                    ]
                )
            ),
            positions=rounded_up(torch.cat(positions)),
            predictors=rounded_up(torch.cat([last_of_prompt, completion_rows], -1)[drawn]),
            targets=rounded_up(batch.completion_ids[:, : tokens + 1][drawn]),
            blocks=tuple(blocks),
            shared=shared,
            grids=tuple((grid.shape[0], grid.shape[1]) for _, grid in grids),
            row_of_cell=row_of_cell,
            cell_of_row=rounded_up(torch.empty_like(filled).index_copy_(0, row_of_cell[filled], filled)),
            padding_cells=(~is_filled).nonzero().squeeze(-1),
            padding_rows=torch.arange(len(filled), room, device=device),
            scaling=stack.scaling,
        )

    def attend(self, number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention among rows, see `grouprl.policy.engine.stack.Attend`."""
        attention = partial(grouped_attention, scale=self.scaling)
        queries, keys, values = (self._grids(part) for part in (q, k, v))
        attended = [attention(queries.pop(0), keys[0], values[0], is_causal=True)]
        of_prompts = keys.pop(0), values.pop(0)
        if self.shared:
            rest_q, *rest = queries.pop(0), keys.pop(0), values.pop(0)
            of_prompts = tuple(  # type: ignore[assignment]
                torch.cat([before.expand(len(own), -1, -1, -1), own], -2)
                for before, own in zip(of_prompts, rest, strict=True)
            )
            mask = visible_after(self.shared, rest_q.shape[-2], rest_q)
            attended.append(attention(rest_q, *of_prompts, attn_mask=mask))
        for block, own_q, own_k, own_v in zip(self.blocks, queries, keys, values, strict=True):
            seen_k, seen_v = (
                torch.cat([prompts[:, :, : block.prompt_tokens].index_select(0, block.prompt_of), own], -2)
                for prompts, own in zip(of_prompts, (own_k, own_v), strict=True)
            )
            attended.append(attention(own_q, seen_k, seen_v, attn_mask=block.visible.to(q.dtype)))
        cells = torch.cat([grid.transpose(1, 2).flatten(0, 1) for grid in attended])
        return _Rearranged.apply(  # type: ignore[no-any-return]
            cells, self.cell_of_row, self.row_of_cell, self.padding_cells
        )

    def _grids(self, rows: Tensor) -> list[Tensor]:
        """Rows [rows, heads, head_dim] as the grids of prompts and blocks, [sequences, heads, tokens, head_dim]."""
        cells = _Rearranged.apply(rows, self.row_of_cell, self.cell_of_row, self.padding_rows)
        grids = cells.split([sequences * tokens for sequences, tokens in self.grids])
        return [grid.unflatten(0, shape).transpose(1, 2) for grid, shape in zip(grids, self.grids, strict=True)]


class _Rearranged(torch.autograd.Function):
    """Rows as cells or cells as rows. What is padding has no influence, so that a gradient has one place to come from.

    Its backward pass is therefore a gather as well, where that of an index adds up in whatever order threads arrive.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, taken: Tensor, back: Tensor, padding: Tensor) -> Tensor:
        """Values [n, ...] at the m places ``taken``; ``back`` [n] are their places there, of ``padding`` any place."""
        ctx.save_for_backward(back, padding)
        return values.index_select(0, taken)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient [n, ...]: zero where nothing came of a value."""
        back, padding = ctx.saved_tensors
        return grad.index_select(0, back).index_fill_(0, padding, 0), None, None, None


def _number(grid: Tensor, start: int) -> Tensor:
    """Row of each cell of a grid whose cells are numbered from ``start`` where it is True; elsewhere some row."""
    last = max(start, start + int(grid.sum()) - 1)
    return (start + grid.flatten().cumsum(0) - 1).clamp(min=min(start, last), max=last).view_as(grid)


def _partition(prompt_of: list[int], written: list[int], *, small: bool) -> list[list[int]]:
    """The sequences of each attention block. ``small``: few of one prompt and of similar length, else all."""
    members = [member for member, tokens in enumerate(written) if tokens]
    if not small:
        return [members] if members else []
    members.sort(key=lambda member: (prompt_of[member], written[member]))
    blocks: list[list[int]] = []
    for member in members:
        if not blocks or len(blocks[-1]) == _CPU_BLOCK or prompt_of[blocks[-1][0]] != prompt_of[member]:
            blocks.append([])
        blocks[-1].append(member)
    return blocks


def _visible(prompt_tokens: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
    """See `_Block.visible`; prompts are padded to the longest of ``prompt_tokens``."""
    device, width = prompt_tokens.device, int(prompt_tokens.max())
    prompt = (torch.arange(width, device=device) < prompt_tokens.unsqueeze(-1)).unsqueeze(1).expand(-1, tokens, -1)
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril().expand(len(prompt), -1, -1)
    seen = torch.cat([prompt, causal], -1).unsqueeze(1)
    # Rows begin at multiples of 16, as CUDA kernels demand: torch would else copy the mask in every layer.
    room = (*seen.shape[:-1], -(-seen.shape[-1] // 16) * 16)
    return torch.zeros(room, dtype=dtype, device=device)[..., : seen.shape[-1]].masked_fill_(~seen, -torch.inf)
