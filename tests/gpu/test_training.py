"""Logprobs, gradients, compiled layers and memory on a real GPU are those of plain transformers."""

import pytest
import torch
from helpers.gpu import NEEDS_GPU, bf16, on_gpu
from helpers.kinds import ADAPTERS, BATCHES, FAST, PLAIN, holed, policy_of, policy_with, ragged, trained

from grouprl import LoraAdapter

pytestmark = NEEDS_GPU


def assert_alike(actual, expected, bound=1e-5):
    torch.testing.assert_close(actual[:2], expected[:2], atol=bound, rtol=0, check_device=False)
    assert actual[2].keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        assert (actual[2][name].cpu() - gradient.cpu()).norm() < bound * gradient.norm(), name


@pytest.mark.parametrize("batch", ["ragged", "holed", "one sequence", "one token each"])
@pytest.mark.parametrize("name", FAST)
def test_the_fast_path_trains_as_the_plain_one_on_the_cpu(name, batch):
    policy, batch = policy_of(name), BATCHES[batch]()
    expected = trained(policy, batch, fast=False)
    assert_alike(trained(policy.to("cuda"), on_gpu(batch), fast=True), expected, bound=2e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_the_plain_path_trains_as_on_the_cpu(name):
    policy, batch = policy_of(name), ragged()
    expected = trained(policy, batch, fast=False)
    assert_alike(trained(policy.to("cuda"), on_gpu(batch), fast=False), expected, bound=5e-5)


@ADAPTERS
def test_under_bf16_the_fast_path_is_as_near_as_the_plain_one(adapter):
    policy, batch = policy_with("qwen2", adapter).to("cuda"), on_gpu(holed())
    exact = trained(policy, batch, fast=True)
    with bf16():
        fast, plain = (trained(policy, batch, fast) for fast in (True, False))
    gaps = [(low[0] - exact[0]).abs().mean() for low in (fast, plain)]
    assert gaps[0] < 2 * gaps[1] + 1e-3


@pytest.mark.parametrize("adapter", [None, LoraAdapter(rank=4)], ids=["whole", "lora"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "checkpointing"])
def test_compiled_layers_train_as_others(adapter, recompute):
    torch._dynamo.reset()
    policy = policy_of("qwen2", gradient_checkpointing=recompute, **({"adapter": adapter} if adapter else {}))
    policy = policy.to("cuda")
    for batch in (on_gpu(ragged()), on_gpu(holed())):
        results = []
        for policy.compiles_layers in (False, True):
            results.append(trained(policy, batch, fast=True))
        assert_alike(results[1], results[0], bound=2e-5)


def test_a_backward_pass_gives_the_same_bits_again():
    policy, batch = policy_of("qwen2").to("cuda"), on_gpu(holed())
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (trained(policy, batch, fast=True) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])
