"""Products by oneDNN, and layers of one input in one function, give what PyTorch's own give."""

import pytest
import torch
from helpers.batches import batch_of, prompts_of
from helpers.kinds import (
    ADAPTERS,
    PROMPTS,
    SAMPLER,
    assert_same_training,
    policy_with,
    ragged,
    random_completions,
)
from torch.utils._python_dispatch import TorchDispatchMode

from grouprl import GroupSampler, LoraAdapter
from grouprl.policy.engine import linears, products


@pytest.mark.parametrize("targets", [None, "all-linear", ("q_proj", "down_proj")])
def test_without_onednn_products_are_the_same(targets, monkeypatch):
    policy = policy_with("llama biased", targets and LoraAdapter(rank=4, targets=targets))
    completions = SAMPLER(policy, PROMPTS, seed=0).completions
    monkeypatch.setattr(products, "_has_onednn", lambda: False)
    assert SAMPLER(policy, PROMPTS, seed=0).completions == completions
    assert_same_training(policy, ragged())


class OneDNN(TorchDispatchMode):
    """Notes rows, and whether weights are packed, of the calls of oneDNN."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if "linear_pointwise" in str(function):
            self.seen.add((len(arguments[0]), arguments[1].is_mkldnn))
        return function(*arguments, **(keywords or {}))


needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.mark.slow
@needs_onednn
@ADAPTERS
def test_onednn_is_called_for_few_numbers_of_rows(adapter):
    """It compiles a product for each and keeps it: half a MiB, at each of a thousand lengths."""
    policy = policy_with("llama", adapter)
    generator = torch.Generator().manual_seed(0)
    with OneDNN() as onednn:
        for size in range(40, 140):
            lengths = torch.randint(1, size, (8,), generator=generator).tolist()
            prompts = [[5] * int(length) for length in torch.randint(1, 30, (4,), generator=generator)]
            policy.logprobs(batch_of([ids for ids in prompts for _ in range(2)], random_completions(*lengths)))
        for rows in range(1, 40):
            GroupSampler(group_size=2, max_new_tokens=2)(policy, prompts_of(*[[5] * rows] * rows), seed=0)
    packed = {rows for rows, is_packed in onednn.seen if is_packed}
    assert 3 < len(onednn.seen) - len(packed) < 25  # of 32 to some 800 rows
    assert 10 < len(packed) < 40  # of 1 to 1,521 rows


@needs_onednn
def test_products_of_other_numbers_of_rows_are_torchs_own():
    weight, bias = torch.randn(8, 16), torch.randn(8)
    for plain, wanted in ((weight, {(64, False)}), (products.pack(weight), {(40, True), (64, True)})):
        with OneDNN() as onednn:
            for rows in (33, 39, 64):
                x = torch.randn(rows, 16)
                torch.testing.assert_close(products.product(x, plain, bias), x @ weight.T + bias)
        assert onednn.seen == wanted


def test_a_frozen_model_gets_no_weight_gradients_and_an_input_does():
    layer, x = torch.nn.Linear(8, 5).requires_grad_(False), torch.randn(3, 8, requires_grad=True)
    for layers in (linears.linears(layer, layer), lambda x: (layer(x), layer(x))):
        x.grad = None
        first, second = layers(x)
        (first.square() + second).sum().backward()
        torch.testing.assert_close(x.grad, 2 * layer(x).detach() @ layer.weight + layer.weight.sum(0))
    assert layer.weight.grad is None
