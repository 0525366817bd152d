"""What is logged of an iteration: times, what its groups look like, and what the losses of each PPO epoch measured."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import lightning as L
import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from grouprl.advantages.base import Advantage
from grouprl.advantages.baselines import LeaveOneOutAdvantage, ZScoreAdvantage
from grouprl.batch import LossOutputs, Rollouts
from grouprl.rewards.base import FAILURE_KINDS, Rewards
from grouprl.runtime.groups import Groups
from grouprl.runtime.measures import (
    Agreed,
    Cosine,
    Deviation,
    Largest,
    Mean,
    Measure,
    Rate,
    RootMeanSquare,
    Total,
    largest,
    over_ranks,
)
from grouprl.runtime.ranks import gathered

_BESIDE: Mapping[str, Advantage] = {"rloo": LeaveOneOutAdvantage(), "zscore": ZScoreAdvantage()}
"""Estimators that a run's own is set beside: where it agrees with one, the data cannot tell the two apart."""


class Meter:
    """Collects `LossOutputs`. Token means are over trained tokens; at beta 0 those of rows whose advantage is not 0."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.maxima: dict[str, float] = {}
        self.tokens = 0.0
        self.steps = 0
        self.skipped = 0
        self.norms = 0.0
        self.ratio_counts: Tensor | None = None

    def add(self, outputs: LossOutputs, entropy: Tensor) -> None:
        """Take in the outputs of one micro-batch and the entropy [sequences, tokens] of its tokens, in nats."""
        for name, value in outputs.token_sums.items():
            self.sums[name] += float(value)
        for name, value in outputs.maxima.items():
            self.maxima[name] = largest([float(value), self.maxima.get(name, -math.inf)])
        self.sums["entropy"] += float(entropy.sum())
        self.tokens += float(outputs.tokens)
        if outputs.ratio_counts is not None:
            self._count(outputs.ratio_counts.cpu())

    def _count(self, ratios: Tensor) -> None:
        self.ratio_counts = ratios if self.ratio_counts is None else self.ratio_counts + ratios

    def end_step(self, norm: float) -> None:
        """Count an optimizer step, which is the same on all ranks."""
        self.steps += 1
        self.norms += norm

    def skip_step(self) -> None:
        """Count an optimizer step that was not taken."""
        self.skipped += 1

    def over_ranks(self, strategy: Strategy) -> Meter:
        """This meter with the tokens of all ranks."""
        total = Meter.sum_of(gathered(self, getattr(strategy, "world_size", 1)))
        total.steps, total.skipped, total.norms = self.steps, self.skipped, self.norms
        return total

    @classmethod
    def sum_of(cls, meters: Iterable[Meter]) -> Meter:
        """One meter for several epochs."""
        total = cls()
        for meter in meters:
            total.tokens += meter.tokens
            total.steps += meter.steps
            total.skipped += meter.skipped
            total.norms += meter.norms
            if meter.ratio_counts is not None:
                total._count(meter.ratio_counts)
            for name, value in meter.sums.items():
                total.sums[name] += value
            for name, value in meter.maxima.items():
                total.maxima[name] = largest([value, total.maxima.get(name, -math.inf)])
        return total

    def means(self) -> dict[str, float]:
        """Token means and maxima; gradient norm and skipped steps alone where no token was trained on."""
        found = {"grad_norm": self.norms / max(1, self.steps), "skipped_steps": float(self.skipped)}
        if self.tokens:
            found |= {name: value / self.tokens for name, value in self.sums.items()} | self.maxima
        return found


class Stopwatch:
    """Seconds of the parts of an iteration."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Around a part."""
        started = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started

    def metrics(self, groups: Groups, epochs: int) -> dict[str, Measure]:
        """``time/...`` in seconds, and completion tokens per second: those that were sampled, and those trained on."""
        sampling, scoring, training = (self.seconds[part] for part in ("sampling", "scoring", "training"))
        tokens, total = groups.tokens, sampling + scoring + training
        return {
            "time/sampling": Largest(sampling),
            "time/scoring": Largest(scoring),
            "time/training": Largest(training),
            "time/scoring_share": Mean(scoring / total, total),
            "tokens_per_s": Rate.of(tokens, total),
            "tokens_per_s/sampling": Rate.of(tokens, sampling),
            "tokens_per_s/training": Rate.of(int(groups.rollouts.lengths.sum()) * epochs, training),
        }


