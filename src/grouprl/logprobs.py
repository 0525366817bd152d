"""Log-probabilities of completions: one function for current, old, reference and replayed logprobs."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from grouprl.batch import Minibatch


class TokenLogprobs(NamedTuple):
    """Per-token results of one forward pass, in nats; 0 where masked."""

    logprobs: Float[Tensor, "sequences tokens"]
    entropy: Float[Tensor, "sequences tokens"]
    """Entropy of the distribution each token was drawn from, without gradient."""


def position_ids(mask: Bool[Tensor, "sequences tokens"]) -> Int[Tensor, "sequences tokens"]:
    """Positions that count only attended tokens, so that left padding does not shift them."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def completion_logprobs(model: nn.Module, batch: Minibatch, temperature: float = 1.0) -> TokenLogprobs:
    """Logprob of every completion token given all before it, from the logits one position earlier.

    Args:
        model: A causal language model of transformers (called with ``input_ids``, ``attention_mask``,
            ``position_ids``; returns ``.logits``).
        batch: Prompts padded left, completions padded right.
        temperature: The sampling temperature, by which the logits are divided: the policy that is trained is the
            one that sampled.
    """
    mask = batch.completion_mask
    tokens = mask.shape[-1]
    attention_mask = torch.cat([batch.prompt_mask, mask], -1)
    arguments: dict[str, Any] = {"logits_to_keep": tokens + 1} if _keeps_logits(model) else {}
    logits = model(
        input_ids=torch.cat([batch.prompt_ids, batch.completion_ids], -1),
        attention_mask=attention_mask.long(),
        position_ids=position_ids(attention_mask),
        use_cache=False,
        **arguments,
    ).logits
    logits = at_least_float32(logits[:, -tokens - 1 : -1]) / temperature
    log_probabilities = logits.log_softmax(-1)
    chosen = log_probabilities.gather(-1, batch.completion_ids.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
    return TokenLogprobs(chosen.masked_fill(~mask, 0.0), entropy.masked_fill(~mask, 0.0))


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 if they are that already."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _keeps_logits(model: nn.Module) -> bool:
    """Whether the model can be asked for its last logits alone."""
    unwrapped = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return "logits_to_keep" in inspect.signature(unwrapped.forward).parameters
