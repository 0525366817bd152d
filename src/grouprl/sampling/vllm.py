"""Sampling by vLLM on the trainer's GPU.

DecodedRows against vLLM's public API as the documentation and sources of 0.29 to 0.32 give it (`LLM`, `SamplingParams`,
`LLM.apply_model`, `LLM.reset_prefix_cache`). **It has not been run against a real vLLM**: the tests put a stand-in with
the same interface in its place. See docs/vllm.md.

vLLM's kernels are not the trainer's, so that the logprobs it records deviate from the trainer's by more than rounding:
the old logprobs are computed anew, and `grouprl.losses.corrections` weighs the tokens.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from grouprl.batch import Prompts, Rollouts
from grouprl.policy.policy import Policy
from grouprl.sampling import checks
from grouprl.sampling.base import DecodedRows, assemble, check_lengths


@dataclass(frozen=True)
class VLLMSampler:
    """Samples a group of completions for each prompt with vLLM, after giving it the policy's current weights.

    A draw is a function of (seed, iteration, global prompt index, sample index) as far as vLLM's arithmetic is: its
    kernels may round differently in another batch, so that completions are not promised to be the same bits.

    Raises:
        ValueError: vLLM is not installed, there are several processes, or the policy is of no folder or hub id.
    """

    exact: ClassVar[bool] = False
    max_sequences: ClassVar[int] = 0

    group_size: int = 8
    max_new_tokens: int = 96
    """Longest completion."""
    gpu_memory_utilization: float = 0.3
    """Share of the GPU's memory for vLLM's weights and cache, all the time; the trainer has the rest."""
    max_model_len: int | None = None
    """Most tokens of prompt and completion together; None: the model's context, for which the cache must have room."""
    dtype: str = "bfloat16"
    """Dtype of vLLM's weights and arithmetic: bfloat16, float16 or float32."""
    enforce_eager: bool = False
    """No CUDA graphs: less memory and a quicker start, slower sampling."""

    def __post_init__(self) -> None:
        checks.vllm_sampler(
            self.group_size, self.max_new_tokens, self.gpu_memory_utilization, self.max_model_len, self.dtype
        )

    @torch.no_grad()
    def __call__(self, policy: Policy, prompts: Prompts, *, seed: int, greedy: bool = False) -> Rollouts:
        """Sample ``group_size`` completions for each prompt (one with ``greedy``).

        Args:
            policy: The policy; its temperature is the sampling temperature.
            prompts: P prompts.
            seed: Seed of the run.
            greedy: Take the most likely token each time; the logprobs recorded are then those at temperature 1.
        """
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise ValueError("sampler=vllm: one engine serves one process. Use one device, or sampler=group.")
        check_lengths(policy, prompts, self.max_new_tokens, self.max_model_len)
        group = 1 if greedy else self.group_size
        llm = self._engine_with_weights_of(policy)
        # One request a sample, so that each has a seed of its own; the prefix cache shares the prompt between them.
        keys = [(seed, prompts.iteration, index, sample) for index in prompts.indices for sample in range(group)]
        parameters = [self._parameters(policy, key, greedy) for key in keys]
        requests = [{"prompt_token_ids": list(ids)} for ids in prompts.token_ids for _ in range(group)]
        outputs = llm.generate(requests, parameters, use_tqdm=False)
        return assemble(policy, prompts, [_decoded_rows(policy, [output.outputs[0] for output in outputs])], group)

    def _engine_with_weights_of(self, policy: Policy) -> Any:
        path = policy.base.name_or_path
        if not path:
            raise ValueError("sampler=vllm: the engine is made from the policy's folder or hub id, and it has neither.")
        llm = _engine(path, self.dtype, self.gpu_memory_utilization, self.max_model_len, self.enforce_eager)
        (missing,) = llm.apply_model(lambda model: _load(model, weights_of(policy)))
        if missing:
            raise RuntimeError(f"vLLM's model has weights that the policy did not give it: {', '.join(missing[:5])}.")
        if llm.reset_prefix_cache() is False:  # what it holds was computed with the weights before
            raise RuntimeError("vLLM did not empty its prefix cache; completions would mix old and new weights.")
        return llm

    def _parameters(self, policy: Policy, key: Sequence[int], greedy: bool) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            n=1,
            # Every option that could shape the distribution is set: it has to be the policy's own.
            temperature=0.0 if greedy else policy.temperature,
            top_p=1.0,
            top_k=0,
            min_p=0.0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            seed=None if greedy else _request_seed(key),
            max_tokens=self.max_new_tokens,
            stop_token_ids=list(policy.eos_ids),
            logprobs=0,  # that of the drawn token alone
            detokenize=False,
        )


