"""Layers compiled for training give the gradients of layers that are not, from one compilation for all row counts."""

from __future__ import annotations

import pytest
import torch
from helpers.kinds import BATCHES, holed, moved, policy_of, ragged, trained
from torch._dynamo.testing import CompileCounter

from grouprl import LoraAdapter
from grouprl.policy.engine import stack

ONE = BATCHES["one sequence"]


def assert_trains_alike(actual, expected):
    torch.testing.assert_close(actual[:2], expected[:2], atol=1e-5, rtol=0)
    assert actual[2].keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        assert (actual[2][name] - gradient).norm() < 1e-5 * gradient.norm(), name


@pytest.fixture
def counter(monkeypatch):
    """Compiles to the operations as they are, which takes a second or two, and counts the compilations."""
    torch._dynamo.reset()
    counter = CompileCounter()
    halves = tuple(
        torch.compile(half, dynamic=True, backend=counter) for half in (stack._before_attention, stack._after_attention)
    )
    monkeypatch.setattr(stack, "_compiled_halves", lambda: halves)
    return counter


@pytest.mark.parametrize("layers", [2, 5])
def test_one_compilation_serves_all_layers_and_row_counts(layers, counter):
    policy = policy_of("qwen3", compile=True)
    policy.base.model.layers.extend([policy.base.model.layers[number % 2] for number in range(layers - 2)])
    for batch in (ragged(), ONE(), holed()):
        policy.compiles_layers = False
        expected = trained(policy, batch, fast=True)
        policy.compiles_layers = True
        assert_trains_alike(trained(policy, batch, fast=True), expected)
        assert counter.frame_count == 2


def test_sampling_compiles_nothing(counter):
    from helpers.kinds import PROMPTS, SAMPLER

    SAMPLER(policy_of("qwen2", compile=True), PROMPTS, seed=0)
    assert counter.frame_count == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "adapter", "recompute", "autocast"),
    [
        ("qwen2", None, False, False),
        ("qwen2", LoraAdapter(rank=4), True, False),
        ("gemma", None, True, True),
        ("qwen2", LoraAdapter(rank=4), False, True),
    ],
)
def test_compiled_layers_train_as_others(name, adapter, recompute, autocast):
    """With the default backend, which generates C++ here. Also of weights that have moved since."""
    torch._dynamo.reset()
    policy = policy_of(name, gradient_checkpointing=recompute, **({"adapter": adapter} if adapter else {}))
    for batch in (ragged(), holed(), ONE()):
        results = []
        for compiled in (False, True):
            policy.compiles_layers = compiled
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
                results.append(trained(policy, batch, fast=True))
        expected, actual = results
        if autocast:  # compiled code rounds to bfloat16 less often
            assert (actual[0] - expected[0]).abs().mean() < 2e-2
            for key, gradient in expected[2].items():
                assert (actual[2][key] - gradient).norm() < 0.1 * gradient.norm(), key
        else:
            assert_trains_alike(actual, expected)
        moved(policy, 0.01)
