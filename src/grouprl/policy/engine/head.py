"""The language-model head: logprobs and entropies from hidden states without a second copy of the logits.

Logits of a vocabulary of 150,000 are most of a small model's memory and of its time. Here they exist in tiles of some
columns of the vocabulary, over which the softmax is accumulated.

- Head frozen (LoRA): once. The gradient of a token's logprob with respect to its hidden state,
  ``(W[token] - sum_v p_v W[v]) / T``, does not depend on the loss, so it is taken in the forward pass.
- Head trained: the tiles are kept for the backward pass up to ``keep_bytes``; beyond, they are computed again there,
  which costs a third more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from grouprl.policy.engine.products import logits

KEEP_BYTES = 2**30
"""Logits kept for the backward pass at most, in bytes."""
TILE_BYTES = {"cpu": 2**26, "cuda": 2**29}
"""Logits of a tile, in bytes. Above 32 MiB the C library gives the memory of each tile back as soon as it is freed."""

_LEAST_COLUMNS = 1024
"""Of a tile: in fewer, the matrix products lose more than the memory is worth."""


class TiedTable:
    """One matrix that is embedding and head: both gradients are summed in one tensor of its size, not in three.

    Made anew for each forward pass. The head's backward pass, which comes first, leaves its gradient here, and the
    embedding's adds its few rows.
    """

    def __init__(self, weight: Float[Tensor, "vocabulary hidden"], padding_index: int | None = None) -> None:
        self.weight, self.padding_index = weight, padding_index
        self.head_grad: Tensor | None = None

    def embed(self, token_ids: Int[Tensor, " tokens"]) -> Float[Tensor, "tokens hidden"]:
        """Rows of the matrix."""
        return _TiedEmbedding.apply(self.weight, token_ids, self)  # type: ignore[no-any-return]


def token_logprobs(
    hidden: Float[Tensor, "tokens hidden"],
    weight: Float[Tensor, "vocabulary hidden"] | TiedTable,
    token_ids: Int[Tensor, " tokens"],
    temperature: float = 1.0,
    *,
    keep_bytes: int = KEEP_BYTES,
    tile_bytes: int | None = None,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Logprob of each token and entropy of its distribution in nats, the entropy without gradient.

    Args:
        hidden: Final hidden states.
        weight: Weight of the head, or the table that ``hidden`` was embedded with.
        token_ids: The token each hidden state predicts.
        temperature: Divides the logits.
        keep_bytes: Logits kept for the backward pass at most.
        tile_bytes: Logits of a tile; None: what suits the device.
    """
    table, matrix = (weight, weight.weight.detach()) if isinstance(weight, TiedTable) else (None, weight)
    if not hidden.is_cuda:
        hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    elif torch.is_autocast_enabled("cuda"):
        hidden, matrix = (part.to(torch.get_autocast_dtype("cuda")) for part in (hidden, matrix))
    if tile_bytes is None:
        tile_bytes = TILE_BYTES.get(hidden.device.type, TILE_BYTES["cuda"])
    columns = max(min(_LEAST_COLUMNS, len(matrix)), tile_bytes // max(1, len(hidden) * hidden.dtype.itemsize))
    keep = len(hidden) * len(matrix) * max(4, hidden.dtype.itemsize) <= keep_bytes
    if not torch.is_grad_enabled():  # else what the backward pass needs would be made and kept all the same
        hidden, matrix = hidden.detach(), matrix.detach()
    with torch.autocast(
        hidden.device.type, enabled=False
    ):  # which would take the sums over the vocabulary in its dtype
        return _TokenLogprobs.apply(  # type: ignore[no-any-return]
            hidden, matrix, token_ids, temperature, columns, keep, table
        )


class _TiedEmbedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, token_ids: Tensor, table: TiedTable) -> Tensor:
        ctx.table = table
        ctx.save_for_backward(token_ids)
        return weight[token_ids]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (token_ids,), table = ctx.saved_tensors, ctx.table
        total = torch.zeros_like(table.weight) if table.head_grad is None else table.head_grad.to(table.weight.dtype)
        table.head_grad = None
        if table.padding_index is not None:
            grad = grad.masked_fill((token_ids == table.padding_index).unsqueeze(-1), 0.0)
        return total.index_add_(0, token_ids, grad.to(total.dtype)), None, None


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        token_ids: Tensor,
        temperature: float,
        columns: int,
        keep: bool,
        table: TiedTable | None,
    ) -> tuple[Tensor, Tensor]:
        hidden_grad, weight_grad = ctx.needs_input_grad[:2]
        weight_grad = weight_grad or (hidden_grad and table is not None)
        softmax = _Softmax(hidden, token_ids, expects=weight if hidden_grad and not weight_grad else None)
        kept = []
        for tile in _tiles(len(weight), columns):
            scaled = _scaled(logits(hidden, weight[tile]), temperature)
            softmax.add(scaled, tile)
            if weight_grad and keep:
                kept.append(scaled)
        unit = None
        if softmax.expectation is not None:
            mean = softmax.expectation / softmax.totals.unsqueeze(-1)
            unit = ((weight[token_ids] - mean) / temperature).to(hidden.dtype)
        log_total = softmax.maxima + softmax.totals.log()
        ctx.save_for_backward(hidden, weight, token_ids, unit, log_total)
        ctx.temperature, ctx.columns, ctx.kept, ctx.table = temperature, columns, kept, table
        entropy = log_total - softmax.means / softmax.totals
        ctx.mark_non_differentiable(entropy)
        return softmax.chosen - log_total, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, token_ids, unit, log_total = ctx.saved_tensors
        if unit is not None:
            return grad.unsqueeze(-1).to(unit.dtype) * unit, *[None] * 6
        hidden_grad = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        weight_grad = torch.empty_like(weight)
        kept: list[Tensor] = ctx.kept
        ctx.kept = []
        rows, scale = torch.arange(len(hidden), device=hidden.device), (grad / ctx.temperature).unsqueeze(-1)
        for tile in _tiles(len(weight), ctx.columns):
            scaled = kept.pop(0) if kept else _scaled(logits(hidden, weight[tile]), ctx.temperature)
            # d logprob / d logits = onehot(token) - p, in the memory of the logits.
            logits_grad = scaled.sub_(log_total.unsqueeze(-1)).exp_().mul_(-scale)
            inside = (token_ids >= tile.start) & (token_ids < tile.stop)
            logits_grad[rows[inside], token_ids[inside] - tile.start] += scale[inside, 0]
            logits_grad = logits_grad.to(hidden.dtype)
            if hidden_grad is not None:
                hidden_grad.addmm_(logits_grad, weight[tile].to(hidden.dtype))
            if weight.dtype == hidden.dtype:
                torch.mm(logits_grad.T, hidden, out=weight_grad[tile])
            else:
                weight_grad[tile] = logits_grad.T @ hidden
        if ctx.table is not None:
            before = ctx.table.head_grad
            ctx.table.head_grad = weight_grad if before is None else weight_grad.add_(before)
            return hidden_grad, *[None] * 6
        return hidden_grad, weight_grad, *[None] * 5


