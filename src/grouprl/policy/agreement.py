"""Whether a model and its tokenizer belong together, and the model's numbers are numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
