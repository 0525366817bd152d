import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.loss_inputs import LENGTHS, inputs

from grouprl.batch import LossInputs, MinibatchCounts
from grouprl.losses.aggregations import BatchTokenMean, ConstantLength, GroupTokenMean, SequenceMean
from grouprl.losses.gates import CispoGate, ClipGate, NoGate, SapoGate
from grouprl.losses.kl import K1, K2, K3
from grouprl.losses.policy_loss import PolicyLoss
from grouprl.losses.ratios import GeometricRatio, SequenceRatio, TokenRatio

COUNTS = MinibatchCounts(groups=2, sequences=4, tokens=10)


def expected(new, batch, term):
    """The loss as loops over scalars: ``term(ratio, advantage, new, old, ref)`` for each token."""
    total = 0.0
    for i, j in np.argwhere(batch.mask.numpy()):
        n, o = float(new[i, j].detach()), float(batch.old_logprobs[i, j])
        ref = 0.0 if batch.ref_logprobs is None else float(batch.ref_logprobs[i, j])
        total -= float(batch.token_weights[i]) * term(math.exp(n - o), float(batch.advantages[i]), n, o, ref)
    return total


def ppo(ratio, advantage, low=0.2, high=0.28):
    return min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)


@pytest.mark.parametrize(
    ("loss", "term"),
    [
        (PolicyLoss(ClipGate(0.2, 0.28)), lambda r, a, n, o, ref: ppo(r, a)),
        (
            PolicyLoss(ClipGate(0.2, 0.28, dual_clip=1.5)),
            lambda r, a, n, o, ref: max(ppo(r, a), 1.5 * a) if a < 0 else ppo(r, a),
        ),
        (PolicyLoss(NoGate()), lambda r, a, n, o, ref: r * a),
        (PolicyLoss(CispoGate(1.2)), lambda r, a, n, o, ref: min(r, 1.2) * a * n),
        (
            PolicyLoss(SapoGate()),
            lambda r, a, n, o, ref: 4 / (t := 1.0 if a > 0 else 1.05) * a / (1 + math.exp(-t * (r - 1))),
        ),
        (PolicyLoss(NoGate(), kl=K1(0.3)), lambda r, a, n, o, ref: r * (a - 0.3 * (o - ref))),
        (PolicyLoss(NoGate(), kl=K2(0.3)), lambda r, a, n, o, ref: r * a - 0.3 * r * 0.5 * (n - ref) ** 2),
        (PolicyLoss(NoGate(), kl=K3(0.3)), lambda r, a, n, o, ref: r * a - 0.3 * (math.exp(ref - n) - (ref - n) - 1)),
    ],
    ids=["clip", "dual-clip", "none", "cispo", "sapo", "k1", "k2", "k3"],
)
def test_losses_against_scalar_loops(loss, term):
    new, batch = inputs()
    assert math.isclose(float(loss(new, batch).loss.detach()), expected(new, batch, term), rel_tol=1e-12)


@pytest.mark.parametrize(("level", "clip"), [(SequenceRatio(), math.inf), (GeometricRatio(0.4), 0.4)])
def test_sequence_levels_against_loops(level, clip):
    new, batch = inputs()
    total = 0.0
    for i, row in enumerate(batch.mask):
        advantage = float(batch.advantages[i])
        logs = [float(new[i, j].detach() - batch.old_logprobs[i, j]) for j in range(4) if row[j]]
        logs = [min(x, clip) if advantage > 0 else max(x, -clip) for x in logs]
        total -= float(batch.token_weights[i]) * len(logs) * math.exp(sum(logs) / len(logs)) * advantage
    assert math.isclose(float(PolicyLoss(NoGate(), level)(new, batch).loss.detach()), total, rel_tol=1e-12)


def test_clip_sides_and_their_gradients():
    """Past the clip on the side the advantage pushes to there is no gradient; on the other side there is."""
    ratios = torch.tensor([[1.5], [0.5], [1.5], [0.5]], dtype=torch.float64)
    new = ratios.log().requires_grad_()
    batch = LossInputs(
        old_logprobs=torch.zeros(4, 1, dtype=torch.float64),
        advantages=torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64),
        mask=torch.ones(4, 1, dtype=torch.bool),
        token_weights=torch.ones(4, dtype=torch.float64),
    )
    outputs = PolicyLoss(ClipGate(0.2, 0.28))(new, batch)
    outputs.loss.backward()
    torch.testing.assert_close(new.grad.flatten(), torch.tensor([0.0, -0.5, 1.5, 0.0], dtype=torch.float64))
    assert float(outputs.token_sums["clip_fraction/high"]) == 1
    assert float(outputs.token_sums["clip_fraction/low"]) == 1
    assert int(outputs.tokens) == 4