@functools.lru_cache(maxsize=1)
def _engine(model: str, dtype: str, memory: float, max_model_len: int | None, enforce_eager: bool) -> Any:
    """The engine of this process: made once, and shared by copies of a sampler."""
    checks.vllm_installed()
    # In this process, so that weights are handed over as they are. vLLM then seeds the process's global random
    # generators, from which nothing here draws, and forms a process group of one.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM

    return LLM(
        model=model,
        dtype=dtype,
        gpu_memory_utilization=memory,
        max_model_len=max_model_len,
        enforce_eager=enforce_eager,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",  # at the sampling temperature, which the default leaves out
        generation_config="vllm",  # and not the model folder's, whose top_k and top_p would truncate
    )


def weights_of(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """Weights of the policy under the names of a checkpoint, an adapter added to its base.

    The policy is left as it is: a sum of base and adapter is made when it is asked for. A tied ``lm_head`` comes once,
    as the embedding, and vLLM ties its own.
    """
    modules = dict(policy.base.named_modules())
    adapted = {name for name, module in modules.items() if hasattr(module, "get_delta_weight")}
    for name, weight in policy.base.named_parameters():
        layer, _, own_name = name.partition(".base_layer.")
        if own_name == "weight" and layer in adapted:
            adapter = policy.model.active_adapter
            yield f"{layer}.weight", weight.detach() + modules[layer].get_delta_weight(adapter)  # type: ignore[operator]
        elif ".lora_" not in name:
            yield name.replace(".base_layer.", "."), weight.detach()


def _load(model: Any, weights: Iterator[tuple[str, Tensor]]) -> list[str]:
    """Write weights into vLLM's model in place; the names of its parameters that none was for."""
    loaded = model.load_weights(weights)
    return sorted({name for name, _ in model.named_parameters()} - set(loaded))


def _request_seed(key: Sequence[int]) -> int:
    """63 bits of the key: seeds are signed there."""
    return int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _decoded_rows(policy: Policy, completions: Sequence[Any]) -> DecodedRows:
    """vLLM's completions as padded rows, each up to and including its first end-of-sequence token."""
    eos, rows = set(policy.eos_ids), len(completions)
    ids = [list(completion.token_ids) for completion in completions]
    lengths = [next((at + 1 for at, token in enumerate(row) if token in eos), len(row)) for row in ids]
    token_ids = torch.full((rows, max(lengths)), policy.tokenizer.pad_token_id)
    dtype = torch.float64 if policy.base.dtype == torch.float64 else torch.float32
    logprobs = torch.zeros(token_ids.shape, dtype=dtype)
    for row, (completion, tokens, length) in enumerate(zip(completions, ids, lengths, strict=True)):
        token_ids[row, :length] = torch.tensor(tokens[:length])
        recorded = [completion.logprobs[at][token].logprob for at, token in enumerate(tokens[:length])]
        logprobs[row, :length] = torch.tensor(recorded, dtype=dtype)
    truncated = torch.tensor([row[length - 1] not in eos for row, length in zip(ids, lengths, strict=True)])
    device = policy.device
    return DecodedRows(
        token_ids.to(device), logprobs.to(device), torch.tensor(lengths).to(device), truncated.to(device)
    )
