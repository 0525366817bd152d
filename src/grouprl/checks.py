"""What the components refuse, as plain functions without torch: a command line is checked with them before it is run.

Each takes a component's arguments (others are passed over) and raises a `ValueError` that names key, value and remedy.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

MARGIN = 1e-3
"""By how much correctness has to outweigh style: more than float32 sums and the ranks' resolution blur."""
TIES = ("average", "min", "max", "dense", "random")
ON_UNSCORABLE = ("drop_sample", "drop_group", "stop")
ON_OUT_OF_MEMORY = ("stop", "halve")


def choice(key: str, value: Any, choices: Sequence[str]) -> None:
    """One of a few words."""
    if value not in choices:
        raise ValueError(f"{key}={value}: choose one of {', '.join(choices)}.")


def on_one_device(devices: Any) -> bool:
    """Whether Lightning's ``devices`` (a number, a list of numbers, either as a text, or ``auto``) is one device."""
    if isinstance(devices, str) and not {"[", ","} & set(devices):
        return devices.strip() == "1"
    if isinstance(devices, int):
        return devices == 1
    return len([number for number in str(devices).strip("[] ").split(",") if number.strip()]) == 1


def halve_on_one_device(on_out_of_memory: str, devices: Any, key: str = "trainer.devices") -> None:
    """Devices exchange gradients in the last backward pass, where one that begins again would leave others waiting."""
    if on_out_of_memory == "halve" and not on_one_device(devices):
        raise ValueError(
            f"on_out_of_memory=halve: {key}={devices}, and devices cannot halve their micro-batches each by itself. "
            "Use on_out_of_memory=stop, or trainer.devices=1."
        )


def rank_advantage(ties: str = "average", resolution: float = 0.0, **_: Any) -> None:
    """Arguments of `grouprl.advantages.RankAdvantage`."""
    choice("advantage.ties", ties, TIES)
    if resolution < 0:
        raise ValueError(f"advantage.resolution={resolution}: give a number of at least 0.")


def clip_gate(eps_low: float = 0.2, eps_high: float = 0.2, ratio_max: float | None = None, **_: Any) -> None:
    """Arguments of `grouprl.losses.ClipGate`."""
    if not 0 < eps_low < 1:
        raise ValueError(f"eps_low={eps_low}: give a number above 0 and below 1 (the ratio is clipped at 1 - eps_low).")
    if not eps_high > 0:
        raise ValueError(f"eps_high={eps_high}: give a number above 0.")
    if ratio_max is not None and ratio_max <= 1 + eps_high:
        raise ValueError(f"loss.gate.ratio_max={ratio_max}: give a number above 1 + eps_high = {1 + eps_high:g}.")


def correction(cap: float = 2.0, **_: Any) -> None:
    """Arguments of `grouprl.corrections.TruncatedWeights` and `grouprl.corrections.MaskedWeights`."""
    if not cap > 1:
        raise ValueError(f"loss.correction.cap={cap}: give a number above 1, the weight of a token both agree on.")


def no_correction(**arguments: Any) -> None:
    """Arguments of `grouprl.corrections.NoCorrection`: none, but a command line may have left some."""
    for key in arguments.keys() - {"_target_"}:
        raise ValueError(
            f"loss.correction.{key}={arguments[key]}: NoCorrection has no {key}. Add ~loss.correction.{key}"
        )


def policy(**arguments: Any) -> None:
    """Arguments of `grouprl.policy.load_policy`."""
    for key in ("fast", "gradient_checkpointing", "cuda_graphs", "compile", "trust_remote_code"):
        if not isinstance(arguments.get(key, False), bool):
            raise ValueError(f"policy.{key}={arguments[key]}: give true or false.")


