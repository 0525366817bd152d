"""Loading a policy: from a Hugging Face folder or hub id, or one of those embedded in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from grouprl.data import tiny
from grouprl.policy.adapters import LoraAdapter
from grouprl.policy.folder import EMBEDDED, check_policy_folder
from grouprl.policy.policy import Policy


def load_policy(
    path: str,
    *,
    adapter: LoraAdapter | None = None,
    temperature: float = 1.0,
    dtype: str = "float32",
    attention: str = "sdpa",
    fast: bool = True,
    gradient_checkpointing: bool = False,
    cuda_graphs: bool = True,
    compile: bool = False,
    trust_remote_code: bool = False,
) -> Policy:
    """Load a policy from a Hugging Face folder or hub id; an adapter folder is merged into its base.

    Args:
        path: Hub id, local folder, ``tiny`` (the embedded policy) or ``tiny_tools`` (taught to use Python).
        adapter: LoRA adapter to train.
        temperature: Temperature of sampling and training.
        dtype: Dtype of the weights. float32 are the master weights; bfloat16 rounds small updates away.
        attention: Attention implementation of transformers, for the plain paths.
        fast: See `Policy`.
        gradient_checkpointing: See `Policy`.
        cuda_graphs: See `Policy`.
        compile: See `Policy`.
        trust_remote_code: Run model code that comes with the weights.

    Raises:
        ValueError: There is no such folder, it is no model folder, or the hub could not be reached.
    """
    check_policy_folder(path)
    folder = str(Path(tiny.__file__).parent / EMBEDDED[path]) if path in EMBEDDED else path
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=trust_remote_code)
    except OSError as error:
        raise ValueError(
            f"policy.path={path}: no folder here has that name, and it could not be had from the Hugging Face hub "
            f"({str(error).strip().splitlines()[0][:200]})."
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    arguments: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "attn_implementation": attention,
        "trust_remote_code": trust_remote_code,
        "use_safetensors": True,
    }
    merged = False
    if (Path(folder) / "adapter_config.json").is_file():
        from peft import AutoPeftModelForCausalLM

        arguments.pop("use_safetensors")
        merged = True
        model = AutoPeftModelForCausalLM.from_pretrained(folder, **arguments).merge_and_unload(safe_merge=True)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, **arguments)
    return Policy(
        model,
        tokenizer,
        adapter=adapter or None,
        temperature=temperature,
        fast=fast,
        gradient_checkpointing=gradient_checkpointing,
        cuda_graphs=cuda_graphs,
        compile=compile,
        base_is_merged=merged,
    )
