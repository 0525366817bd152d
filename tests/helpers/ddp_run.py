"""One run on some ranks, for tests/runs/test_invariance.py: ``python ddp_run.py SETTINGS.json``.

Trains the embedded policy in float64 on fixed recorded rollouts (or on its own first-iteration samples), and writes the
first gradient, the completions of the first iteration, and the metrics of every iteration. Lightning starts the other
ranks by running this very command again.
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from grouprl import GroupRLModule, GroupSampler, PolicyLoss, RankAdvantage, load_policy
from grouprl.data.problems import tiny_problems
from grouprl.losses.kl import K3
from grouprl.rewards.parts import MathReward
from grouprl.training.datamodule import PromptDataModule

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
    """Notes what a run did."""

    def __init__(self):
        self.metrics, self.completions, self.gradient = [], None, None

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if self.gradient is None:
            self.gradient = torch.cat([p.grad.flatten() for p in module.trained_parameters()])

    def on_train_batch_end(self, trainer, module, *_):
        self.metrics.append({k: float(v) for k, v in trainer.callback_metrics.items()})
        if self.completions is None:
            prompts, rollouts, *_ = module.last_rollouts
            self.completions = dict(zip(prompts.indices, rollouts.completions, strict=True))


def main(settings):
    dtype = settings.get("dtype", "float64")
    torch.set_default_dtype(torch.float32)
    policy = load_policy("tiny", dtype=dtype)
    splits = tiny_problems(train_size=64, heldout_size=4)
    sampler = GroupSampler(group_size=GROUP, max_new_tokens=64)
    data = PromptDataModule(splits, policy, steps=20, prompts_per_step=PROMPTS, max_new_tokens=64)
    if settings.get("replay", True):
        with torch.no_grad():
            sampler = Replay([GroupSampler(GROUP, 64)(policy, batch, seed=1) for batch in whole_batches(data)])
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
    keep, ranks = Keep(), settings["ranks"]
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        max_epochs=1,
        limit_train_batches=settings["iterations"],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[keep],
    )
    trainer.fit(module, datamodule=data)
    out = Path(settings["out"])
    torch.save(
        {"gradient": keep.gradient, "metrics": keep.metrics, "completions": keep.completions},
        out.with_name(f"{out.name}.{trainer.global_rank}"),
    )


def whole_batches(data):
    from grouprl.training.datamodule import PromptStream

    stream = PromptStream(data.train_prompts, steps=4, prompts_per_step=PROMPTS, seed=0)
    return [stream[i] for i in range(4)]


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
