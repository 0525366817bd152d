"""The loop: what one iteration does to the weights."""

import csv
import functools
import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from grouprl import GroupRLModule, GroupSampler, MathReward, PolicyLoss, RankAdvantage, load_policy
from grouprl.batch import LossOutputs, Prompts
from grouprl.data.problems import tiny_problems
from grouprl.losses.kl import K3
from grouprl.runtime.groups import Groups
from grouprl.runtime.measures import Agreed, Mean
from grouprl.runtime.meter import Meter, log_metrics
from grouprl.statistics.proportions import clustered_ratio, wilson
from grouprl.training.datamodule import PromptDataModule, PromptStream


def fit(policy=None, loss=None, steps=1, module_arguments=None, reward=None, accelerator="cpu", **trainer):
    policy = policy or load_policy("tiny")
    module = GroupRLModule(
        policy,
        GroupSampler(group_size=4, max_new_tokens=64),
        reward or MathReward(),
        RankAdvantage(),
        loss or PolicyLoss(),
        functools.partial(torch.optim.AdamW, lr=1e-4),
        steps=steps,
        **(module_arguments or {}),
    )
    splits = tiny_problems(train_size=16, heldout_size=4)
    data = PromptDataModule(splits, policy, steps=steps, prompts_per_step=4, max_new_tokens=64)
    options = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    options |= {"max_epochs": 1, "use_distributed_sampler": False, "limit_val_batches": 0}
    trainer = L.Trainer(accelerator=accelerator, **(options | trainer))
    trainer.fit(module, datamodule=data)
    return module, trainer


def test_a_plain_trainer_ends_after_the_modules_steps(caplog):
    """Whatever its epochs; and what max_steps counts is said."""
    module, trainer = fit(steps=2, max_epochs=3)
    assert module.iteration == trainer.global_step == 2
    assert trainer.optimizers[0].param_groups[0]["lr"] > 0
    assert min(module.schedule(iteration) for iteration in range(50)) == 0.1
    assert "max_steps" not in caplog.text
    module, _ = fit(steps=3, max_steps=3, module_arguments={"minibatches": 2})
    assert module.iteration < 3
    assert (
        "Trainer(max_steps=3) counts optimizer steps, and an iteration has 2: training ends after 2 it" in caplog.text
    )


def test_optimizer_steps_are_epochs_times_minibatches():
    module, trainer = fit(steps=2, module_arguments={"ppo_epochs": 3, "minibatches": 2})
    assert trainer.global_step == 12
    assert module.iteration == 2
    # Later steps of a rollout are off-policy: the ratio leaves 1.
    assert float(trainer.callback_metrics["ppo/ratio/max_deviation"]) > 1e-3


@pytest.mark.parametrize(("every", "logged"), [(1, [1, 2, 3]), (2, [2]), (0, [])])
def test_metrics_reach_loggers_as_often_as_the_trainer_says_and_callbacks_always(tmp_path, every, logged):
    class Killed(L.Callback):
        """Sees what a run leaves that is killed after an iteration."""

        def on_train_batch_end(self, trainer, module, *_):
            steps = [step for step in logged if step <= module.iteration]
            assert len(written.read_text().splitlines()) == 1 + len(steps) if steps else not written.exists()

    logger = CSVLogger(tmp_path)
    written = Path(logger.log_dir) / "metrics.csv"
    best = ModelCheckpoint(
        tmp_path / "best", monitor="reward", mode="max", every_n_epochs=1, save_on_train_epoch_end=True
    )
    settings = {
        "logger": logger,
        "log_every_n_steps": every,
        "callbacks": [best, Killed()],
        "enable_checkpointing": True,
    }
    module, trainer = fit(steps=3, **settings)
    rows = list(csv.DictReader(written.open())) if logged else []
    assert [int(row["step"]) for row in rows] == logged
    assert written.exists() == bool(logged)
    if every == 1:
        assert {name: float(rows[2][name]) for name in module.last_metrics} == module.last_metrics
        assert {"reward", "lr", "ppo/grad_norm", "ppo_epoch_1/entropy", "tokens_per_s"} <= module.last_metrics.keys()
    assert float(best.best_model_score) == module.last_metrics["reward"] == float(trainer.callback_metrics["reward"])


def test_metrics_that_a_rank_lacks_are_those_of_the_others(monkeypatch):
    def gather(parts, own):
        parts[:] = [own, {"reward": Mean(1.0, 30), "reward/judge": Mean(0.25, 4), "lr": Agreed(0.5)}]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    trainer = SimpleNamespace(
        world_size=2,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        callback_metrics={},
        log_every_n_steps=0,
    )
    found = log_metrics(trainer, {"lr": Agreed(0.5), "reward": Mean(0.0, 10)}, step=0)
    assert found == {"lr": 0.5, "reward": 0.75, "reward/judge": 0.25}
    assert {name: float(value) for name, value in trainer.callback_metrics.items()} == found


