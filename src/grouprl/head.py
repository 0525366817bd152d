"""The language-model head: logprobs and entropies from hidden states without a second copy of the logits.

Logits of a vocabulary of 150,000 are most of a small model's memory. Here they exist for a chunk of rows at a time:

- Head frozen (LoRA): one pass. The gradient of a token's logprob with respect to its hidden state,
  ``(W[token] - sum_v p_v W[v]) / T``, does not depend on the loss, so it is taken in the forward pass.
- Head trained: the probabilities are kept in place of the logits up to ``keep_bytes``; beyond, they are computed again
  chunk by chunk in the backward pass, which costs a third more.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

KEEP_BYTES = 2**30
"""Probabilities kept for the backward pass at most, in bytes."""
CHUNK_BYTES = 2**28
"""Logits that exist at once where they are not kept, in bytes."""


def token_logprobs(
    hidden: Float[Tensor, "tokens hidden"],
    weight: Float[Tensor, "vocabulary hidden"],
    token_ids: Int[Tensor, " tokens"],
    temperature: float = 1.0,
    *,
    keep_bytes: int = KEEP_BYTES,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Logprob of each token and entropy of its distribution in nats, the entropy without gradient.

    Args:
        hidden: Final hidden states.
        weight: Weight of the head.
        token_ids: The token each hidden state predicts.
        temperature: Divides the logits.
        keep_bytes: Probabilities kept for the backward pass at most.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if not torch.is_grad_enabled():  # else what the backward pass needs would be made and kept all the same
        hidden, weight = hidden.detach(), weight.detach()
    return _TokenLogprobs.apply(hidden, weight, token_ids, temperature, keep_bytes)  # type: ignore[no-any-return]


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float, keep_bytes: int
    ) -> tuple[Tensor, Tensor]:
        hidden_grad, weight_grad = ctx.needs_input_grad[:2]
        ctx.temperature = temperature
        dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        logprobs, entropy = hidden.new_empty((2, len(hidden)), dtype=dtype)
        row_bytes = weight.shape[0] * dtype.itemsize
        keep = weight_grad and len(hidden) * row_bytes <= keep_bytes
        unit = torch.empty_like(hidden) if hidden_grad and not weight_grad else None
        kept = []
        ctx.chunk = max(1, CHUNK_BYTES // row_bytes)
        for rows in _chunks(len(hidden), ctx.chunk):
            logits = (hidden[rows] @ weight.T).to(dtype)
            probabilities, logprobs[rows], entropy[rows] = _softmax_(logits, token_ids[rows], temperature)
            if keep:
                kept.append(probabilities)
            elif unit is not None:
                mean = probabilities.to(weight.dtype) @ weight
                unit[rows] = (weight[token_ids[rows]] - mean) / temperature
        ctx.save_for_backward(hidden, weight, token_ids, unit)
        ctx.kept = kept
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, token_ids, unit = ctx.saved_tensors
        if unit is not None:
            return grad.unsqueeze(-1).to(unit.dtype) * unit, None, None, None, None
        hidden_grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_grad = None
        kept, ctx.kept = ctx.kept, []
        for number, rows in enumerate(_chunks(len(hidden), ctx.chunk)):
            if kept:
                logits_grad, kept[number] = kept[number], None
            else:
                logits = (hidden[rows] @ weight.T).to(grad.dtype)
                logits_grad, _, _ = _softmax_(logits, token_ids[rows], ctx.temperature)
            scale = grad[rows] / ctx.temperature
            logits_grad.mul_(-scale.unsqueeze(-1))
            logits_grad[torch.arange(len(logits_grad), device=grad.device), token_ids[rows]] += scale
            logits_grad = logits_grad.to(weight.dtype)
            if hidden_grad is not None:
                torch.mm(logits_grad, weight, out=hidden_grad[rows])
            if weight_grad is None:
                weight_grad = logits_grad.T @ hidden[rows]
            else:
                weight_grad.addmm_(logits_grad.T, hidden[rows])
        return hidden_grad, weight_grad, None, None, None


def _chunks(rows: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _softmax_(logits: Tensor, token_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities in the memory of the logits, logprobs of the chosen tokens, and entropies."""
    if temperature != 1.0:
        logits /= temperature
    logits -= logits.amax(-1, keepdim=True)
    chosen = logits.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)
    # H = log Z - sum_v p_v z_v, with the sum taken over a second buffer of one chunk.
    exponentials = logits.exp()
    total = exponentials.sum(-1)
    log_total = total.log()
    mean = torch.einsum("rv,rv->r", exponentials, logits) / total
    torch.div(exponentials, total.unsqueeze(-1), out=logits)
    return logits, chosen - log_total, log_total - mean
