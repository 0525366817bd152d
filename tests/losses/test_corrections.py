"""The correction for a sampler that is not exact."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.loss_inputs import inputs

from grouprl import LossInputs, PolicyLoss
from grouprl.losses.corrections import MaskedWeights, NoCorrection, TruncatedWeights
from grouprl.losses.gates import ClipGate, NoGate
from grouprl.losses.kl import K3

W = torch.tensor([[0.5, 1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        (NoCorrection(), [1.0, 1.0, 1.0, 1.0]),
        (TruncatedWeights(), [0.5, 1.0, 2.0, 2.0]),
        (TruncatedWeights(2.5), [0.5, 1.0, 2.0, 2.5]),
        (MaskedWeights(), [0.5, 1.0, 2.0, 0.0]),
        (MaskedWeights(1.5), [0.5, 1.0, 0.0, 0.0]),
    ],
)
def test_weights_by_hand(correction, expected):
    assert correction(W).tolist() == [expected]


def by_engine(seed=0, reference=True):
    """Inputs whose sampler's logprobs are up to about 1.5 nats from the old ones."""
    new, batch = inputs(seed, reference)
    noise = 0.7 * torch.randn(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return new, replace(batch, sampler_logprobs=(batch.old_logprobs + noise).masked_fill(~batch.mask, 0.0))


@pytest.mark.parametrize(
    ("correction", "weight"),
    [
        (NoCorrection(), lambda w: 1.0),
        (TruncatedWeights(1.5), lambda w: min(w, 1.5)),
        (MaskedWeights(1.5), lambda w: w if w <= 1.5 else 0.0),
    ],
    ids=["none", "truncated", "masked"],
)
def test_loss_gradient_and_metrics_against_an_explicit_computation(correction, weight):
    """The derivative of each token, written out: no gradient flows through the weight or through the old logprobs."""
    new, batch = by_engine()
    outputs = PolicyLoss(ClipGate(0.2, 0.28), kl=K3(0.1), correction=correction)(new, batch)
    outputs.loss.backward()
    loss, gradient, weights, limited = 0.0, torch.zeros_like(new), [], 0
    for i, j in batch.mask.nonzero().tolist():
        n, old, ref = (float(x[i, j]) for x in (new.detach(), batch.old_logprobs, batch.ref_logprobs))
        advantage, share = float(batch.advantages[i]), float(batch.token_weights[i])
        ratio, w = math.exp(n - old), math.exp(old - float(batch.sampler_logprobs[i, j]))
        clipped = min(max(ratio, 0.8), 1.28)
        through = ratio * advantage if ratio * advantage <= clipped * advantage else 0.0
        loss -= (
            share * weight(w) * (min(ratio * advantage, clipped * advantage) - 0.1 * (math.expm1(ref - n) - ref + n))
        )
        gradient[i, j] = -share * weight(w) * (through - 0.1 * (1 - math.exp(ref - n)))
        weights.append(weight(w))
        limited += w > 1.5
    assert float(outputs.loss.detach()) == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(new.grad, gradient)
    assert 0 < limited < len(weights)
    if isinstance(correction, NoCorrection):  # it weighs nothing, and so has nothing to say
        assert not any(name.startswith("correction/") for name in outputs.token_sums)
        return
    assert float(outputs.token_sums["correction/weight"]) == pytest.approx(sum(weights))
    assert float(outputs.token_sums["correction/limited"]) == limited


def test_the_weights_make_the_gradient_the_trainers_own_in_expectation():
    """Over all tokens of a small vocabulary: what an engine draws, weighed, averages to what the trainer would draw."""
    generator = torch.Generator().manual_seed(0)
    trainer, engine = (torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    rewards = torch.arange(6.0, dtype=torch.float64)

    def gradient(drawn_from, **recorded):
        logits = trainer.clone().requires_grad_()
        new = logits.log_softmax(-1).unsqueeze(-1)
        mask = torch.ones_like(new, dtype=torch.bool)
        batch = LossInputs(trainer.unsqueeze(-1), rewards, mask, drawn_from.exp(), **recorded)
        PolicyLoss(NoGate(), correction=TruncatedWeights(1e6))(new, batch).loss.backward()
        return logits.grad

    torch.testing.assert_close(gradient(engine, sampler_logprobs=engine.unsqueeze(-1)), gradient(trainer))
    assert float((gradient(engine) - gradient(trainer)).abs().max()) > 0.01


def test_an_exact_sampler_is_not_corrected():
    new, batch = inputs()
    plain = PolicyLoss()(new, batch)
    corrected = PolicyLoss(correction=MaskedWeights(1.1))(new, batch)
    assert torch.equal(plain.loss, corrected.loss)
    assert plain.token_sums.keys() == corrected.token_sums.keys()
    assert "correction/weight" not in plain.token_sums


def test_caps_and_shapes_that_cannot_work_are_refused():
    for make in (TruncatedWeights, MaskedWeights):
        with pytest.raises(ValueError, match=r"loss\.correction\.cap=1"):
            make(1.0)
    new, batch = by_engine()
    with pytest.raises(ValueError, match="sampler_logprobs has shape"):
        PolicyLoss()(new, replace(batch, sampler_logprobs=batch.sampler_logprobs[:, :2]))
