"""A stand-in for vLLM: the part of its public interface that the sampler uses, over a transformers model on the CPU.

It is put in vLLM's place as the module ``vllm``. It has a copy of the weights and random numbers of its own, keeps the
logits of prompts it has seen until it is told that they are stale, and, like vLLM in one process, resets the global
random generators and forms a process group of one. It shows what the sampler asks for and makes of the answers; it
shows nothing about vLLM.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import AutoModelForCausalLM


@dataclass
class SamplingParams:
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    detokenize: bool = True

    def __post_init__(self):
        assert self.seed is None or -(2**63) <= self.seed < 2**63


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = True


class EngineModel(torch.nn.Module):
    """The model in the engine: weights are written in place, and names it does not have are an error."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def named_parameters(self, *args, **kwargs):
        return self.model.named_parameters(*args, **kwargs)

    def load_weights(self, weights):
        own, loaded = dict(self.model.named_parameters()), set()
        for name, weight in weights:
            assert own[name].shape == weight.shape
            own[name].data.copy_(weight)
            loaded.add(name)
        return loaded


class LLM:
    made: ClassVar[list] = []
    tilt: ClassVar[float] = 0.0
    """Size of a fixed error of the logits: what other kernels would do, larger."""

    def __init__(self, model, *, dtype="auto", logprobs_mode="raw_logprobs", generation_config="auto", **arguments):
        arguments |= {"dtype": dtype, "logprobs_mode": logprobs_mode, "generation_config": generation_config}
        self.arguments, self.processed = arguments, logprobs_mode == "processed_logprobs"
        self.model = EngineModel(AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)))
        vocabulary = self.model.model.config.vocab_size
        self.error = torch.randn(vocabulary, generator=torch.Generator().manual_seed(1))
        self.prefix_cache: dict = {}
        self.requests: list = []
        torch.manual_seed(0)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        LLM.made.append(self)

    def apply_model(self, function):
        return [function(self.model)]

    def reset_prefix_cache(self):
        self.prefix_cache.clear()
        return True

    @torch.inference_mode()
    def generate(self, prompts, sampling_params, *, use_tqdm=True):
        assert len(prompts) == len(sampling_params)
        pairs = [(list(prompt["prompt_token_ids"]), params) for prompt, params in zip(prompts, sampling_params)]
        self.requests += pairs
        return [RequestOutput(str(i), ids, [self._complete(ids, params)]) for i, (ids, params) in enumerate(pairs)]

    def _complete(self, prompt, params):
        generator = torch.Generator().manual_seed(0 if params.seed is None else params.seed)
        ids, logprobs, reason = [], [], "length"
        while len(ids) < params.max_tokens and reason == "length":
            logits = self._logits((*prompt, *ids), cached=not ids)
            scaled = logits / params.temperature if params.temperature else logits
            probabilities = scaled.softmax(-1)
            drawn = torch.multinomial(probabilities, 1, generator=generator) if params.temperature else logits.argmax()
            ids.append(int(drawn))
            recorded = (scaled if self.processed else logits).log_softmax(-1)
            logprobs.append({ids[-1]: Logprob(float(recorded[ids[-1]]))})
            reason = "stop" if ids[-1] in params.stop_token_ids else "length"
        return CompletionOutput(0, "", ids, None, logprobs if params.logprobs is not None else None, reason)

    def _logits(self, ids, cached):
        if not cached:
            return self._forward(ids)
        if ids not in self.prefix_cache:
            self.prefix_cache[ids] = self._forward(ids)
        return self.prefix_cache[ids]

    def _forward(self, ids):
        return self.model.model(torch.tensor([ids])).logits[0, -1].float() + LLM.tilt * self.error
