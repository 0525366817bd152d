"""What is logged of several ranks: sums are sums, maxima maxima, means weighted by what they are over."""

import math
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from helpers.batches import prompts_of

from grouprl import GroupRLModule, GroupSampler, MathReward, PolicyLoss, RankAdvantage
from grouprl.batch import LossOutputs, Rollouts
from grouprl.data.problems import tiny_problems
from grouprl.rewards.base import Failure, Rewards
from grouprl.runtime import meter as meters
from grouprl.runtime.groups import Groups
from grouprl.runtime.guards import SamplerMismatch
from grouprl.runtime.measures import (
    Agreed,
    Cosine,
    Deviation,
    Largest,
    Mean,
    Rate,
    RootMeanSquare,
    Total,
    largest,
    over_ranks,
)
from grouprl.runtime.meter import Meter, Stopwatch, describe_epochs, describe_groups, peak_memory
from grouprl.training.datamodule import PromptDataModule

PROMPTS, GROUP, TOKENS = 5, 4, 7


def iteration():
    """Rollouts, rewards and advantages of five prompts, with all that can happen to a sample."""
    draw = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, TOKENS + 1, (PROMPTS, GROUP), generator=draw)
    mask = torch.arange(TOKENS) < lengths.unsqueeze(-1)
    drawn = mask & (torch.rand(mask.shape, generator=draw) > 0.2)
    calls = [SimpleNamespace(prompt=prompt, status=status) for prompt, status in enumerate(("ok", "error", "timeout"))]
    rollouts = Rollouts(
        prompt_ids=torch.ones(PROMPTS, 1, dtype=torch.long),
        prompt_mask=torch.ones(PROMPTS, 1, dtype=torch.bool),
        completion_ids=torch.zeros(PROMPTS, GROUP, TOKENS, dtype=torch.long),
        completion_mask=mask,
        sampler_logprobs=-torch.rand(mask.shape, generator=draw) * drawn,
        truncated=lengths == TOKENS,
        completions=(("x",) * GROUP,) * PROMPTS,
        sampled_mask=drawn,
        tool_calls=tuple(calls),
    )
    values = torch.randint(0, 3, (PROMPTS, GROUP), generator=draw).float()
    values[1] = 1.0
    valid = torch.ones(PROMPTS, GROUP, dtype=torch.bool)
    valid[0, 1] = valid[3, 2] = valid[3, 3] = False
    failures = tuple(Failure(*place, "unscorable", "nan") for place in (~valid).nonzero().tolist())
    rewards = Rewards(values * valid, valid, {"style": values / 7, "correct": (values > 1).float()}, failures)
    return rollouts, rewards, RankAdvantage()(rewards.values, valid=valid, parts={})


