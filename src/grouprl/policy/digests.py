"""Digests of a policy: two policies with equal digests write the same, whatever their folders are called."""

from __future__ import annotations

import hashlib
import json

import torch
from transformers import PreTrainedTokenizerBase

from grouprl.policy.policy import Policy

_DIGITS = 16


def weights_digest(policy: Policy) -> str:
    """Digest of the weights with their names, shapes and dtypes; without those of an adapter that is being trained."""
    trained = {name for name, value in policy.model.named_parameters() if policy.has_adapter and value.requires_grad}
    digest = hashlib.sha256()
    for name, value in sorted(policy.model.state_dict().items()):
        if name not in trained:
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().to("cpu", copy=False).contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()[:_DIGITS]


def config_digest(policy: Policy) -> str:
    """Digest of what turns weights into logits, and of the tokens at which a completion ends."""
    config = policy.base.config.to_dict()
    known = {key: value for key, value in config.items() if not key.startswith("_") and key != "transformers_version"}
    ends = getattr(policy.base.generation_config, "eos_token_id", None)
    return hashlib.sha256(json.dumps([known, ends], sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of what turns texts into tokens and back: vocabulary, rules, special tokens, and the chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    # What the last call asked for, and not what the tokenizer is.
    rules = {key: value for key, value in rules.items() if key not in ("padding", "truncation")}
    content = [type(tokenizer).__name__, rules, tokenizer.special_tokens_map, tokenizer.chat_template]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]
