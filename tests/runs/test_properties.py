"""Advantages and losses against NumPy references in float64, written from the formulas and sharing no code with them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grouprl import (
    K1,
    K2,
    K3,
    BatchTokenMean,
    CenteredAdvantage,
    CispoGate,
    ClipGate,
    ConstantLength,
    GeometricRatio,
    GroupTokenMean,
    LeaveOneOutAdvantage,
    LossInputs,
    NoGate,
    PolicyLoss,
    RankAdvantage,
    SapoGate,
    SequenceMean,
    SequenceRatio,
    TokenRatio,
    ZScoreAdvantage,
)
from grouprl.batch import MinibatchCounts

pytestmark = pytest.mark.slow  # whole runs

CASES = settings(max_examples=500, deadline=None, derandomize=True)


# --- advantages -----------------------------------------------------------------------------------------------------


def ranks(values, ties):
    """Ranks from 1, as in a table of results."""
    places = []
    for value in values:
        lower, equal = sum(v < value for v in values), sum(v == value for v in values)
        places.append(
            {
                "average": lower + (equal + 1) / 2,
                "min": lower + 1,
                "max": lower + equal,
                "dense": len({v for v in values if v < value}) + 1,
            }[ties]
        )
    return places


def rank_reference(values, ties):
    top = len(set(values)) if ties == "dense" else len(values)
    return [2 * (rank - 1) / (top - 1) - 1 for rank in ranks(values, ties)]


def zscore_reference(values, epsilon, unbiased):
    return [(v - np.mean(values)) / (np.std(values, ddof=int(unbiased)) + epsilon) for v in values]


def rloo_reference(values):
    return [v - np.mean(values[:i] + values[i + 1 :]) for i, v in enumerate(values)]


REFERENCES = [
    *((RankAdvantage(ties, resolution=0), lambda v, t=ties: rank_reference(v, t)) for ties in ("average", "min")),
    *((RankAdvantage(ties, resolution=0), lambda v, t=ties: rank_reference(v, t)) for ties in ("max", "dense")),
    (ZScoreAdvantage(1e-4), lambda v: zscore_reference(v, 1e-4, False)),
    (ZScoreAdvantage(1e-6, unbiased=True), lambda v: zscore_reference(v, 1e-6, True)),
    (CenteredAdvantage(), lambda v: [x - np.mean(v) for x in v]),
    (LeaveOneOutAdvantage(), rloo_reference),
]


@st.composite
def groups(draw):
    """Rewards [prompts, group] with many ties, and which of them are valid."""
    rows, size = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    levels = draw(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5, unique=True))
    rewards = draw(
        st.lists(st.lists(st.sampled_from(levels), min_size=size, max_size=size), min_size=rows, max_size=rows)
    )
    valid = draw(st.lists(st.lists(st.booleans(), min_size=size, max_size=size), min_size=rows, max_size=rows))
    all_valid = draw(st.booleans())
    return rewards, [[v or all_valid for v in row] for row in valid]


@pytest.mark.parametrize(("advantage", "reference"), REFERENCES, ids=[repr(a) for a, _ in REFERENCES])
@CASES
@given(case=groups())
def test_advantages(advantage, reference, case):
    rewards, valid = case
    found = advantage(torch.tensor(rewards, dtype=torch.float64), valid=torch.tensor(valid)).numpy()
    for row, ok, got in zip(rewards, valid, found, strict=True):
        kept = [value for value, is_valid in zip(row, ok, strict=True) if is_valid]
        wanted = iter(reference(kept) if len(kept) > 1 and len(set(kept)) > 1 else [0.0] * len(kept))
        expected = [next(wanted) if is_valid else 0.0 for is_valid in ok]
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


# --- losses ---------------------------------------------------------------------------------------------------------


def gate_reference(gate, ratio, advantage, logp):
    if isinstance(gate, ClipGate):
        objective = min(ratio * advantage, min(max(ratio, 1 - gate.eps_low), 1 + gate.eps_high) * advantage)
        if gate.dual_clip is not None and advantage < 0:
            objective = max(objective, gate.dual_clip * advantage)
        return objective
    if isinstance(gate, CispoGate):
        return min(ratio, gate.ratio_max) * advantage * logp
    if isinstance(gate, SapoGate):
        tau = gate.tau_positive if advantage > 0 else gate.tau_negative
        return 4 / tau / (1 + np.exp(-tau * (ratio - 1))) * advantage
    if isinstance(gate, NoGate):
        return ratio * advantage
    raise AssertionError(f"write {type(gate).__name__} as a formula of numbers here")


def loss_reference(loss, logp, old, ref, advantages, groups_of, mask):
    """The negated objective, token by token."""
    sequences = [i for i in range(len(logp)) if mask[i].any()]
    group_tokens = {g: sum(mask[i].sum() for i in range(len(logp)) if groups_of[i] == g) for g in set(groups_of)}
    live_groups = sum(tokens > 0 for tokens in group_tokens.values())
    total = 0.0
    for i in sequences:
        tokens = np.flatnonzero(mask[i])
        difference = logp[i] - old[i]
        shaped = np.full(len(logp[i]), advantages[i])
        if isinstance(loss.kl, K1):
            shaped = shaped - loss.kl.beta * (old[i] - ref[i])
        for t in tokens:
            if isinstance(loss.ratio, TokenRatio):
                ratio = np.exp(difference[t])
            elif isinstance(loss.ratio, SequenceRatio):
                ratio = np.exp(difference[tokens].mean())
            else:
                c = loss.ratio.clip
                ratio = np.exp(
                    np.mean([min(difference[u], c) if shaped[u] > 0 else max(difference[u], -c) for u in tokens])
                )
            objective = gate_reference(loss.gate, ratio, shaped[t], logp[i][t])
            away = ref[i][t] - logp[i][t]
            if isinstance(loss.kl, K2):
                objective -= loss.kl.beta * np.exp(difference[t]) * 0.5 * away**2
            elif isinstance(loss.kl, K3):
                objective -= loss.kl.beta * (np.exp(away) - away - 1)
            weight = {
                GroupTokenMean: live_groups * group_tokens[groups_of[i]],
                BatchTokenMean: mask.sum(),
                SequenceMean: len(sequences) * len(tokens),
                ConstantLength: len(sequences) * getattr(loss.aggregation, "max_tokens", 1),
            }[type(loss.aggregation)]
            total += objective / weight
    return -total


GATES = [ClipGate(), ClipGate(0.2, 0.28, 3.0), CispoGate(), SapoGate(), NoGate()]
RATIOS = [TokenRatio(), SequenceRatio(), GeometricRatio()]
AGGREGATIONS = [GroupTokenMean(), BatchTokenMean(), SequenceMean(), ConstantLength(64)]


@pytest.mark.parametrize("kl", [K3(0.0), K1(0.1), K2(0.1), K3(0.1)], ids=repr)
@CASES
@given(
    gate=st.sampled_from(GATES),
    ratio=st.sampled_from(RATIOS),
    aggregation=st.sampled_from(AGGREGATIONS),
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(2, 4), st.integers(1, 7)),
    spread=st.sampled_from([1e-6, 0.1, 1.0, 5.0]),
)
def test_losses(kl, gate, ratio, aggregation, seed, shape, spread):
    """Ragged masks with holes and empty sequences, ratios up to e^15."""
    prompts, size, tokens = shape
    rng = np.random.default_rng(seed)
    rows = prompts * size
    old, ref = -rng.exponential(1.0, (rows, tokens)), -rng.exponential(1.0, (rows, tokens))
    logp = old + spread * rng.standard_normal((rows, tokens))
    lengths = rng.integers(0, tokens + 1, rows)
    mask = np.arange(tokens) < lengths[:, None]
    advantages = rng.choice([-1.0, -0.3, 0.0, 0.4, 1.0], rows)
    groups_of = np.repeat(np.arange(prompts), size)
    loss = PolicyLoss(gate, ratio, aggregation, kl)

    counts = torch.tensor(lengths).view(prompts, size)
    weights = aggregation.weights(counts, MinibatchCounts(*MinibatchCounts.count(counts).tolist())).flatten()
    current = torch.tensor(logp, requires_grad=True)
    inputs = LossInputs(torch.tensor(old), torch.tensor(advantages), torch.tensor(mask), weights, torch.tensor(ref))
    outputs = loss(current, inputs)
    wanted = loss_reference(loss, logp, old, ref, advantages, groups_of, mask)
    np.testing.assert_allclose(float(outputs.loss.detach()), wanted, rtol=1e-9, atol=1e-12)
    assert int(outputs.tokens) == mask.sum()

    outputs.loss.backward()
    gradient = current.grad.numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[~mask] == 0).all()
