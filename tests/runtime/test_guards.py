"""Guards on learning: steps that are not finite, the KL stop, the first-step ratio, and what is logged."""

import math
import re
from dataclasses import replace
from functools import partial

import lightning as L
import pytest
import torch

from grouprl import GroupRLModule, GroupSampler, LoraAdapter, MathReward, PolicyLoss, RankAdvantage, load_policy
from grouprl.batch import LossInputs, Minibatch
from grouprl.data.problems import tiny_problems
from grouprl.runtime.groups import Groups
from grouprl.runtime.guards import SamplerMismatch, TrainingError
from grouprl.runtime.measures import Mean
from grouprl.training.datamodule import PromptDataModule


def fit(
    steps=1,
    loss=None,
    reward=None,
    policy=None,
    make=torch.optim.AdamW,
    lr=1e-4,
    max_new_tokens=48,
    precision="32-true",
    **options,
):
    policy = policy or load_policy("tiny")
    splits = tiny_problems(train_size=16, heldout_size=4)
    options = {"ppo_epochs": 2, "minibatches": 2, **options}
    module = GroupRLModule(
        policy,
        GroupSampler(group_size=4, max_new_tokens=max_new_tokens),
        reward or MathReward(),
        RankAdvantage(),
        loss or PolicyLoss(),
        partial(make, lr=lr),
        steps=steps,
        **options,
    )
    data = PromptDataModule(splits, policy, steps=steps, prompts_per_step=4, max_new_tokens=48)
    trainer = L.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}


class Poisoned(PolicyLoss):
    """A loss that is not finite at chosen optimizer steps."""

    def __init__(self, steps, poison):
        super().__init__()
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "poison", poison)
        object.__setattr__(self, "calls", [0])

    def __call__(self, logprobs, inputs):
        outputs = super().__call__(logprobs, inputs)
        self.calls[0] += 1
        if self.calls[0] in self.steps:
            return replace(outputs, loss=outputs.loss * self.poison)
        return outputs


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_skipped_and_counted(poison):
    module, metrics = fit(loss=Poisoned({2}, poison))
    assert metrics["ppo/skipped_steps"] == 1
    assert metrics["ppo_epoch_1/skipped_steps"] == 1
    assert metrics["ppo_epoch_2/skipped_steps"] == 0
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert module.finite_steps.in_a_row == 0


def test_too_many_in_a_row_stop_the_run_with_the_weights_before_them():
    policy = load_policy("tiny")
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    with pytest.raises(TrainingError, match=r"3 optimizer steps in a row .* not finite .*max_skipped_steps"):
        fit(policy=policy, loss=Poisoned(range(100), float("nan")), max_skipped_steps=2)
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())


def test_weights_that_are_not_finite_do_not_pass_for_a_policy():
    policy = load_policy("tiny")
    with torch.no_grad():
        next(policy.model.parameters())[0] = float("nan")
        for parameter in policy.model.parameters():
            parameter.mul_(float("nan"))
    with pytest.raises(FloatingPointError, match="logits hold NaN or infinity"):
        fit(policy=policy, reward=lambda completions, prompts: [[1.0, 0.0, 0.0, 0.5] for _ in completions])


def test_the_target_kl_leaves_the_epochs():
    many = {"ppo_epochs": 6, "lr": 2e-3}
    _, free = fit(**many)
    _, stopped = fit(**many, target_kl=1e-3)
    assert free["ppo/epochs"] == 6
    assert 1 <= stopped["ppo/epochs"] < 6
    last = int(stopped["ppo/epochs"])
    assert stopped[f"ppo_epoch_{last}/approx_kl"] > 1e-3
    assert all(stopped[f"ppo_epoch_{i}/approx_kl"] <= 1e-3 for i in range(1, last))


def test_the_first_step_guard_names_the_largest_offender():
    policy = load_policy("tiny")
    original = policy.logprobs

    def off(batch):
        result = original(batch)
        shift = torch.zeros_like(result.logprobs)
        shift[0, 3] = 0.5
        return result._replace(logprobs=result.logprobs + shift)

    policy.logprobs = off
    with pytest.raises(TrainingError, match=r"0\.649 away from 1 .*iteration 0(.|\n)*position 3(.|\n)*Likely causes"):
        fit(policy=policy)


