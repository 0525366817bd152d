"""Runs on some ranks, for tests/runs/test_invariance.py: ``python ddp_run.py`` with the settings on standard input.

Each line of it is a run, in forks of this process. It trains the embedded policy in float64 on fixed recorded rollouts
(or on its own first-iteration samples), and writes the first gradient, the completions of the first iteration, and the
metrics of every iteration, ``out.RANK``. The answer to a line is ``status`` and the exit status.
"""

import functools
import json
import multiprocessing
import sys
from dataclasses import replace
from functools import partial

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from grouprl import GroupRLModule, GroupSampler, PolicyLoss, RankAdvantage, load_policy
from grouprl.data.problems import tiny_problems
from grouprl.losses.kl import K3
from grouprl.rewards.parts import MathReward
from grouprl.training.datamodule import PromptDataModule, PromptStream

PROMPTS, GROUP = 4, 4


class Replay:
    """Plays back rollouts recorded for (iteration, global prompt index), whatever the policy has become."""

    group_size, max_new_tokens, max_sequences, exact = GROUP, 64, 0, True

    def __init__(self, recorded):
        self.recorded = recorded

    def __call__(self, policy, prompts, *, seed):
        rollouts = self.recorded[prompts.iteration % len(self.recorded)]
        rows = list(prompts.indices)
        tensors = {k: v[rows] for k, v in vars(rollouts).items() if isinstance(v, torch.Tensor)}
        return replace(rollouts, **tensors, completions=tuple(rollouts.completions[row] for row in rows))


class Keep(Callback):
    """Notes what a run did, and writes it."""

    def __init__(self, out, threads):
        self.out, self.threads = out, threads
        self.metrics, self.completions, self.gradient = [], None, None

    def on_fit_start(self, trainer, module):
        torch.set_num_threads(self.threads)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if self.gradient is None:
            self.gradient = torch.cat([p.grad.flatten() for p in module.trained_parameters()])

    def on_train_batch_end(self, trainer, module, *_):
        self.metrics.append({k: float(v) for k, v in trainer.callback_metrics.items()})
        if self.completions is None:
            prompts, rollouts, *_ = module.last_rollouts
            self.completions = dict(zip(prompts.indices, rollouts.completions, strict=True))

    def on_train_end(self, trainer, module):
        kept = {"gradient": self.gradient, "metrics": self.metrics, "completions": self.completions}
        torch.save(kept, f"{self.out}.{trainer.global_rank}")


def data_for(policy):
    splits = tiny_problems(train_size=64, heldout_size=4)
    return PromptDataModule(splits, policy, steps=20, prompts_per_step=PROMPTS, max_new_tokens=64)


@functools.cache
def recorded(dtype):
    """What the policy samples for four batches of prompts, once for all runs."""
    policy = load_policy("tiny", dtype=dtype)
    stream = PromptStream(data_for(policy).train_prompts, steps=4, prompts_per_step=PROMPTS, seed=0)
    with torch.no_grad():
        return [GroupSampler(GROUP, 64)(policy, stream[i], seed=1) for i in range(4)]


def main(settings):
    dtype = settings.get("dtype", "float64")
    policy = load_policy("tiny", dtype=dtype)
    data = data_for(policy)
    sampler = GroupSampler(group_size=GROUP, max_new_tokens=64)
    if settings.get("replay", True):
        sampler = Replay(recorded(dtype))
    module = GroupRLModule(
        policy,
        sampler,
        MathReward(),
        RankAdvantage(),
        PolicyLoss(kl=K3(settings.get("beta", 0.0))),
        partial(torch.optim.AdamW, lr=1e-4),
        steps=20,
        ppo_epochs=2,
        minibatches=settings.get("minibatches", 2),
        micro_batch_size=settings.get("micro_batch_size", 0),
        micro_batch_tokens=settings.get("micro_batch_tokens", 0),
        max_grad_norm=1e9,
        mismatch_tolerance=1e9,
    )
    ranks = settings["ranks"]
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp_fork" if ranks > 1 else "auto",
        max_epochs=1,
        limit_train_batches=settings["iterations"],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[Keep(settings["out"], settings["threads"])],
    )
    trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    torch.set_num_threads(1)  # forks have no use for the threads of what they are forked from
    for line in sys.stdin:
        settings = json.loads(line)
        recorded(settings.get("dtype", "float64"))
        process = multiprocessing.get_context("fork").Process(target=main, args=(settings,))
        process.start()
        process.join()
        print(f"status {process.exitcode}", flush=True)
