"""The head in tiles gives what `log_softmax` gives."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from grouprl.policy.engine import head
from grouprl.policy.engine.head import token_logprobs


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("keep_bytes", [0, 2**30])
@pytest.mark.parametrize("trained", ["both", "hidden", "weight"])
@pytest.mark.parametrize("columns", [7, 300, 1000])
def test_the_head_is_log_softmax_however_it_is_cut(trained, keep_bytes, columns, temperature, monkeypatch):
    monkeypatch.setattr(head, "_LEAST_COLUMNS", 1)
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 16, generator=generator, dtype=torch.float64) for n in (50, 1000))
    hidden.requires_grad_(trained != "weight")
    weight.requires_grad_(trained != "hidden")
    wanted = [tensor for tensor in (hidden, weight) if tensor.requires_grad]
    tokens = torch.randint(1000, (50,), generator=generator)
    coefficients = torch.randn(50, generator=generator, dtype=torch.float64)
    expected = (hidden @ weight.T / temperature).log_softmax(-1)
    chosen = expected[torch.arange(50), tokens]
    gradients = torch.autograd.grad((coefficients * chosen).sum(), wanted)
    logprobs, entropy = token_logprobs(
        hidden, weight, tokens, temperature, keep_bytes=keep_bytes, tile_bytes=columns * 50 * 8
    )
    assert not entropy.requires_grad
    torch.testing.assert_close(logprobs, chosen, atol=1e-12, rtol=0)
    torch.testing.assert_close(entropy, -(expected.exp() * expected).sum(-1), atol=1e-12, rtol=0)
    for retain in (True, False):
        actual = torch.autograd.grad((coefficients * logprobs).sum(), wanted, retain_graph=retain)
        torch.testing.assert_close(actual, gradients, atol=1e-12, rtol=1e-12)


def test_without_gradient_the_head_is_one_product_with_its_weight():
    # float64, of which PyTorch's counter sees every product.
    hidden, weight = torch.randn(50, 16, requires_grad=True).double(), torch.randn(1000, 16).double()
    for trained_weight in (False, True):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            token_logprobs(hidden, weight.requires_grad_(trained_weight), torch.arange(50))
        assert counter.get_total_flops() == 2 * 50 * 16 * 1000


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_under_autocast_and_of_narrow_weights_the_head_is_float32(weights, temperature):
    """Of hidden states in bfloat16: a head in bfloat16 would be off by a hundred times as much."""
    hidden = torch.randn(40, 64).bfloat16().requires_grad_()
    weight = (torch.randn(3000, 64) / 4).to(weights).requires_grad_()
    exact = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    tokens = torch.arange(40)
    expected = (exact[0] @ exact[1].T / temperature).log_softmax(-1)[tokens, tokens]
    wanted = torch.autograd.grad(expected.sum(), exact)
    with torch.autocast("cpu", torch.bfloat16):
        logprobs, entropy = token_logprobs(hidden, weight, tokens, temperature)
    assert logprobs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logprobs.double(), expected, atol=2e-5, rtol=0)
    for found, right in zip(torch.autograd.grad(logprobs.sum(), (hidden, weight)), wanted, strict=True):
        torch.testing.assert_close(found.double(), right, atol=1e-2, rtol=1e-2)  # rounded to bfloat16 themselves
    coarse = (hidden @ weight.bfloat16().T).float().div(temperature).log_softmax(-1)[tokens, tokens].double()
    assert (coarse - expected).abs().max() > 2e-3


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_what_is_kept_is_counted_in_its_own_width(temperature):
    hidden, weight = torch.randn(50, 16, requires_grad=True), torch.randn(1000, 16, requires_grad=True)
    for room, computed_again in ((4 * 50 * 1000, False), (4 * 50 * 1000 - 1, True)):
        with torch.autocast("cpu", torch.bfloat16), FlopCounterMode(display=False) as counter:
            logprobs, _ = token_logprobs(hidden, weight, torch.arange(50), temperature, keep_bytes=room)
            logprobs.sum().backward()
        products = counter.get_total_flops() / (2 * 50 * 16 * 1000)
        assert products == (3 if computed_again else 2)  # the counter leaves out products with out=
