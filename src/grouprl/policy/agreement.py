"""Whether a model and its tokenizer belong together, its numbers are numbers, and it can decode by steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from grouprl.policy.plain import PlainSteps, at_least_float32, without_peft

TRIED = (7, 4)
"""Tokens of the two prompts with which steps are tried; of so unlike lengths that one is padded."""
STEPS = 3
"""Steps that are tried."""
DEVIATION, ROUNDED_DEVIATION = 1e-3, 0.25
"""Nats by which a step may deviate in float32, and where numbers are rounded to fewer bits; padding that is taken for
text deviates by several."""


def check_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Whether a tokenizer's padding and ends are tokens of the model; it pads with its end where it has no padding.

    Raises:
        ValueError: It has neither, or one of them is no row of the embedding.
    """
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    name = f"the tokenizer {tokenizer.name_or_path}".strip()
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"{name} has no end-of-sequence token and no padding token, so that no completion would end. Set eos_token "
            "in its tokenizer_config.json."
        )
    check_tokens(model, {tokenizer.pad_token_id, tokenizer.eos_token_id} - {None}, tokenizer)


def check_tokens(model: PreTrainedModel, ids: Iterable[int], tokenizer: PreTrainedTokenizerBase) -> None:
    """Whether tokens are rows of the model's embedding.

    Raises:
        ValueError: One is not: the tokenizer is another model's, or the embedding was not resized for its tokens.
    """
    table: Any = model.get_input_embeddings()
    rows, highest = len(table.weight), max(ids, default=0)
    if highest >= rows:
        raise ValueError(
            f"The tokenizer's token {tokenizer.convert_ids_to_tokens(highest)!r} has the number {highest}, and the "
            f"model's embedding has {rows} rows. Give the tokenizer that belongs to the model, or resize the embedding "
            "(model.resize_token_embeddings) and train it."
        )


def check_numbers(model: PreTrainedModel, what: str) -> None:
    """Whether all weights are finite.

    Raises:
        ValueError: Some are not; the text names the first.
    """
    broken = [name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]
    if broken:
        raise ValueError(
            f"{what}: {len(broken)} of its weights hold NaN or infinity, {broken[0]} the first. The file is damaged, "
            "or its training went astray: take an earlier checkpoint."
        )


def check_targets(model: PreTrainedModel, targets: Sequence[str], adapted: Sequence[str]) -> None:
    """Whether each name of an adapter's targets is a layer's, and none shares its weights with another layer.

    Args:
        model: The model without its adapter.
        targets: Names as they were given, none for a pattern.
        adapted: Full names of the layers that are adapted.

    Raises:
        ValueError: A name matches no layer, or a layer is tied to one that is not adapted with it: merged into one of
            them, the adapter would change both.
    """
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in adapted):
            raise ValueError(f"adapter.targets={list(targets)}: no layer of the model is called {target}.")
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or embedding.weight is not head.weight:
        return
    tied = [name for name, module in model.named_modules() if module in (embedding, head)]
    if chosen := sorted(set(tied) & set(adapted)):
        raise ValueError(
            f"adapter.targets: {chosen[0]} shares its weights with another layer ({', '.join(sorted(tied))}), which "
            "the adapter would change when it is merged. Leave it out; all-linear does."
        )


@torch.no_grad()
def check_steps(model: torch.nn.Module, tokens: Sequence[int], pad_id: int) -> None:
    """Whether `PlainSteps` of two prompts, the shorter one padded, give what a forward pass of each alone gives.

    Models that keep their state elsewhere, look at later tokens or take padding for text do not.

    Args:
        model: A causal language model of transformers, PEFT's wrapper included.
        tokens: Tokens of a text, of which the prompts are cut.
        pad_id: The token to pad with.

    Raises:
        ValueError: They do not, or the model cannot be called so.
    """
    kind = without_peft(model).config.model_type
    prompts = [list(tokens[:most]) for most in TRIED]
    weight = next(model.parameters())
    rounded = weight.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(weight.device.type)
    try:
        worst = _deviation(model, prompts, pad_id)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a model's own code can raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"Models of type {kind} cannot decode here by steps with transformers' cache ({text})."
        ) from None
    if worst > (ROUNDED_DEVIATION if rounded else DEVIATION):
        raise ValueError(
            f"Models of type {kind} cannot be used here: decoding padded prompts token by token, with transformers' "
            f"cache, gives logprobs that differ by {worst:.2g} nats from those of the whole text."
        )


def _deviation(model: torch.nn.Module, prompts: Sequence[list[int]], pad_id: int) -> float:
    """By how many nats the likeliest tokens' logprobs differ, on average over steps.

    0 where the whole text gives no numbers either, and infinite where the steps alone give none.
    """
    steps = PlainSteps(model, prompts, 1, pad_id)
    texts, found, logits = [list(prompt) for prompt in prompts], [], steps.prefill()
    for step in range(STEPS):
        if step:
            logits = steps.step(torch.tensor([text[-1] for text in texts], device=logits.device))
        for row, text in zip(logits, texts, strict=True):
            whole = model(input_ids=torch.tensor([text], device=row.device), use_cache=False).logits[0, -1]
            expected, given = (at_least_float32(values).log_softmax(-1) for values in (whole, row))
            chosen = int(expected.argmax())
            if not bool(expected[chosen].isfinite()):
                return 0.0  # the model itself is at fault, which is said elsewhere
            found.append((expected[chosen] - given[chosen]).abs().nan_to_num(math.inf))
            text.append(chosen)
    return float(torch.stack(found).mean())