def test_a_ratio_beyond_float32_is_clipped_without_a_nan():
    """At log-ratios above 88 the exponential is infinite, and 0 times it is not a number."""
    new = torch.tensor([[3.0], [90.0], [90.0], [1e30]], requires_grad=True)
    batch = LossInputs(
        old_logprobs=torch.zeros(4, 1),
        advantages=torch.tensor([1.0, 1.0, -1.0, 1.0]),
        mask=torch.ones(4, 1, dtype=torch.bool),
        token_weights=torch.ones(4),
        ref_logprobs=torch.zeros(4, 1),
    )
    outputs = PolicyLoss(ClipGate(0.2, 0.28))(new, batch)
    outputs.loss.backward()
    assert outputs.loss.isfinite()
    assert new.grad[[0, 1, 3]].tolist() == [[0.0], [0.0], [0.0]]
    assert new.grad[2] == pytest.approx(math.exp(80.0), rel=1e-5)  # which the guard of the step sees
    for level in (SequenceRatio(), TokenRatio()):
        assert level(torch.tensor([[100.0]]), torch.ones(1, 1), torch.ones(1, 1)).isfinite().all()
    for kl in (K2(0.1), K3(0.1)):
        moved = torch.full((4, 1), -100.0, requires_grad=True)
        kl.penalty(moved, replace(batch, old_logprobs=torch.full((4, 1), -200.0))).sum().backward()
        assert moved.grad.isfinite().all()


@pytest.mark.parametrize(
    ("aggregation", "weights"),
    [
        (GroupTokenMean(), [[1 / 12, 1 / 12], [1 / 8, 1 / 8]]),
        (BatchTokenMean(), [[0.1, 0.1], [0.1, 0.1]]),
        (SequenceMean(), [[1 / 8, 1 / 16], [1 / 4, 1 / 12]]),
        (ConstantLength(5), [[1 / 20, 1 / 20], [1 / 20, 1 / 20]]),
    ],
)
def test_denominators_by_hand(aggregation, weights):
    torch.testing.assert_close(aggregation.weights(LENGTHS, COUNTS), torch.tensor(weights, dtype=torch.float64))


@pytest.mark.parametrize("aggregation", [GroupTokenMean(), BatchTokenMean(), SequenceMean(), ConstantLength(5)])
def test_sequences_without_a_trained_token_weigh_nothing(aggregation):
    lengths = torch.tensor([[0, 4], [0, 0]])
    counts = MinibatchCounts.count(lengths).tolist()
    assert counts == [1, 1, 4]
    weights = aggregation.weights(lengths, MinibatchCounts(*counts))
    assert weights.isfinite().all()
    assert weights[0, 1] > 0
    assert torch.count_nonzero(weights) == 1


@pytest.mark.parametrize("kl", [K3(0.0), K2(0.1)])
def test_micro_batches_add_up(kl):
    new, batch = inputs()
    loss = PolicyLoss(kl=kl)
    (whole,) = torch.autograd.grad(loss(new, batch).loss, new)
    pieces = torch.zeros_like(whole)
    for i in range(4):
        rows = slice(i, i + 1)
        part = LossInputs(
            batch.old_logprobs[rows],
            batch.advantages[rows],
            batch.mask[rows],
            batch.token_weights[rows],
            batch.ref_logprobs[rows],
        )
        pieces += torch.autograd.grad(loss(new[rows], part).loss, new)[0]
    torch.testing.assert_close(pieces, whole)


@pytest.mark.parametrize("gate", [ClipGate(), CispoGate()])  # the second reads the logprobs themselves
def test_masked_tokens_have_no_gradient_and_no_influence(gate):
    new, batch = inputs()
    loss = PolicyLoss(gate, kl=K3(0.1))
    (gradient,) = torch.autograd.grad(loss(new, batch).loss, new)
    assert torch.count_nonzero(gradient[~batch.mask]) == 0
    changed = new.detach().clone()
    changed[~batch.mask] = -50.0
    assert float(loss(changed, batch).loss) == float(loss(new, batch).loss.detach())


def test_an_all_truncated_batch_gives_a_finite_zero_gradient():
    new, batch = inputs(reference=False)
    nothing = torch.zeros_like(LENGTHS)
    weights = (
        GroupTokenMean().weights(nothing, MinibatchCounts(*MinibatchCounts.count(nothing).tolist())).flatten().double()
    )
    empty = LossInputs(batch.old_logprobs, batch.advantages, torch.zeros_like(batch.mask), weights)
    (gradient,) = torch.autograd.grad(PolicyLoss()(new, empty).loss, new)
    assert torch.count_nonzero(gradient) == 0


