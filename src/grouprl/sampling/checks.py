"""What the samplers refuse, without torch."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from grouprl.checks import choice

_LINE_BREAK = re.compile(r"(?<!\\)\\n")


def group_sampler(
    group_size: int, max_new_tokens: int, max_sequences: int, top_k: int, top_p: float, stop: Any = ()
) -> None:
    """Arguments of `grouprl.sampling.group.GroupSampler`."""
    if max_sequences < 1:
        raise ValueError(f"sampler.max_sequences={max_sequences}: give at least 1.")
    _sizes(group_size, max_new_tokens)
    if top_k != 0 or top_p != 1.0:
        raise ValueError(
            f"sampler.top_k={top_k}, sampler.top_p={top_p}: training samples from the policy's own "
            "distribution. Use sampler.top_k=0 and sampler.top_p=1."
        )
    stop_texts("sampler.stop", stop)


def stop_texts(option: str, stop: Any) -> tuple[str, ...]:
    """Texts that end a completion, with a line break where a command line has ``\\n``, which it leaves as it is.

    Who wants these two characters, as in LaTeX's ``\\neq``, writes the backslash twice.
    """
    if isinstance(stop, (str, int, float)) or not all(isinstance(text, str) and text for text in stop):
        raise ValueError(f"{option}={stop}: give a list of texts, none of them empty.")
    return tuple(_LINE_BREAK.sub("\n", text).replace("\\\\n", "\\n") for text in stop)


def vllm_sampler(
    group_size: int,
    max_new_tokens: int,
    gpu_memory_utilization: float,
    max_model_len: int | None,
    dtype: str,
) -> None:
    """Arguments of `grouprl.sampling.vllm.VLLMSampler`."""
    _sizes(group_size, max_new_tokens)
    if not 0 < gpu_memory_utilization < 1:
        raise ValueError(
            f"sampler.gpu_memory_utilization={gpu_memory_utilization}: give a share above 0 and below 1; the trainer "
            "needs the rest of the GPU's memory."
        )
    if max_model_len is not None and max_model_len <= max_new_tokens:
        raise ValueError(
            f"sampler.max_model_len={max_model_len}: it holds the prompt and max_new_tokens={max_new_tokens}. "
            "Raise it, or set it to null for the model's context."
        )
    choice("sampler.dtype", dtype, ("bfloat16", "float16", "float32"))


def _sizes(group_size: int, max_new_tokens: int) -> None:
    if group_size < 1 or max_new_tokens < 1:
        raise ValueError(f"group_size={group_size}, max_new_tokens={max_new_tokens}: give at least 1.")


def tool_rounds(rounds: int) -> None:
    """Arguments of `grouprl.sampling.rounds.ToolRounds`."""
    if rounds < 1:
        raise ValueError(f"sampler.tools.rounds={rounds}: give at least 1, or choose sampler/tools=none.")


def vllm_installed() -> None:
    """Whether vLLM can be imported; it is looked up, not imported."""
    if importlib.util.find_spec("vllm") is None:
        raise ValueError(
            'sampler=vllm: vLLM is not installed. Install it with pip install "grouprl[vllm]" (a CUDA GPU is needed), '
            "or use sampler=group, the built-in sampler."
        )
