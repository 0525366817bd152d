"""Random models of every kind that fast and plain paths serve, and batches for them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from grouprl import GroupSampler, LoraAdapter, Policy
from helpers.batches import batch_of, prompts_of
from helpers.models import bpe_tokenizer, random_model

PROMPTS = prompts_of([5, 6, 7, 8, 9, 10, 11, 12, 13], [20], [30, 31, 32], [40, 41, 42, 43, 44, 45], [50, 51])


NEW = 12


SAMPLER = GroupSampler(group_size=6, max_new_tokens=NEW)
LENGTH = 9 + NEW
"""Longest prompt and completion together."""


_LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}


_LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
_HYBRID = ["linear_attention", "full_attention"]
_STATES = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}


_EXPERTS = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4}


FAST = {
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2 untied": ("qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("qwen3", {"head_dim": 24}),
    "qwen3 biased": ("qwen3", {"head_dim": 24, "attention_bias": True, "tie_word_embeddings": True}),
    "llama": ("llama", {}),
    "llama biased": ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}),
    "llama3 rope": ("llama", {"rope_parameters": {**_LLAMA3, "original_max_position_embeddings": 16}}),
    "llama linear rope": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}}),
    "llama yarn rope": ("llama", {"rope_parameters": {**_YARN, "original_max_position_embeddings": 8}}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral wide window": ("mistral", {"sliding_window": LENGTH}),
    "gemma": ("gemma", {"head_dim": 8, "num_key_value_heads": 1}),
}


PLAIN = {
    "gpt2": ("gpt2", {}),
    "mistral narrow window": ("mistral", {"sliding_window": 6}),
    "qwen2 narrow window": ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "llama dynamic rope": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
    "gemma2": ("gemma2", {"head_dim": 8, "sliding_window": 6, "tie_word_embeddings": False}),
    "olmo2": ("olmo2", {}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {"sliding_window": 6}),
    "qwen2 moe": ("qwen2_moe", {**_EXPERTS, "num_experts_per_tok": 2}),
    "qwen3.5, linear attention beside full": ("qwen3_5_text", {**_LINEAR, "layer_types": _HYBRID, "head_dim": 8}),
    "lfm2, convolutions beside attention": ("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "falcon h1, both in each layer": ("falcon_h1", {**_STATES, "mamba_d_ssm": 32, "head_dim": 8}),
    "mamba, states alone": ("mamba", {"state_size": 8, "expand": 2}),
    "mamba2, states alone": ("mamba2", {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "expand": 2}),
}


KINDS = {**FAST, **PLAIN}


def model_of(name):
    """A random model whose biases and norms are not those of an untrained one, and whose layers outweigh the input."""
    kind, changes = KINDS[name]
    changes = changes if kind == "gpt2" else {"num_attention_heads": 4, "num_key_value_heads": 2, **changes}
    model = random_model(kind, initializer_range=0.2, **changes).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif "embed" not in key and "lm_head" not in key:
                parameter.mul_(1.5)
    return model


def stack_of(policy, length=20):
    """The decoder stack of the fast path, or None where the plain path serves."""
    fast = policy._fast_path(policy.model, length)
    return None if fast is None else fast.stack


def policy_of(name, **settings):
    policy = Policy(model_of(name), bpe_tokenizer(), **settings)
    return moved(policy, 0.05) if "adapter" in settings else policy


def moved(policy, size):
    """The policy with its trained weights moved in place, as an optimizer does."""
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn_like(parameter))
    return policy


def policy_with(name, adapter):
    return policy_of(name, adapter=adapter) if adapter else policy_of(name)


ADAPTERS = pytest.mark.parametrize("adapter", [None, LoraAdapter(rank=4)], ids=["whole", "lora"])


def generated(policy, ids, ends):
    """Greedy completion of one prompt alone by transformers."""
    out = policy.model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),  # else guessed from the padding
        do_sample=False,
        max_new_tokens=NEW,
        pad_token_id=0,
        eos_token_id=list(ends) or None,
    )
    return out[0, len(ids) :].tolist()


def random_completions(*lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, 400, (length,), generator=generator).tolist() for length in lengths]


def ragged():
    """Groups of one prompt, the same prompt again further on, and prompts that differ by a leading padding token."""
    a, b, c, d = [5, 6, 7, 8, 9], [0, 20, 21], [20, 21], [30]
    return batch_of([a, a, a, b, c, a, d, d], random_completions(1, 16, 7, 3, 1, 12, 5, 1))


def holed():
    """Completions with tool tokens at the start, inside, at the end, and throughout."""
    batch = ragged()
    sampled = batch.completion_mask.clone()
    sampled[1, 4:9] = sampled[2, :3] = sampled[5, 10:] = sampled[5, 3] = sampled[6] = False
    return replace(batch, sampled_mask=sampled)


BATCHES = {
    "ragged": ragged,
    "holed": holed,
    "one sequence": lambda: batch_of([[5, 6, 7]], random_completions(9)),
    "one token each": lambda: batch_of([[5, 6, 7], [5, 6, 7], [8]], random_completions(1, 1, 1)),
    "rows of a wider batch": lambda: ragged().rows(torch.tensor([3, 2, 4])),
    "one prompt": lambda: batch_of([[5, 6, 7]] * 4, random_completions(6, 6, 6, 6)),
}


def trained(policy, batch, fast):
    """Logprobs and entropies of a batch on one path, and the gradients of a loss of them by name of parameter."""
    policy.fast = fast
    assert (stack_of(policy, batch.prompt_ids.shape[1] + batch.completion_ids.shape[1]) is not None) == fast
    policy.zero_grad()
    logprobs, entropy = policy.logprobs(batch)
    drawn = torch.randn(logprobs.shape, generator=torch.Generator().manual_seed(1))
    coefficients = drawn.to(batch.drawn.device) * batch.drawn
    (coefficients * logprobs).sum().backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    return logprobs.detach()[batch.drawn], entropy[batch.drawn], gradients


def with_many_ends(policy):
    """Every eighth token ends a completion, so that rows end at all times and are dropped."""
    policy.base.generation_config.eos_token_id = list(range(4, 400, 8))
    return policy


def replaced(policy):
    """The policy with its trained weights in new memory."""
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.05 * torch.randn_like(parameter)
    return policy


def assert_same_training(policy, batch, atol=1e-5, gradient_rtol=1e-5):
    fast, plain = (trained(policy, batch, fast) for fast in (True, False))
    torch.testing.assert_close(fast[:2], plain[:2], atol=atol, rtol=0)
    assert fast[2].keys() == plain[2].keys() == {name for name, p in policy.named_parameters() if p.requires_grad}
    for name, expected in plain[2].items():
        difference = (fast[2][name] - expected).norm() / expected.norm()
        assert difference < gradient_rtol, f"{name}: {difference}"