def test_beta_zero_reads_no_reference_and_beta_above_needs_one():
    new, batch = inputs(reference=False)
    assert not PolicyLoss().needs_reference
    PolicyLoss()(new, batch)
    with pytest.raises(ValueError, match="beta"):
        PolicyLoss(kl=K3(0.1))(new, batch)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: ClipGate(eps_low=1.5), "eps_low=1.5"),
        (lambda: ClipGate(eps_high=0.0), "eps_high=0.0"),
        (lambda: ClipGate(dual_clip=1.1), "dual_clip=1.1"),
        (lambda: PolicyLoss(kl=K3(-1.0)), "beta=-1.0"),
    ],
)
def test_refusals_name_the_key(make, key):
    with pytest.raises(ValueError, match=key):
        make()


def test_shapes_that_do_not_match_are_refused():
    logprobs = torch.zeros(4, 3)
    mask = torch.ones(4, 3, dtype=torch.bool)
    good = LossInputs(logprobs, torch.ones(4), mask, torch.ones(4))
    assert PolicyLoss()(logprobs, good).loss.shape == ()
    with pytest.raises(ValueError, match=r"advantages has shape \[2, 2\].*\[4\]"):
        PolicyLoss()(logprobs, replace(good, advantages=torch.ones(2, 2)))


def test_a_gate_of_another_shape_is_refused():
    new, batch = inputs()
    with pytest.raises(ValueError, match=r"returned \[4\].*\[sequences, tokens\] = \[4, 4\]"):
        PolicyLoss(lambda ratio, advantages, logprobs: ratio.sum(-1))(new, batch)


def test_no_gradient_flows_through_the_ratio_of_cispo():
    """The gradient of a token is its bounded ratio times its advantage, whatever the ratio."""
    new = torch.tensor([[0.5], [1.5], [8.0], [8.0]], dtype=torch.float64).log().requires_grad_()
    batch = LossInputs(
        old_logprobs=torch.zeros(4, 1, dtype=torch.float64),
        advantages=torch.tensor([1.0, -1.0, 1.0, -0.5], dtype=torch.float64),
        mask=torch.ones(4, 1, dtype=torch.bool),
        token_weights=torch.ones(4, dtype=torch.float64),
    )
    PolicyLoss(CispoGate(5.0))(new, batch).loss.backward()
    torch.testing.assert_close(new.grad.flatten(), torch.tensor([-0.5, 1.5, -5.0, 2.5], dtype=torch.float64))


def one_column(ratios, advantages):
    ratios = torch.tensor(ratios, dtype=torch.float64).unsqueeze(-1)
    advantages = torch.tensor(advantages, dtype=torch.float64).unsqueeze(-1)
    return ratios, advantages


def test_dual_clip_bounds_negative_advantages_alone():
    ratios, advantages = one_column([3.0, 1.5, 3.0, 1.5], [1.0, 1.0, -1.0, -1.0])
    objective = ClipGate(0.2, 0.28, dual_clip=2.0)(ratios, advantages, ratios.log())
    assert objective.flatten().tolist() == [1.28, 1.28, -2.0, -1.5]


def test_gates_measure_the_tokens_they_hold_back():
    ratios, advantages = one_column([0.7, 0.7, 1.3, 1.3, 3.0, 3.0, 1.0], [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])

    def of(gate):
        return {name: held.flatten().int().tolist() for name, held in gate.measures(ratios, advantages).items()}

    assert of(ClipGate(0.2, 0.28)) == {
        "clip_fraction/low": [0, 1, 0, 0, 0, 0, 0],
        "clip_fraction/high": [0, 0, 1, 0, 1, 0, 0],
    }
    assert of(ClipGate(0.2, 0.28, dual_clip=2.0))["clip_fraction/dual"] == [0, 0, 0, 0, 0, 1, 0]
    assert of(CispoGate(1.2)) == {"clip_fraction/weight": [0, 0, 1, 1, 1, 1, 0]}


def test_the_reference_kl_is_that_of_the_policy_that_sampled():
    """k3 of old against reference: exp(ref - old) - (ref - old) - 1, 0 where not trained."""
    new, batch = inputs()
    outputs = PolicyLoss(kl=K3(0.1))(new, batch)
    wanted = sum(
        math.exp(d := float(batch.ref_logprobs[i, j] - batch.old_logprobs[i, j])) - d - 1
        for i, j in np.argwhere(batch.mask.numpy())
    )
    assert math.isclose(float(outputs.token_sums["reference_kl"]), wanted, rel_tol=1e-12)


@pytest.mark.parametrize("name", ["old_logprobs", "mask", "ref_logprobs", "advantages", "token_weights"])
def test_every_tensor_of_another_shape_is_refused_by_name(name):
    new, batch = inputs()
    with pytest.raises(ValueError, match=f"LossInputs.{name} has shape"):
        PolicyLoss(kl=K3(0.1))(new, replace(batch, **{name: getattr(batch, name)[:-1]}))