class AsRun:
    """A strategy of one process."""

    world_size = 1


def compared(deviation, floor, *, exact=False, tolerance=0.02, band=(0.2, 0.2)):
    """A comparison whose ratios are all so far above 1, and the floor's so far."""
    tokens = torch.full((2, 5), float(math.log1p(deviation)))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    inputs = LossInputs(torch.zeros_like(tokens), torch.ones(2), mask, torch.ones(2))
    batch = Minibatch(mask.long(), mask, mask.long(), mask, inputs)
    mismatch = SamplerMismatch(load_policy("tiny").tokenizer, exact=exact, tolerance=tolerance, band=band)
    mismatch.add(tokens, batch)
    mismatch.add_floor(torch.full_like(tokens, math.log1p(floor)), torch.zeros_like(tokens), mask)
    return mismatch


@pytest.mark.parametrize(
    ("deviation", "floor", "stops"),
    [(0.05, 0.02, False), (0.07, 0.02, True), (0.019, 0.0, False)],
)
def test_in_reduced_precision_the_floor_of_the_precision_counts(deviation, floor, stops):
    mismatch = compared(deviation, floor)
    assert mismatch.is_beyond(AsRun()) == (deviation > 0.02)
    if stops:
        with pytest.raises(
            TrainingError, match=r"0\.07 away .*tolerance is 0\.02\).*another batch shape .* 0\.02 and 0"
        ):
            mismatch.check(AsRun(), 0)
        return
    mismatch.check(AsRun(), 0)
    assert f"are {deviation:.2g} away from 1 on average, 0.00% of them beyond the clip" in mismatch.found


def test_a_floor_that_is_no_number_excuses_nothing():
    with pytest.raises(TrainingError, match=r"0\.05 away .*tolerance is 0\.02"):
        compared(0.05, math.nan).check(None, 0)


def test_a_floor_that_is_itself_too_high_excuses_nothing():
    """As a mistake in the trainer's own forward pass would make it."""
    with pytest.raises(TrainingError, match=r"0\.11 away"):
        compared(0.11, 0.35).check(AsRun(), 0)
    compared(0.09, 0.35).check(AsRun(), 0)


def test_in_full_precision_no_floor_excuses_a_ratio():
    with pytest.raises(TrainingError, match=r"0\.01 away"):
        compared(0.01, 0.5, exact=True, tolerance=1e-3).check(AsRun(), 0)


def test_tokens_beyond_the_clip_are_counted_by_its_own_band():
    for band, share in (((0.2, 0.2), 0.0), ((0.2, 0.05), 1.0), ((0.05, 0.2), 0.0)):
        metrics = compared(0.1, 0.0, band=band).metrics()
        assert metrics["mismatch/outside_clip"] == Mean(share, 10)


@pytest.mark.slow
@pytest.mark.parametrize("minibatches", [1, 2])
def test_in_bfloat16_old_logprobs_are_the_trainers_and_the_floor_is_said_once(minibatches, capsys):
    _, metrics = fit(2, precision="bf16-mixed", lr=0.0, ppo_epochs=1, minibatches=minibatches)
    assert metrics["mismatch/logprob"] > 1e-4  # what the sampler recorded is of another arithmetic
    assert metrics["ppo/ratio/max_deviation"] == 0
    said = capsys.readouterr().out
    assert said.count("bf16-mixed: ratios of trainer and sampler are") == 1
    found = re.search(r"are ([\d.e-]+) away .* weights give ([\d.e-]+) and", said)
    assert 0 <= metrics["mismatch/floor"] < 0.02
    assert 0 < float(found[1]) < 0.02
    assert 0 <= float(found[2]) < 0.02
    fit(1)
    assert "ratios of trainer" not in capsys.readouterr().out  # nothing to say of float32


def test_in_float32_old_logprobs_are_those_of_the_sampler():
    module, _ = fit(1)
    with torch.no_grad():
        experience = module.make_experience(Groups(*module.last_rollouts))
    assert experience.old_logprobs is None


