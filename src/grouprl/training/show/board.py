"""TensorBoard: the few numbers to look at first, their pictures, histograms, and completions."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.writer import SummaryWriter

from grouprl.answers.verifiers import readable
from grouprl.batch import RATIO_EDGES
from grouprl.module import GroupRLModule

_FIRST = {
    "heldout/pass@1": "accuracy_pass_at_1",
    "heldout/greedy": "accuracy_greedy",
    "reward": "reward",
    "reward/correct": "correct",
    "completion/length": "completion_length",
    "groups/without_signal": "groups_without_signal",
    "ppo/clip_fraction/high": "clipped_high",
    "ppo/grad_norm": "grad_norm",
}
"""What TensorBoard shows first, as ``Overview/...``: its tags are in alphabetical order, capitals before the rest."""
_LAYOUT = {
    "Is it learning?": {
        "held-out accuracy": ["Multiline", ["Overview/accuracy_.*"]],
        "reward and its parts": ["Multiline", ["^reward$", "reward/(correct|intermediate|box|steps|notation)$"]],
    },
    "Is it sound?": {
        "completion length (tokens)": ["Multiline", ["completion/length", "completion/length_max"]],
        "groups without a signal, ties": ["Multiline", ["groups/without_signal", "groups/ties"]],
        "share of tokens clipped": ["Multiline", ["ppo/clip_fraction/(low|high)"]],
        "entropy (nats a token)": ["Multiline", ["^entropy$", "ppo/entropy"]],
    },
}
"""Pictures of the tab CUSTOM SCALARS, by regular expressions of tags."""


def writer_of(trainer: L.Trainer) -> SummaryWriter | None:
    """The writer of a trainer that logs to TensorBoard, on the process that writes."""
    logger = trainer.logger
    return logger.experiment if trainer.is_global_zero and isinstance(logger, TensorBoardLogger) else None


class Overview(Callback):
    """Shows the few numbers to look at first, and every so many iterations how advantages and ratios are spread."""

    def __init__(self, every: int = 5) -> None:
        self.every = every

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if (writer := writer_of(trainer)) is not None:
            writer.add_custom_scalars(_LAYOUT)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, GroupRLModule)
        writer = writer_of(trainer)
        if writer is None:
            return
        _show_first(writer, module.last_metrics, module.iteration)
        if module.iteration != 1 and module.iteration % self.every:
            return
        if module.last_rollouts:
            *_rest, rewards, advantages = module.last_rollouts
            writer.add_histogram("advantages", advantages[rewards.valid].cpu(), module.iteration)
        if module.last_ratio_counts is not None and module.last_ratio_counts.any():
            _show_ratios(writer, module.last_ratio_counts.tolist(), module.iteration)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        writer, estimates = writer_of(trainer), module.evaluations.get(module.iteration)
        if writer is not None and estimates is not None:
            values = {f"heldout/{name}": estimate.value for name, estimate in estimates.items()}
            _show_first(writer, values, module.iteration)


def _show_first(writer: SummaryWriter, metrics: dict[str, float], iteration: int) -> None:
    for name, shown in _FIRST.items():
        if name in metrics:
            writer.add_scalar(f"Overview/{shown}", metrics[name], iteration)


def _show_ratios(writer: SummaryWriter, counts: list[int], iteration: int) -> None:
    """Counts between edges, of which TensorBoard wants the sum and the sum of squares: of the bins' middles."""
    limits = [*RATIO_EDGES, 2 * RATIO_EDGES[-1]]
    middles = [(low + high) / 2 for low, high in zip((0.0, *RATIO_EDGES), limits, strict=True)]
    met = [place for place, count in enumerate(counts) if count]
    pairs = list(zip(middles, counts, strict=True))
    writer.add_histogram_raw(
        "ratios",
        min=(0.0, *RATIO_EDGES)[met[0]],
        max=limits[met[-1]],
        num=sum(counts),
        sum=sum(middle * count for middle, count in pairs),
        sum_squares=sum(middle**2 * count for middle, count in pairs),
        bucket_limits=limits,
        bucket_counts=counts,
        global_step=iteration,
    )


class Samples(Callback):
    """Shows groups with their rewards and advantages in TensorBoard's text tab."""

    def __init__(self, every: int = 25, groups: int = 2) -> None:
        self.every, self.groups = every, groups

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, GroupRLModule)
        writer = writer_of(trainer)
        due = module.iteration == 1 or module.iteration % self.every == 0
        if not due or writer is None or not module.last_rollouts:
            return
        prompts, rollouts, rewards, advantages = module.last_rollouts
        for row in range(min(self.groups, len(prompts))):
            lines = [
                f"**{prompts.problems[row]}** (gold {readable(prompts.answers[row])})",
                "",
                "| reward | advantage | completion |",
            ]
            lines.append("|---|---|---|")
            for sample, text in enumerate(rollouts.completions[row]):
                cell = text.replace("|", r"\|").replace("\n", "<br>")
                lines.append(f"| {rewards.values[row, sample]:.2f} | {advantages[row, sample]:+.2f} | {cell} |")
            writer.add_text(f"samples/{row}", "\n".join(lines), module.iteration)