def group_sampler(
    group_size: int = 1,
    max_new_tokens: int = 1,
    max_sequences: int = 1,
    top_k: int = 0,
    top_p: float = 1.0,
    **_: Any,
) -> None:
    """Arguments of `grouprl.sampling.GroupSampler`."""
    if max_sequences < 1:
        raise ValueError(f"sampler.max_sequences={max_sequences}: give at least 1.")
    if group_size < 1 or max_new_tokens < 1:
        raise ValueError(f"group_size={group_size}, max_new_tokens={max_new_tokens}: give at least 1.")
    if top_k != 0 or top_p != 1.0:
        raise ValueError(
            f"sampler.top_k={top_k}, sampler.top_p={top_p}: training samples from the policy's own "
            "distribution. Use sampler.top_k=0 and sampler.top_p=1."
        )


def vllm_sampler(
    group_size: int = 1,
    max_new_tokens: int = 1,
    gpu_memory_utilization: float = 0.3,
    max_model_len: int | None = None,
    dtype: str = "bfloat16",
    tools: str = "none",
    **_: Any,
) -> None:
    """Arguments of `grouprl.vllm_sampler.VLLMSampler`."""
    group_sampler(group_size, max_new_tokens)
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
    if tools != "none":
        raise ValueError(
            f"sampler.tools={tools}: sampler=vllm runs no tools. Use sampler=group, or sampler.tools=none."
        )


def vllm_installed() -> None:
    """Whether vLLM can be imported; it is looked up, not imported."""
    if importlib.util.find_spec("vllm") is None:
        raise ValueError(
            'sampler=vllm: vLLM is not installed. Install it with pip install "grouprl[vllm]" (a CUDA GPU is needed), '
            "or use sampler=group, the built-in sampler."
        )


def math_reward(correct: float = 0.0, box: float = 0.0, steps: float = 0.0, notation: float = 0.0, **_: Any) -> None:
    """Arguments of `grouprl.rewards.MathReward`."""
    style = {"box": box, "steps": steps, "notation": notation}
    for name, weight in {"correct": correct, **style}.items():
        if not weight >= 0:
            raise ValueError(f"reward.{name}={weight}: weights are at least 0.")
    if correct < sum(style.values()) + MARGIN:
        raise ValueError(
            f"reward.correct={correct} does not outweigh the style parts together ({sum(style.values()):g}) "
            f"by {MARGIN:g}: a wrong answer could outscore a right one. Raise reward.correct or lower the others."
        )


def lora_adapter(rank: int = 1, init: bool | str = True, **_: Any) -> None:
    """Arguments of `grouprl.policy.LoraAdapter`."""
    if rank < 1:
        raise ValueError(f"adapter.rank={rank}: give a number of at least 1.")
    if init not in (True, "gaussian"):
        raise ValueError(
            f"adapter.init={init!r}: this start does not leave the base as it is, so that the base with the "
            "adapter off would not be the starting policy. Choose true or gaussian."
        )


def row_check(bad_rows: str = "refuse", duplicates: str = "drop", answer_format: str = "plain", **_: Any) -> None:
    """Arguments of `grouprl.data.RowCheck`."""
    choice("data.bad_rows", bad_rows, ("refuse", "drop"))
    choice("data.duplicates", duplicates, ("drop", "refuse", "keep"))
    choice("data.answer_format", answer_format, ("plain", "boxed", "hashes"))


OF_TARGET: dict[str, Callable[..., None]] = {
    "grouprl.advantages.RankAdvantage": rank_advantage,
    "grouprl.losses.ClipGate": clip_gate,
    "grouprl.corrections.NoCorrection": no_correction,
    "grouprl.corrections.TruncatedWeights": correction,
    "grouprl.corrections.MaskedWeights": correction,
    "grouprl.sampling.GroupSampler": group_sampler,
    "grouprl.vllm_sampler.VLLMSampler": vllm_sampler,
    "grouprl.rewards.MathReward": math_reward,
    "grouprl.policy.LoraAdapter": lora_adapter,
    "grouprl.policy.load_policy": policy,
    "grouprl.data.jsonl_problems": row_check,
    "grouprl.data.hub_problems": row_check,
}
"""The check of each ``_target_``."""
