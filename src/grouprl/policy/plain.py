"""The plain paths of a policy: forward passes of the transformers model itself, for any causal language model.

They are what the engine's fast paths are held to, and serve wherever those do not.
"""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from grouprl.batch import Minibatch, TokenLogprobs


def pad_left(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompt tokens [prompts, prompt_tokens], padded on the left, and their mask."""
    width = max(len(ids) for ids in prompts)
    ids = torch.tensor([[pad_id] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
    lengths = torch.tensor([len(ids) for ids in prompts], device=device)
    return ids, torch.arange(width, device=device) >= (width - lengths).unsqueeze(-1)


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
    with _float32_head(model):
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


def _plain_head(model: nn.Module) -> nn.Linear | None:
    """A model's head, where it is a plain matrix."""
    head = without_peft(model).get_output_embeddings()
    return head if type(head) is nn.Linear and "forward" not in vars(head) else None


def _widened(head: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a head in float32 at least."""
    return at_least_float32(head.weight), None if head.bias is None else at_least_float32(head.bias)


@contextmanager
def _float32_head(model: nn.Module, widened: tuple[Tensor, Tensor | None] | None = None) -> Iterator[None]:
    """While a model's head, where it is a plain matrix, gives float32 whatever the autocast and its dtype.

    Rounded to bfloat16 a logit of 20 would be off by up to 0.06, and its token's probability by 6%.

    Args:
        model: A causal language model of transformers.
        widened: What `_widened` gave of its head before; None: it is widened at each call, and gradients reach it.
    """
    head = _plain_head(model)
    if head is None:
        yield
        return

    def forward(hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            weight, bias = widened or _widened(head)
            return linear(hidden.to(weight.dtype), weight, bias)

    head.forward = forward  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del head.forward


def without_peft(model: nn.Module) -> Any:
    """The transformers model, under PEFT's wrapper if there is one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def _keeps_logits(model: nn.Module) -> bool:
    """Whether the model can be asked for its last logits alone."""
    return "logits_to_keep" in _parameters(model)


def _parameters(model: nn.Module) -> Container[str]:
    return inspect.signature(without_peft(model).forward).parameters


class Steps(Protocol):
    """Logits of the next token of each row: P prompts, ``group`` rows each."""

    def prefill(self) -> Tensor:
        """Logits after the prompts, [rows, vocabulary]."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Logits after one more token [rows] of each row."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these, in increasing order."""
        ...


class PlainSteps:
    """Forward passes of the transformers model with a `DynamicCache`: for any causal language model that takes one.

    Those of linear attention, state spaces and convolutions beside or in place of attention do.
    """

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]], group: int, pad_id: int) -> None:
        """Set up the forward passes of some prompts.

        Args:
            model: A causal language model of transformers, PEFT's wrapper included.
            prompts: Tokens of each prompt.
            group: Rows of each prompt.
            pad_id: The token to pad with; nothing attends to it.
        """
        self.model, self.group = model, group
        self.cache = DynamicCache(config=without_peft(model).config)
        self._cached = {"cache" if "cache" in _parameters(model) else "past_key_values": self.cache, "use_cache": True}
        self._last = {"logits_to_keep": 1} if _keeps_logits(model) else {}
        self.prompt_ids, self.mask = pad_left(prompts, pad_id, next(model.parameters()).device)
        self.positions = self.mask.sum(-1)
        head = _plain_head(model)
        with torch.no_grad():  # once for all steps
            self._head = None if head is None else _widened(head)

    def prefill(self) -> Tensor:
        """See `Steps`."""
        with _float32_head(self.model, self._head):
            logits = self.model(
                input_ids=self.prompt_ids,
                attention_mask=self.mask.long(),
                position_ids=position_ids(self.mask),
                **self._cached,
                **self._last,
            ).logits[:, -1]
        # A model of states alone has taken the padding out of them, and reads no mask of what was before.
        self._attends = any(isinstance(layer, DynamicLayer) for layer in self.cache.layers)
        rows = torch.arange(len(logits), device=logits.device).repeat_interleave(self.group)
        self.keep(rows)
        return logits[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """See `Steps`."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], -1)
        with _float32_head(self.model, self._head):
            logits = self.model(
                input_ids=tokens.unsqueeze(-1),
                attention_mask=self.mask.long() if self._attends else None,
                position_ids=self.positions.unsqueeze(-1),
                **self._cached,
            ).logits[:, -1]
        self.positions = self.positions + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        """See `Steps`; a row may be taken several times."""
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]  # of keys and values, and of the states of linear attention
        self.mask, self.positions = self.mask[rows], self.positions[rows]
