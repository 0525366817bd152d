"""One run from Python: what ``train.py`` does for a command line, as a function that gives a report or raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.folders import check_writable, prepare_folder, run_folder
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, readable
from grouprl.cli.config.study import split_study
from grouprl.cli.environment import fetch_policies, prepare
from grouprl.cli.jobs.job import Job, execute, refuse_to_overwrite
from grouprl.cli.jobs.resume import is_resume, resumed_job
from grouprl.training import signals

if TYPE_CHECKING:
    from grouprl.training.run import RunReport


def train(overrides: Sequence[str] = (), *, folder: str | Path | None = None) -> RunReport:
    """Do one run, as ``train.py`` does it: its folder holds configuration, metrics, checkpoints, curves and policy.

    Environment variables that decide how torch computes (`grouprl.cli.environment.DEFAULTS`) are set here, where they
    are not set yet; those that torch reads when it is imported have no effect after that.

    Args:
        overrides: Options as on the command line, each a text: ``["steps=20", "advantage=zscore"]``. With
            ``resume=RUN`` a run goes on. Sweeps and studies are the command line's (``train.py -m``).
        folder: The run's folder, new or empty; None: ``hydra.run.dir``, which is named after the overrides.

    Returns:
        Held-out estimates before and after, iterations, wall seconds, the trained policy's folder, and an exit code of
        0, or 128 and the number of the signal that stopped the run after an iteration.

    Raises:
        UsageError: The options cannot be used; the text says why and what to do.
        RuntimeError: The run failed; its cause is the error that ended it, and the text names the folder.
        KeyboardInterrupt: A signal ended it at once.
    """
    given = [overrides] if isinstance(overrides, str) else list(overrides)
    if not all(isinstance(override, str) for override in given):
        raise UsageError(f"overrides={given}: give texts, such as ['steps=20'].")
    given = [readable(override) for override in split_study(given, multirun=False)[1]]
    prepare()
    with signals.listening():
        job = _resumed(given, folder) if is_resume(given) else _new(given, folder)
        code = execute(job)
        if job.report is not None:
            return job.report
        if signals.received:
            raise signals.Stopped(f"signal {signals.received[0]}") from job.error
        if isinstance(job.error, UsageError):
            raise job.error
        raise RuntimeError(f"{job.folder}: the run failed ({code}). {job.error}") from job.error


def prepare_run(job: DictConfig, folder: Path) -> None:
    """See to it that a run can write to its folder, and to nothing else, and that its policy is here."""
    check_writable(folder)
    refuse_to_overwrite(folder)
    fetch_policies([job.policy])
    prepare_folder(folder, job)


def _resumed(overrides: list[str], folder: str | Path | None) -> Job:
    if folder is not None:
        raise UsageError(f"folder={folder}: resume=... names the folder of the run already.")
    job = resumed_job(overrides, multirun=False)
    if job is None:
        raise UsageError(f"{' '.join(overrides)}: the run is finished.")
    return job


def _new(overrides: list[str], folder: str | Path | None) -> Job:
    (composed,) = check_command("train", overrides, multirun=False)
    place = run_folder(composed) if folder is None else Path(folder)
    prepare_run(composed, place)
    place.mkdir(parents=True, exist_ok=True)
    runtime = OmegaConf.to_container(composed.hydra.runtime.choices)
    assert isinstance(runtime, dict)
    choices = {str(name): choice for name, choice in runtime.items() if not str(name).startswith("hydra")}
    job = Job.new(without_hydra(composed), place, overrides, choices, sweeping=False)
    return replace(job, command_to_resume=f"grouprl.train(['resume={place}'])")