def on_rank(rows, rollouts, rewards, advantages):
    """The part of an iteration that a rank with some of the prompts has."""
    tensors = {f.name: getattr(rollouts, f.name) for f in fields(rollouts)}
    tensors = {name: value[rows] for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    calls = tuple(call for call in rollouts.tool_calls if call.prompt in rows)
    mine = Rewards(
        rewards.values[rows],
        rewards.valid[rows],
        {name: part[rows] for name, part in rewards.parts.items()},
        tuple(failure for failure in rewards.failures if failure.prompt in rows),
    )
    return replace(rollouts, **tensors, tool_calls=calls), mine, advantages[rows]


def described(rollouts, rewards, advantages, **options):
    prompts = prompts_of(*[[1]] * len(advantages))
    groups = Groups(prompts, rollouts, rewards, advantages, tokens=int(rollouts.lengths.sum()))
    return describe_groups(groups, **options)


@pytest.mark.parametrize("cut", [[[0, 1], [2, 3, 4]], [[0, 3], [1], [2, 4]], [[1], [0, 2, 3, 4]]])
def test_groups_of_several_ranks_are_described_as_those_of_one(cut):
    everything = iteration()
    whole = {name: measure.value for name, measure in described(*everything).items()}
    parts = [described(*on_rank(rows, *everything)) for rows in cut]
    assert whole["reward/failures/unscorable"] == 3
    assert len(set(whole.values())) > 12
    for name, value in whole.items():
        found = over_ranks([part[name] for part in parts])
        assert math.isclose(found, value, rel_tol=1e-5), f"{name}: {found} of ranks, {value} of one"


def test_groups_in_which_estimators_or_aggregations_are_one_are_counted():
    rollouts, rewards, advantages = iteration()
    found = {name: measure.value for name, measure in described(rollouts, rewards, advantages).items()}
    levels = [len({v for v, ok in zip(*row, strict=True) if ok}) for row in zip(rewards.values.tolist(),
              rewards.valid.tolist(), strict=True)]  # fmt: skip
    assert found["groups/two_levels_at_most"] == pytest.approx(np.mean([level <= 2 for level in levels]))
    equal = [len(set(row)) == 1 for row in rollouts.lengths.tolist()]
    assert found["groups/equal_lengths"] == pytest.approx(np.mean(equal))
    assert 0 < sum(level <= 2 for level in levels) < len(levels)
    full = replace(rollouts, completion_mask=torch.ones_like(rollouts.completion_mask))
    assert described(full, rewards, advantages)["groups/equal_lengths"].value == 1


def test_a_rank_on_which_nothing_was_scored_has_no_say_in_means_of_scores():
    rollouts, rewards, advantages = iteration()
    void = replace(rewards, valid=torch.zeros_like(rewards.valid))
    measured, empty = described(rollouts, rewards, advantages), described(rollouts, void, advantages)
    for name in ("reward", "reward/std", "reward/correct", "reward/style/std", "groups/ties"):
        assert over_ranks([empty[name], measured[name]]) == pytest.approx(measured[name].value), name
    assert over_ranks([empty["reward/dropped"], measured["reward/dropped"]]) == pytest.approx((1 + 3 / 20) / 2)


def test_groups_whose_samples_are_all_masked_are_without_a_signal():
    rollouts, rewards, advantages = iteration()
    assert (advantages == 0).all(-1).tolist() == [False, True, False, False, False]
    cut = torch.zeros_like(rollouts.truncated)
    cut[[0, 3]] = cut[2, :2] = True
    masked = replace(rollouts, truncated=cut)
    name = "groups/without_signal"
    assert described(masked, rewards, advantages)[name].value == pytest.approx(1 / 5)
    assert described(masked, rewards, advantages, mask_truncated=True)[name].value == pytest.approx(3 / 5)


def clock(sampling, scoring, training, tokens):
    watch = Stopwatch()
    watch.seconds = {"sampling": sampling, "scoring": scoring, "training": training}
    rollouts = SimpleNamespace(lengths=torch.tensor([[tokens]]))
    return watch.metrics(SimpleNamespace(rollouts=rollouts, tokens=tokens), 2)


def mismatch(largest, differences, tokens, beyond):
    found = SamplerMismatch(None, exact=True)
    found.largest, found.differences, found.tokens, found.beyond = largest, differences, tokens, beyond
    return found.metrics()


RANKS = [
    clock(2.0, 1.0, 1.0, tokens=40) | mismatch(0.25, 1.0, 10, 2),
    clock(4.0, 1.0, 3.0, tokens=120) | mismatch(0.125, 6.0, 30, 4),
]
OF_BOTH = {
    "time/sampling": 4.0,
    "time/scoring": 1.0,
    "time/training": 3.0,
    "time/scoring_share": 2 / 12,
    "tokens_per_s": 160 / 8,
    "tokens_per_s/sampling": 160 / 4,
    "tokens_per_s/training": 320 / 3,
    "mismatch/max_deviation": 0.25,
    "mismatch/logprob": 7 / 40,
    "mismatch/outside_clip": 6 / 40,
}


@pytest.mark.parametrize("name", OF_BOTH)
def test_times_rates_and_deviations_of_two_ranks(name):
    assert RANKS[0].keys() == RANKS[1].keys() == OF_BOTH.keys()
    for ranks in (RANKS, RANKS[::-1]):
        assert over_ranks([rank[name] for rank in ranks]) == pytest.approx(OF_BOTH[name])


def test_memory_is_that_of_the_rank_that_needs_most():
    assert all(type(measure) is Largest for measure in peak_memory().values())
    assert over_ranks([Largest(3.0), Largest(5.0), Largest(4.0)]) == 5.0


def test_losses_of_two_ranks_are_weighted_by_their_tokens(monkeypatch):
    def measured(tokens, total, highest):
        found = Meter()
        sums = {"approx_kl": torch.tensor(total), "clip_fraction/high": torch.tensor(1.0)}
        maxima = {"ratio/max": torch.tensor(highest)}
        found.add(LossOutputs(torch.tensor(0.0), sums, maxima, torch.tensor(tokens)), torch.full((1, 2), total))
        found.end_step(0.5)
        return found

    first, second = measured(10, 5.0, -3.0), measured(30, 3.0, -2.0)
    monkeypatch.setattr(meters, "gathered", lambda own, ranks: [first, second])
    both = describe_epochs([second.over_ranks(SimpleNamespace(world_size=2))])
    wanted = {
        "approx_kl": 8 / 40,
        "clip_fraction/high": 2 / 40,
        "entropy": 16 / 40,
        "ratio/max": -2.0,
        "grad_norm": 0.5,
    }
    for name, value in wanted.items():
        assert both[f"ppo/{name}"].value == both[f"ppo_epoch_1/{name}"].value == pytest.approx(value)
    assert math.isnan(measured(1, 1.0, math.nan).means()["ratio/max"])


def test_a_maximum_that_is_not_a_number_stays():
    assert math.isnan(largest([1.0, math.nan, 2.0]))
    assert math.isnan(largest([math.nan, 2.0]))
    assert over_ranks([Largest(math.nan), Largest(1.0)]) != over_ranks([Largest(1.0)])


PARTS = ("correct", "box", "steps", "notation")
KINDS = {
    "reward": Mean,
    "reward/std": Deviation,
    "reward/dropped": Mean,
    **{f"reward/{part}": Mean for part in PARTS},
    **{f"reward/{part}/std": Deviation for part in PARTS},
    **{f"reward/failures/{kind}": Total for kind in ("unscorable", "error", "timeout")},
    **{f"groups/{name}": Mean for name in ("ties", "without_signal", "replaced", "resampled", "reward_levels")},
    **{f"groups/{name}": Mean for name in ("two_levels_at_most", "equal_lengths")},
    "tokens/sampled": Total,
    "advantage/rms": RootMeanSquare,
    **{f"advantage/cosine_{name}": Cosine for name in ("rloo", "zscore")},
    "completion/length": Mean,
    "completion/length_max": Largest,
    "completion/truncated": Mean,
    "entropy": Mean,
    **{f"time/{part}": Largest for part in ("sampling", "scoring", "training")},
    "time/scoring_share": Mean,
    **{f"tokens_per_s{part}": Rate for part in ("", "/sampling", "/training")},
    "memory/peak_mib": Largest,
    "memory/gpu_peak_mib": Largest,
    "mismatch/max_deviation": Largest,
    "mismatch/logprob": Mean,
    "mismatch/outside_clip": Mean,
    **{f"limits/{name}": Agreed for name in ("micro_batch_tokens", "max_sequences", "halvings")},
    "lr": Agreed,
}
"""How ranks make one number of theirs, metric by metric; those of the losses are made of all ranks' tokens before."""


def test_every_metric_that_is_logged_has_its_way_to_become_one(monkeypatch, tiny_policy):
    logged = {}

    def gather(value, ranks):
        if isinstance(value, dict):
            logged.update(value)
        return [value]

    monkeypatch.setattr(meters, "gathered", gather)
    make = partial(torch.optim.AdamW, lr=1e-4)
    parts = (GroupSampler(4, 48), MathReward(), RankAdvantage(), PolicyLoss(), make)
    module = GroupRLModule(tiny_policy, *parts, steps=1)
    splits = tiny_problems(train_size=8, heldout_size=0)
    data = PromptDataModule(splits, tiny_policy, steps=1, prompts_per_step=4, max_new_tokens=48)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    L.Trainer(accelerator="cpu", max_epochs=1, limit_val_batches=0, **quiet).fit(module, datamodule=data)
    assert len(logged) > 50
    for name, measure in logged.items():
        assert type(measure) is (Agreed if name.startswith("ppo") else KINDS[name]), name
