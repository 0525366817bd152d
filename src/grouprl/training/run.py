"""One run from start to finish: evaluate, train, evaluate, save."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from grouprl.answers.pool import start_in_background
from grouprl.files import FileError
from grouprl.module import GroupRLModule
from grouprl.runtime.failures import naming_lost_ranks
from grouprl.runtime.guards import TrainingError
from grouprl.statistics.proportions import Estimate
from grouprl.training import checkpoint
from grouprl.training.datamodule import PromptDataModule
from grouprl.training.records import METRICS_FILE, POLICY_FOLDER, keep_evaluations, keep_metrics
from grouprl.training.show.curves import plot_curves
from grouprl.training.stopping import GracefulStop


@dataclass(frozen=True)
class RunReport:
    """What a finished or stopped run has to show."""

    before: dict[str, Estimate]
    """Held-out estimates before training."""
    after: dict[str, Estimate]
    """Held-out estimates after it; empty where the run was stopped before its last evaluation."""
    iterations: int
    """Finished RL iterations."""
    seconds: float
    """Wall seconds, evaluations included."""
    policy_folder: Path
    exit_code: int
    """0, or 128 + the number of the signal that stopped the run."""


def run_training(
    module: GroupRLModule,
    data: PromptDataModule,
    trainer: L.Trainer,
    folder: Path,
    stop: GracefulStop,
    *,
    title: str = "",
    resume_from: Path | None = None,
) -> RunReport:
    """Train a module, with held-out evaluations before and after, and leave policy and curves in ``folder``.

    A signal ends the run after the iteration or the evaluation under way, or in the midst of an evaluation that is none
    of `Trainer.fit`'s: the policy is saved all the same. With ``resume_from``, a checkpoint, the run goes on after it
    as if it had not been interrupted.
    """
    started = time.perf_counter()
    start_in_background()  # so that the first answer that needs symbols does not wait for sympy
    with stop.listening(), naming_lost_ranks():
        if resume_from is None:
            if trainer.is_global_zero:
                keep_metrics(folder / METRICS_FILE, -1)
                keep_evaluations(folder, -1)
            if len(data.heldout_prompts) and stop.signal is None:
                stop.validate(trainer, module, data)
        stop.agree(trainer)
        if resume_from is not None and _is_complete(resume_from, module):
            _load_complete(resume_from, module, folder)
        elif stop.signal is None:
            _fit(trainer, module, data, resume_from)
        stop.agree(trainer)
        finished = stop.signal is None
        if finished and module.iteration < module.steps:
            raise RuntimeError(
                f"Training ended after {module.iteration} of {module.steps} iterations. Please report it."
            )
        if finished and len(data.heldout_prompts) and module.iteration not in module.evaluations:
            stop.validate(trainer, module, data)
        policy_folder = folder / POLICY_FOLDER
        if trainer.is_global_zero:
            module.policy.save(policy_folder)
            if module.iteration:
                plot_curves(folder, title)
    return RunReport(
        before=module.evaluations.get(0, {}),
        after=module.evaluations.get(module.iteration, {}) if finished else {},
        iterations=module.iteration,
        seconds=time.perf_counter() - started,
        policy_folder=policy_folder,
        exit_code=stop.exit_code,
    )


class _Start(Callback):
    """Whether training has begun, after all of a checkpoint was taken up."""

    passed = False

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.passed = True


def _fit(trainer: L.Trainer, module: GroupRLModule, data: PromptDataModule, path: Path | None) -> None:
    start = _Start()
    trainer.callbacks.append(start)  # type: ignore[attr-defined]
    try:
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if path is None or start.passed or isinstance(error, FileError):
            raise
        if isinstance(error, (TrainingError, checkpoint.CheckpointError)):
            raise checkpoint.CheckpointError(f"{path}: {error}") from error
        why = " ".join(str(error).split())
        raise checkpoint.CheckpointError(
            f"{path}: it does not hold what this run needs ({type(error).__name__}: {why:.200}). "
            "To go on from the one before it, move it away."
        ) from error


def _is_complete(path: Path, module: GroupRLModule) -> bool:
    return checkpoint.read(path)["grouprl"]["iteration"] >= module.steps


def _load_complete(path: Path, module: GroupRLModule, folder: Path) -> None:
    """Take up a run whose last iteration is done, but not all that comes after it."""
    saved = checkpoint.read(path)
    module.on_load_checkpoint(saved)
    module.load_state_dict(saved["state_dict"], strict=False)
    keep_metrics(folder / METRICS_FILE, module.iteration)
    keep_evaluations(folder, module.iteration)