class _Softmax:
    """Softmax of logits that come tile by tile: sums are relative to the largest logit so far."""

    def __init__(self, hidden: Tensor, token_ids: Tensor, *, expects: Tensor | None) -> None:
        """Start with no tile.

        Args:
            hidden: For device and number of rows.
            token_ids: The tokens whose logits are wanted.
            expects: Rows of which the expectation under the softmax is wanted, [vocabulary, hidden].
        """
        dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        self.token_ids, self.expects, self.hidden_dtype = token_ids, expects, hidden.dtype
        self.maxima = torch.full((len(hidden),), -torch.inf, dtype=dtype, device=hidden.device)
        self.totals, self.means, self.chosen = (torch.zeros_like(self.maxima) for _ in range(3))
        """Sums of exp(z - maximum) and of exp(z - maximum) z, and the logits of the tokens."""
        self.scratch: Tensor | None = None
        self.expectation = None if expects is None else torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)

    def add(self, logits: Tensor, tile: slice) -> None:
        """Take in the logits [rows, columns] of one tile."""
        maxima = torch.maximum(self.maxima, logits.amax(-1))
        if self.scratch is None:
            self.scratch = torch.empty_like(logits).flatten()  # used by all tiles: fresh memory costs more than exp
        exponentials = self.scratch[: logits.numel()].view_as(logits)
        torch.sub(logits, maxima.unsqueeze(-1), out=exponentials).exp_()
        shrink = (self.maxima - maxima).exp_()
        self.maxima = maxima
        self.totals.mul_(shrink).add_(exponentials.sum(-1))
        self.means.mul_(shrink).add_(torch.linalg.vecdot(exponentials, logits))
        if self.expectation is not None and self.expects is not None:
            self.expectation.mul_(shrink.unsqueeze(-1))
            self.expectation.add_(exponentials.to(dtype := self.hidden_dtype) @ self.expects[tile].to(dtype))
        inside = (self.token_ids >= tile.start) & (self.token_ids < tile.stop)
        column = (self.token_ids - tile.start).clamp(0, logits.shape[-1] - 1)
        found = logits.gather(-1, column.unsqueeze(-1)).squeeze(-1)
        self.chosen = torch.where(inside, found, self.chosen)


def _tiles(vocabulary: int, columns: int) -> Iterator[slice]:
    return (slice(start, min(start + columns, vocabulary)) for start in range(0, vocabulary, columns))


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits at the temperature, in float32 at least; in place where they are that already."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if temperature == 1.0 else logits.div_(temperature)