def test_what_is_logged():
    _, metrics = fit()
    for name in [
        "reward",
        "reward/std",
        "reward/correct",
        "reward/correct/std",
        "reward/failures/error",
        "reward/failures/timeout",
        "reward/failures/unscorable",
        "groups/ties",
        "groups/reward_levels",
        "groups/without_signal",
        "advantage/rms",
        "completion/length",
        "completion/length_max",
        "completion/truncated",
        "tokens_per_s/sampling",
        "tokens_per_s/training",
        "memory/peak_mib",
        "mismatch/max_deviation",
        "mismatch/logprob",
        "mismatch/outside_clip",
        "ppo/grad_norm",
        "lr",
        "time/sampling",
        "time/scoring",
        "time/training",
    ]:
        assert name in metrics, name
    for epoch in (1, 2):
        for name in [
            "ratio/mean",
            "ratio/max",
            "clip_fraction/low",
            "clip_fraction/high",
            "approx_kl",
            "entropy",
            "grad_norm",
        ]:
            assert f"ppo_epoch_{epoch}/{name}" in metrics
    assert 0 <= metrics["mismatch/max_deviation"] < 1e-3
    assert 0 < metrics["groups/ties"] <= 1


def test_the_mismatch_is_measured_where_no_group_has_a_signal():
    _, metrics = fit(reward=lambda completions, prompts: [[1.0] * len(row) for row in completions])
    assert metrics["groups/without_signal"] == 1
    assert metrics["groups/ties"] == 1
    assert 0 < metrics["mismatch/max_deviation"] < 1e-3


def test_dropout_in_the_model_acts_nowhere():
    """The module is put into training mode by Lightning; ratios at the first step are those of no dropout."""
    from helpers.models import random_model

    from grouprl.policy.policy import Policy

    tokenizer = load_policy("tiny").tokenizer
    model = random_model("gpt2", vocab_size=len(tokenizer), resid_pdrop=0.05, embd_pdrop=0.05, attn_pdrop=0.05)
    policy = Policy(model, tokenizer)
    _, metrics = fit(policy=policy, reward=lambda completions, prompts: [[0.0, 1.0, 2.0, 3.0] for _ in completions])
    assert metrics["mismatch/max_deviation"] < 1e-4


def test_the_gradient_is_clipped_in_the_module():
    """Lightning's own clipping is off under manual optimisation: one SGD step of rate 1 is as long as the bound."""
    before = {name: value.detach().clone() for name, value in load_policy("tiny").named_parameters()}
    policy = load_policy("tiny")
    module, metrics = fit(policy=policy, ppo_epochs=1, minibatches=1, max_grad_norm=1e-3, make=torch.optim.SGD, lr=1.0)
    moved = sum((value.detach() - before[name]).square().sum() for name, value in policy.named_parameters()).sqrt()
    assert metrics["ppo/grad_norm"] > 1e-2
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)
    assert module.trainer.global_step == 1


def test_a_resumed_run_finds_its_frozen_weights_or_stops():
    """Under LoRA the base is no part of a checkpoint: another base is refused."""
    module, _ = fit(policy=load_policy("tiny", adapter=LoraAdapter(rank=2, alpha=4)))
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    # Integers: a sum of floating-point numbers is another one on a GPU.
    assert all(type(value) is int for value in checkpoint["grouprl"]["frozen"])
    flat = [
        p.detach().flatten().flip(0).view(torch.int32).long() for p in module.policy.parameters() if not p.requires_grad
    ]
    assert checkpoint["grouprl"]["frozen"][0] == int(torch.stack([value.sum() for value in flat]).sum())
    frozen = next(value for value in module.policy.parameters() if not value.requires_grad)
    with torch.no_grad():
        frozen[0] += 1e-3
    with pytest.raises(TrainingError, match="frozen weights"):
        module.on_load_checkpoint(checkpoint)


def test_truncated_completions_are_left_out_where_so_asked():
    """All are cut off after two tokens: no gradient, and weights that stay; without the option they move."""

    def moved(mask_truncated):
        policy = load_policy("tiny")
        before = [value.detach().clone() for value in policy.parameters()]
        fit(
            policy=policy,
            mask_truncated=mask_truncated,
            make=torch.optim.SGD,
            lr=1.0,
            max_new_tokens=2,
            reward=by_place,
        )
        return any(not torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))

    assert moved(False)
    assert not moved(True)


def by_place(completions, prompts):
    return [[float(place) for place, _ in enumerate(group)] for group in completions]
