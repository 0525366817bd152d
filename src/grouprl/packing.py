"""Training logprobs without padding, with the tokens of a prompt computed once for its whole group.

The rows of a forward pass are the tokens of each distinct prompt, then those of each completion but its last, which
predicts nothing. Layers other than attention see rows alone. Inside attention, completions are padded to the longest
and attend to their prompt's keys and to their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from grouprl.batch import Minibatch
from grouprl.head import token_logprobs
from grouprl.logprobs import TokenLogprobs
from grouprl.stack import Stack


def packed_logprobs(
    stack: Stack, batch: Minibatch, temperature: float = 1.0, *, recompute: bool = False
) -> TokenLogprobs:
    """What `grouprl.logprobs.completion_logprobs` gives, from packed rows.

    Args:
        stack: The model.
        batch: Prompts padded left, completions padded right.
        temperature: Divides the logits.
        recompute: Gradient checkpointing.
    """
    layout = PackedLayout.of(batch, stack)
    hidden = stack.hidden_states(layout.token_ids, layout.positions, layout.attend, recompute=recompute)
    logprobs, entropy = token_logprobs(hidden[layout.predictors], stack.head_weight, layout.targets, temperature)
    mask = batch.drawn
    out = logprobs.new_zeros(mask.shape)
    return TokenLogprobs(out.masked_scatter(mask, logprobs), out.masked_scatter(mask, entropy))


@dataclass(frozen=True)
class PackedLayout:
    """Where the tokens of a batch lie among the rows."""

    token_ids: Tensor
    """[rows]"""
    positions: Tensor
    """[rows]"""
    predictors: Tensor
    """Row whose hidden state predicts each drawn completion token, [drawn]."""
    targets: Tensor
    """The drawn completion tokens, [drawn]."""
    prompt_of: Tensor
    """Number of the prompt of each sequence, [sequences]."""
    prompt_rows: Tensor
    """Rows of the distinct prompts as a grid padded right, [prompts, prompt_tokens]."""
    completion_rows: Tensor
    """Rows of the completions as a grid padded right, [sequences, tokens - 1]."""
    prompt_cells: Tensor
    """Cells of the flat prompt grid that hold a token, in the order of the rows."""
    completion_cells: Tensor
    """Cells of the flat completion grid that hold a token, in the order of the rows."""
    visible: Tensor
    """[sequences, 1, tokens - 1, prompt_tokens + tokens - 1]: 0 where a completion token sees a key, else -inf."""
    scaling: float
    grouped: bool
    """Whether several query heads share a key head."""

    @classmethod
    def of(cls, batch: Minibatch, stack: Stack) -> PackedLayout:
        """Lay a batch out; sequences with equal prompts next to each other share its rows."""
        device = batch.prompt_ids.device
        first = torch.ones(len(batch), dtype=torch.bool, device=device)
        same = (batch.prompt_ids[1:] == batch.prompt_ids[:-1]) & (batch.prompt_mask[1:] == batch.prompt_mask[:-1])
        first[1:] = ~same.all(-1)
        prompt_of = first.long().cumsum(0) - 1
        prompt_ids, prompt_mask = batch.prompt_ids[first], batch.prompt_mask[first]
        lengths, written = prompt_mask.sum(-1), batch.completion_mask.sum(-1)
        width, tokens = int(lengths.max()), batch.completion_mask.shape[-1]
        # Padding right, a prompt needs no mask beside the causal one.
        prompt_grid = torch.arange(width, device=device) < lengths.unsqueeze(-1)
        completion_grid = torch.arange(tokens - 1, device=device) < (written - 1).unsqueeze(-1)
        prompt_rows = (prompt_grid.flatten().cumsum(0) - 1).clamp(min=0).view_as(prompt_grid)
        count = int(lengths.sum())
        completion_rows = (count + completion_grid.flatten().cumsum(0) - 1).view_as(completion_grid)
        positions = [
            torch.arange(width, device=device).expand_as(prompt_grid)[prompt_grid],
            (lengths[prompt_of].unsqueeze(-1) + torch.arange(tokens - 1, device=device))[completion_grid],
        ]
        last_of_prompt = prompt_rows.gather(-1, lengths.unsqueeze(-1) - 1)[prompt_of]
        drawn = batch.drawn
        return cls(
            token_ids=torch.cat([prompt_ids[prompt_mask], batch.completion_ids[:, :-1][completion_grid]]),
            positions=torch.cat(positions),
            predictors=torch.cat([last_of_prompt, completion_rows], -1)[drawn],
            targets=batch.completion_ids[drawn],
            prompt_of=prompt_of,
            prompt_rows=prompt_rows,
            completion_rows=completion_rows.clamp(max=count + int(completion_grid.sum()) - 1),
            prompt_cells=prompt_grid.flatten().nonzero().squeeze(-1),
            completion_cells=completion_grid.flatten().nonzero().squeeze(-1),
            visible=_visible(prompt_grid[prompt_of], tokens - 1, stack),
            scaling=stack.scaling,
            grouped=stack.heads != stack.kv_heads,
        )

    def attend(self, number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention among rows, see `grouprl.stack.Attend`."""
        prompt_q, prompt_k, prompt_v = (_grid(part, self.prompt_rows) for part in (q, k, v))
        prompts = scaled_dot_product_attention(
            prompt_q, prompt_k, prompt_v, is_causal=True, scale=self.scaling, enable_gqa=self.grouped
        )
        attended = [_rows(prompts, self.prompt_cells)]
        if len(self.completion_cells):
            own_q, own_k, own_v = (_grid(part, self.completion_rows) for part in (q, k, v))
            completions = scaled_dot_product_attention(
                own_q,
                torch.cat([prompt_k[self.prompt_of], own_k], -2),
                torch.cat([prompt_v[self.prompt_of], own_v], -2),
                attn_mask=self.visible.to(q.dtype),
                scale=self.scaling,
                enable_gqa=self.grouped,
            )
            attended.append(_rows(completions, self.completion_cells))
        return torch.cat(attended)


def _grid(rows: Tensor, grid: Tensor) -> Tensor:
    """Rows [rows, heads, head_dim] as [grid rows, heads, grid columns, head_dim]; padding cells hold some row."""
    return rows[grid].transpose(1, 2)


def _rows(grid: Tensor, cells: Tensor) -> Tensor:
    """The inverse of `_grid`, without the padding cells."""
    return grid.transpose(1, 2).flatten(0, 1)[cells]


def _visible(prompt_grid: Tensor, tokens: int, stack: Stack) -> Tensor:
    """See `PackedLayout.visible`."""
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=prompt_grid.device).tril()
    seen = torch.cat(
        [
            prompt_grid.unsqueeze(1).expand(-1, tokens, -1),
            causal.unsqueeze(0).expand(len(prompt_grid), -1, -1),
        ],
        -1,
    )
    bias = torch.zeros(seen.shape, dtype=stack.head_weight.dtype, device=seen.device)
    return bias.masked_fill(~seen, -torch.inf).unsqueeze(1)