def test_an_epoch_that_was_left_out_leaves_no_metrics():
    class StopEarly(L.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append(dict(module.last_metrics))
            module.target_kl = -1.0

    seen = []
    fit(steps=2, module_arguments={"ppo_epochs": 2, "target_kl": 1e9}, callbacks=[StopEarly()])
    assert [metrics["ppo/epochs"] for metrics in seen] == [2, 1]
    assert ["ppo_epoch_2/entropy" in metrics for metrics in seen] == [True, False]


def test_on_policy_ratio_is_one_within_tolerance():
    _, trainer = fit()
    assert float(trainer.callback_metrics["ppo/ratio/max_deviation"]) < 1e-4


def test_a_policy_that_is_not_the_sampler_stops_the_run():
    policy = load_policy("tiny")
    logprobs = policy.logprobs

    def at_another_temperature(batch):
        policy.temperature = 0.7
        result = logprobs(batch)
        policy.temperature = 1.0
        return result

    policy.logprobs = at_another_temperature
    with pytest.raises(RuntimeError, match=r"away from 1 before the first optimizer step(.|\n)*temperature"):
        fit(policy)


def flat(rewards_of):
    return lambda completions, prompts: rewards_of(completions)


def test_without_signal_the_weights_stay_put_and_the_step_is_counted():
    before = load_policy("tiny").model.state_dict()
    module, trainer = fit(reward=flat(lambda rows: [[0.7] * len(row) for row in rows]))
    assert trainer.global_step == 1
    assert float(trainer.callback_metrics["groups/without_signal"]) == 1
    moved = max(float((before[name] - value).abs().max()) for name, value in module.policy.model.state_dict().items())
    assert moved <= 1e-4 * 0.01 * 10  # weight decay alone


def test_zero_signal_groups_keep_the_pull_of_a_kl_term():
    """With beta above 0 tied groups are not skipped: a policy away from its reference is pulled back."""
    policy = load_policy("tiny")
    policy.keep_reference()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    policy.keep_reference = lambda: None
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    module, _ = fit(policy, PolicyLoss(kl=K3(0.5)), reward=flat(lambda rows: [[1.0] * len(row) for row in rows]))
    moved = max(float((before[name] - value).abs().max()) for name, value in module.policy.model.state_dict().items())
    assert moved > 5e-5


def test_no_reference_at_beta_zero():
    assert fit()[0].policy.reference is None
    assert fit(loss=PolicyLoss(kl=K3(0.1)))[0].policy.reference is not None


def test_unscorable_and_truncated_samples_are_left_out():
    nan_first = flat(lambda rows: [[float("nan"), *(float(len(text)) for text in row[1:])] for row in rows])
    module, trainer = fit(reward=nan_first, module_arguments={"mask_truncated": True})
    _, _, rewards, advantages = module.last_rollouts
    assert not rewards.valid[:, 0].any()
    assert torch.count_nonzero(advantages[:, 0]) == 0
    assert float(trainer.callback_metrics["reward/failures/unscorable"]) == 4
    experience = module.make_experience(Groups(*module.last_rollouts))
    assert not experience.mask[:, 0].any()


def test_minibatches_hold_every_group_once_in_an_order_of_seed_and_iteration():
    module, _ = fit(module_arguments={"minibatches": 2})
    orders = [torch.cat(list(module.minibatch_groups(4, epoch))).tolist() for epoch in range(12)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len(set(map(tuple, orders))) > 3


def test_learning_rate_rises_and_falls():
    module, _ = fit(module_arguments={"warmup_steps": 4})
    module.schedule = replace(module.schedule, steps=24)
    (optimizer,), (schedule,) = module.configure_optimizers()
    rates = []
    for _ in range(24):
        rates.append(schedule.get_last_lr()[0] / 1e-4)
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))
    assert schedule.get_last_lr()[0] == pytest.approx(1e-5)


def test_intervals_by_hand():
    estimate = wilson(8, 10)
    assert (estimate.low, estimate.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 5).low == 0
    clustered = clustered_ratio([1, 0, 2, 1], [2, 2, 2, 2])
    assert clustered.value == 0.5
    assert clustered.high == pytest.approx(0.9324140, abs=1e-6)  # exact, of two right among four
    assert str(clustered_ratio([0, 0], [0, 0])) == "no data"


def test_the_order_of_prompts_is_one_of_seed_and_epoch():
    names = tuple("abcdef")
    prompts = Prompts(names, names, ((1,),) * 6, tuple(range(6)))

    def order(items=range(6), **settings):
        stream = PromptStream(prompts, steps=6, prompts_per_step=2, **{"seed": 0, **settings})
        return [problem for item in items for problem in stream[item].problems]

    assert sorted(order()[:6]) == sorted(order()[6:]) == list(names)
    assert order()[:6] != order()[6:]
    assert order() == order() != order(seed=1)
    assert order(range(3), first=3) == order()[6:]
    ranks = [order(rank=rank, world_size=2) for rank in range(2)]
    assert [name for pair in zip(*ranks, strict=True) for name in pair] == order()


def test_metrics_are_means_over_tokens():
    """Two tokens of mean ratio 1 and six of mean ratio 2."""
    epochs = []
    for tokens, ratio in ((2, 1.0), (6, 2.0)):
        meter = Meter()
        sums, maxima = {"ratio/mean": torch.tensor(tokens * ratio)}, {"ratio/max": torch.tensor(3.0 - ratio)}
        meter.add(LossOutputs(torch.tensor(0.0), sums, maxima, torch.tensor(tokens)), torch.full((tokens,), ratio / 2))
        meter.end_step(norm=ratio)
        epochs.append(meter)
    epochs[1].skip_step()
    wanted = {"ratio/mean": 1.75, "ratio/max": 2.0, "entropy": 0.875, "grad_norm": 1.5, "skipped_steps": 1.0}
    assert Meter.sum_of(epochs).means() == wanted
