"""The closing summary of a run, and its numbers for ``result.json`` and TensorBoard."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from grouprl.statistics.proportions import Estimate
from grouprl.training.records import read_metrics
from grouprl.training.run import RunReport

_SHOWN = {
    "pass@1": "pass@1",
    "greedy": "greedy accuracy",
    "correct_if_boxed": "correct, if boxed",
    "correct_if_stepped": "correct, if steps shown",
}
_FINAL = {"accuracy_pass_at_1": "heldout/pass@1/after", "accuracy_greedy": "heldout/greedy/after"}
"""Tags of `grouprl.training.show.board.Overview` and the metrics that end there."""
_OF_NO_RUN = ("study", "hydra.run.dir", "resume")
_CLIPPED = ("ppo/clip_fraction/high", "ppo/clip_fraction/low")
_ALIKE = ("groups/two_levels_at_most", "groups/equal_lengths")
_RUN_MEANS = (*_CLIPPED, *_ALIKE, "groups/without_signal", "tokens_per_s")


def metrics_of(report: RunReport, folder: Path) -> dict[str, float]:
    """Flat numbers of a run: held-out estimates with interval and count, and means over its iterations."""
    metrics: dict[str, float] = {}
    for when, estimates in (("before", report.before), ("after", report.after)):
        for name, estimate in estimates.items():
            key = f"heldout/{name}/{when}"
            values = {key: estimate.value, f"{key}/low": estimate.low, f"{key}/high": estimate.high}
            metrics |= {k: v for k, v in values.items() if math.isfinite(v)} | {f"{key}/count": estimate.questions}
    return metrics | (_means_of_run(folder) if report.iterations else {})


def _means_of_run(folder: Path) -> dict[str, float]:
    rows = [row for row in read_metrics(folder) if "reward" in row]
    found = {name: [row[name] for row in rows if name in row] for name in _RUN_MEANS}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def _told_apart(folder: Path) -> str:
    """What the data of a run left to estimators and losses to differ in; empty where it is not known."""
    means = _means_of_run(folder)
    if not {*_CLIPPED, *_ALIKE} <= means.keys():
        return ""
    two, equal = (100 * means[name] for name in _ALIKE)
    clipped = 100 * sum(means[name] for name in _CLIPPED)
    return (
        f"{100 - two:.0f}% of groups had three reward levels or more (ranks are leave-one-out in the others), "
        f"{100 - equal:.0f}% completions of other lengths; {clipped:.2g}% of tokens were past the clip"
    )


def seconds_of(folder: Path, *, until: int) -> float:
    """Seconds that the iterations before a resume took, from the run's metrics."""
    rows = [row for row in read_metrics(folder) if row.get("iteration", 0) <= until]
    parts = ("time/sampling", "time/scoring", "time/training")
    return sum(row.get(name, 0.0) for row in rows for name in parts)


def log_hyperparameters(
    trainer: L.Trainer, overrides: Sequence[str], metrics: Mapping[str, float], swept: Collection[str] | None = None
) -> None:
    """What tells a run from others and what it came to, for TensorBoard's HPARAMS tab.

    Args:
        trainer: Its logger is written to where it is TensorBoard's.
        overrides: What the run's command line set.
        metrics: Its final numbers, see `metrics_of`; those after training are shown.
        swept: Options that a study varies; None: all of the command line's.
    """
    if not isinstance(trainer.logger, TensorBoardLogger):
        return
    pairs = (override.lstrip("+~").partition("=")[::2] for override in overrides)
    shown = {key: _number(value) for key, value in pairs if (key not in _OF_NO_RUN if swept is None else key in swept)}
    # Tags that are logged anyway: the tab shows the last value of each.
    finals = {f"Overview/{tag}": value for tag, key in _FINAL.items() if (value := metrics.get(key)) is not None}
    writer = trainer.logger.experiment._get_file_writer()
    for summary in hparams(shown or {"options": "default"}, finals):
        writer.add_summary(summary)
    trainer.logger.save()


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def describe_run(report: RunReport, folder: Path, command_to_resume: str, evaluate: str) -> str:
    """What a user sees last: what was learned, where it lies, what to try next.

    Args:
        report: Of the run.
        folder: Its folder.
        command_to_resume: Empty in a sweep, which says how it goes on as a whole.
        evaluate: The evaluation script as it is called.
    """
    lines = ["", f"{report.iterations} iteration{'s' * (report.iterations != 1)} in {report.seconds:.0f} s"]
    if report.before:
        lines.append(f"held-out, {report.before['pass@1'].questions} problems, 95% intervals:")
        for name, text in _SHOWN.items():
            after = _percent(report.after[name]) if report.after else "not measured"
            lines.append(f"  {text:<24} {_percent(report.before[name])}  ->  {after}")
    if report.iterations and (said := _told_apart(folder)):
        lines.append(said)
    place = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    lines += [
        f"run          {place} (result.json, metrics.jsonl, curves.png)",
        f"policy       {place / 'policy'}",
        f"TensorBoard  tensorboard --logdir {shlex.quote(str(place))}",
        f"try it       {evaluate} {shlex.quote(f'policy={place}')} prompt='What is $(4 + 7) \\times 3$?' answer=33",
    ]
    if report.exit_code:
        lines.insert(1, "stopped by a signal; the policy of the last finished iteration is saved")
        lines += [f"to go on     {command_to_resume}"] if command_to_resume else []
    return "\n".join(lines)


def _percent(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "no data"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