def describe_epochs(epochs: Sequence[Meter]) -> dict[str, Measure]:
    """Means over all PPO epochs as ``ppo/...``, and of each epoch as ``ppo_epoch_1/...``.

    Args:
        epochs: Meters with the tokens of all ranks.
    """
    metrics = {f"ppo/{name}": value for name, value in Meter.sum_of(epochs).means().items()}
    metrics["ppo/epochs"] = float(len(epochs))
    for number, meter in enumerate(epochs, start=1):
        metrics |= {f"ppo_epoch_{number}/{name}": value for name, value in meter.means().items()}
    return {name: Agreed(value) for name, value in metrics.items()}


def peak_memory() -> dict[str, Measure]:
    """Peak memory of this process in MiB, and of its GPU."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    found: dict[str, Measure] = {"memory/peak_mib": Largest(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)}
    if torch.cuda.is_available():
        found["memory/gpu_peak_mib"] = Largest(torch.cuda.max_memory_allocated() / 2**20)
    return found


def log_metrics(trainer: L.Trainer, metrics: Mapping[str, Measure], *, step: int) -> dict[str, float]:
    """Give a training step's metrics to the loggers and, as ``trainer.callback_metrics``, to callbacks.

    `LightningModule.log_dict` would make several objects for each number and an exchange between ranks: for 70 of them
    as much time as the optimizer takes for a small model.

    Args:
        trainer: It says how often to log, and to what.
        metrics: This rank's numbers by name. It may lack some: where a reward has failed, there are no parts of it.
        step: Where they belong on the time axis: iterations that are done.

    Returns:
        Those of all ranks together, in float32 as Lightning logs them.
    """
    parts = gathered(metrics, trainer.world_size)
    names = list(dict.fromkeys(name for part in parts for name in part))
    found = [over_ranks([part[name] for part in parts if name in part]) for name in names]
    values = torch.tensor(found, dtype=torch.float32)
    trainer.callback_metrics.update(zip(names, values.to(trainer.strategy.root_device).unbind(), strict=True))
    rounded = dict(zip(names, values.tolist(), strict=True))
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    if every and (step % every == 0 or trainer.should_stop):
        trainer.logged_metrics.update({name: trainer.callback_metrics[name] for name in names})
        for logger in trainer.loggers:
            logger.log_metrics(rounded, step)
            logger.save()  # a run that is killed has what it logged
    return rounded


@torch.no_grad()
def describe_groups(groups: Groups, mask_truncated: bool = False) -> dict[str, Measure]:
    """What an iteration's groups look like: rewards and their parts, ties, lengths in tokens, entropy in nats a token.

    ``groups/...``: shares of groups or pairs (``share_three_levels``: three values of the intermediate results or
    more; ``replaced``: given up for another one; ``resampled``: drawn for that), and reward levels of a group; ranks
    are leave-one-out where these are ``two_levels_at_most``, and some rules of aggregation one at ``equal_lengths``;
    ``tokens/sampled``: completion tokens, those of groups that were given up included; ``advantage/cosine_...``: with
    other estimators; ``reward/dropped``: share of samples without a reward; ``tools/...``: calls and tokens a
    completion, shares of calls.

    Args:
        groups: The groups.
        mask_truncated: Whether truncated completions are not trained on, and so bring no signal.
    """
    rollouts, rewards, advantages = groups.rollouts, groups.rewards, groups.advantages
    valid, lengths = rewards.valid, rollouts.lengths.float()
    tokens = float(rollouts.drawn.sum())
    levels = [len(row[ok].unique()) for row, ok in zip(rewards.values, valid, strict=True)]
    silent = (advantages == 0) | (rollouts.truncated if mask_truncated else False)
    same_lengths = (rollouts.lengths == rollouts.lengths[:, :1]).all(-1).float()
    metrics: dict[str, Measure] = {
        "reward": Mean.of(rewards.values[valid]),
        "reward/std": Deviation.of(rewards.values[valid]),
        "reward/dropped": Mean.of((~valid).float()),
        "groups/ties": _tie_fraction(rewards),
        "groups/without_signal": Mean.of(silent.all(-1).float()),
        "groups/replaced": Mean(groups.replaced / len(valid), len(valid)),
        "groups/resampled": Mean(groups.resampled / len(valid), len(valid)),
        "tokens/sampled": Total(float(groups.tokens)),
        "groups/reward_levels": Mean(sum(levels) / len(valid), len(valid)),
        "groups/two_levels_at_most": Mean(sum(level <= 2 for level in levels) / len(valid), len(valid)),
        "groups/equal_lengths": Mean.of(same_lengths),
        "advantage/rms": RootMeanSquare.of(advantages),
        **{f"advantage/cosine_{name}": _alike(advantages, rewards, other) for name, other in _BESIDE.items()},
        "completion/length": Mean.of(lengths),
        "completion/length_max": Largest(float(lengths.max())),
        "completion/truncated": Mean.of(rollouts.truncated.float()),
        "entropy": Mean(float(-rollouts.sampler_logprobs.sum() / tokens), tokens),
    }
    if "intermediate" in rewards.parts:
        metrics["groups/share_three_levels"] = _share_with_levels(rewards.parts["intermediate"], valid, 3)
    for name, part in rewards.parts.items():
        metrics |= {f"reward/{name}": Mean.of(part[valid]), f"reward/{name}/std": Deviation.of(part[valid])}
    if rollouts.sampled_mask is not None:
        metrics |= _describe_tools(rollouts)
    for kind in FAILURE_KINDS:
        metrics[f"reward/failures/{kind}"] = Total(float(sum(failure.kind == kind for failure in rewards.failures)))
    return metrics


def _share_with_levels(values: Tensor, valid: Tensor, least: int) -> Mean:
    """Share of groups whose samples have at least so many different values."""
    many = [len(row[ok].unique()) >= least for row, ok in zip(values, valid, strict=True)]
    return Mean(sum(many) / len(many), len(many))


def _alike(advantages: Tensor, rewards: Rewards, estimator: Advantage) -> Cosine:
    """Cosine of the batch's advantages with another estimator's, of which the scale of a step does not tell."""
    return Cosine.of(advantages, estimator(rewards.values, valid=rewards.valid, parts=rewards.parts))


def _describe_tools(rollouts: Rollouts) -> dict[str, Measure]:
    calls, completions = rollouts.tool_calls, rollouts.truncated.numel()
    written = int((rollouts.completion_mask & ~rollouts.drawn).sum())
    found: dict[str, Measure] = {
        "tools/calls": Mean(len(calls) / completions, completions),
        "tools/tokens": Mean(written / completions, completions),
    }
    for status in ("error", "timeout"):
        share = sum(call.status == status for call in calls) / max(1, len(calls))
        found[f"tools/{status}"] = Mean(share, len(calls))
    return found


def _tie_fraction(rewards: Rewards) -> Mean:
    """Share of equal pairs among the pairs of valid samples of a group."""
    same = rewards.values.unsqueeze(-1) == rewards.values.unsqueeze(-2)
    pairs = (rewards.valid.unsqueeze(-1) & rewards.valid.unsqueeze(-2)).triu(diagonal=1)
    count = int(pairs.sum())
    return Mean(float((same & pairs).sum() / max(1, count)), count)
