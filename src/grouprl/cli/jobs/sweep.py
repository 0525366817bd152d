"""A sweep as a study: its plan, its runs by a launcher, batch by batch where it looks more than once, its verdict."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from grouprl.checks import on_one_device
from grouprl.cli.config.folders import prepare_folder, prepare_sweep, sweep_folder
from grouprl.cli.config.inputs import package_digest
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command
from grouprl.cli.config.study import StudyConfig, check_arms, launcher, one_precision, planned
from grouprl.cli.environment import program
from grouprl.cli.jobs.apart import run_apart
from grouprl.cli.jobs.arms import arm_of
from grouprl.cli.jobs.batches import Batch, batches_of, tuning_batches
from grouprl.cli.jobs.job import Job
from grouprl.files import FileError
from grouprl.studies.beginning import begin
from grouprl.studies.plan import OutcomeError, StudyError, StudyPlan
from grouprl.studies.table import progress, table_of
from grouprl.training import signals
from grouprl.training.records import read_result, settle, shown, versions

if TYPE_CHECKING:
    pass

_WAIT_S = 10.0
"""For the processes of a launcher to end that a signal stopped."""
_used: dict[int, Path] = {}
"""The folders of the jobs of a sweep that this process ran: a name may hold the time."""
_begun: dict[Path, dict[str, Any]] = {}
"""The identities of the jobs that this process began, by their folders."""


@dataclass(frozen=True)
class Sweep:
    """A command line of several runs, checked and not begun."""

    plan: StudyPlan
    folder: Path
    batches: tuple[Batch, ...]
    """Those that tune, where it tunes: the others are made when the best values are known."""
    overrides: tuple[str, ...]
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    """What is said before it begins."""

    @property
    def folders(self) -> list[Path]:
        """Of all runs, which a study that ends early does not all use."""
        return [folder for batch in self.batches for folder in batch.folders]


def checked_sweep(study: StudyConfig, flags: Sequence[str], overrides: Sequence[str]) -> Sweep:
    """Check a command line of several runs.

    Args:
        study: Options of the study.
        flags: Hydra's, of the command line.
        overrides: Its options of runs.

    Raises:
        UsageError: It cannot be run.
    """
    jobs = check_command("train", overrides, multirun=True)  # what cannot be read is said here
    _refuse_many_devices(jobs)
    mine = [*overrides, *launcher(study, overrides)]
    sweep = _planned(study, flags, mine)  # which says what is wrong before torch is imported
    precision = one_precision(jobs)
    return _planned(study, flags, [*mine, *precision]) if precision else sweep


def _planned(study: StudyConfig, flags: Sequence[str], mine: list[str]) -> Sweep:
    plan = planned(study, mine)
    notes = check_arms(study, plan) if plan.compares else []
    batches = tuning_batches(plan, mine) or batches_of(plan, mine)
    folders = [folder for batch in batches for folder in batch.folders]
    if len(set(folders)) < len(folders):
        raise UsageError("hydra.sweep.subdir: runs of several batches would write to one folder. Leave it out.")
    return Sweep(plan, sweep_folder(batches[0].jobs[0]), tuple(batches), tuple(mine), tuple(flags), tuple(notes))


def _refuse_many_devices(jobs: Sequence[DictConfig]) -> None:
    for job in jobs:
        if not on_one_device(job.trainer.get("devices", 1)):
            raise UsageError(
                f"trainer.devices={job.trainer.devices} with -m: the processes of further devices are started with the "
                "whole command line, which is the sweep's. Use trainer.devices=1, or start the runs one by one."
            )


def prepare_study(sweep: Sweep) -> Sweep:
    """Write the plan down, or take up the one that stands; see to it that what is written stays in its folder.

    Raises:
        UsageError: The folder holds another study.
    """
    for batch in sweep.batches:
        for folder, job in zip(batch.folders, batch.jobs, strict=True):
            prepare_folder(folder, job)
    prepare_sweep(sweep.batches[0].jobs[0])
    from grouprl.runtime.machine import processor

    here = {"processor": processor(), "package": package_digest(), "versions": versions()}
    try:
        plan = begin(replace(sweep.plan, conditions=here), sweep.folder)
    except StudyError as error:
        raise UsageError(str(error)) from error
    return replace(sweep, plan=plan)


def run_sweep(run: Callable[[], None], sweep: Sweep, command: Sequence[str]) -> int:
    """Run the batches of a sweep, sum up, whatever became of them, and say the verdict; the exit code.

    Args:
        run: Hydra's program, which reads ``sys.argv``.
        sweep: What is to be run.
        command: The command line, to be given again.
    """
    started, code = time.time(), 0
    _used.clear()
    _begun.clear()
    if sweep.plan.compares:
        print("\n".join([*sweep.plan.describe(), *sweep.notes]), flush=True)
    folders: list[Path] = []
    waiting = list(sweep.batches)
    while waiting:
        batch = waiting.pop(0)
        # Flags first: Hydra's parser takes no flag between overrides.
        sys.argv = [sys.argv[0], *sweep.flags, *batch.overrides]
        _used.clear()
        code = _run_batch(run, batch) or code
        folders += [_used.get(number, folder) for number, folder in enumerate(batch.folders)]
        if signals.received:
            break
        if not batch.seeds and not waiting:
            try:
                sweep = _tuned(sweep)
            except OutcomeError as error:
                print(f"no study: {error}", file=sys.stderr)
                break
            waiting = list(sweep.batches)
        elif sweep.plan.looks and (not waiting or waiting[0].seeds > batch.seeds) and _is_decided(sweep, batch.seeds):
            break
    ended = _close(folders, started, command) or code
    if signals.received or not sweep.plan.compares:
        return ended
    plan = replace(sweep.plan, ended_after=batch.seeds) if sweep.plan.looks else sweep.plan
    plan.write(sweep.folder)
    return _conclude(plan, sweep.folder)


def _tuned(sweep: Sweep) -> Sweep:
    """The sweep with the batches of the study itself, after those that tune."""
    from grouprl.studies import tuning

    plan = tuning.tuned(sweep.plan, sweep.folder)
    plan.write(sweep.folder)
    print("\n".join(["", *tuning.table(plan, tuning.tried(plan, sweep.folder))]), flush=True)
    batches = batches_of(plan, list(sweep.overrides))
    for batch in batches:
        for folder, job in zip(batch.folders, batch.jobs, strict=True):
            prepare_folder(folder, job)
    return replace(sweep, plan=plan, batches=tuple(batches))


def _run_batch(run: Callable[[], None], batch: Batch) -> int:
    in_turn = batch.jobs[0].hydra.launcher._target_.endswith(".BasicLauncher")  # else they run in other processes
    with signals.handled(signals.note if in_turn else signals.raise_stopped):
        try:
            run()
        except signals.Stopped:
            pass
        except SystemExit:  # Hydra's, which has said why
            return 1
    return 0


def run_arm(config: DictConfig) -> None:
    """One job of a sweep: a finished one is skipped, and the jobs after a signal are not run."""
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    choices = {k: v for k, v in settings.runtime.choices.items() if not k.startswith("hydra")}
    task = (config, folder, list(settings.overrides.task), choices)
    _used[settings.job.num], name = folder, os.path.relpath(folder, settings.sweep.dir)
    if signals.received:
        if read_result(folder) is None:
            Job.new(*task, sweeping=True).write(run=name, state="not run")
        return
    job = arm_of(*task)
    if job is not None:
        job.result["run"], _begun[folder] = name, job.result["identity"]
        print(f"\n== {job.result['run']}", flush=True)
        run_apart(job)
    at_once = max(1, settings.launcher.get("n_jobs", 1))
    if said := progress(Path(settings.sweep.dir), at_once):
        print(said, flush=True)


def _close(folders: Sequence[Path], started: float, command: Sequence[str]) -> int:
    """Print the table of a sweep's jobs; the exit code of the sweep."""
    found = [_result_of(folder) for folder in folders]
    print(f"\n{table_of(found)}\n")
    for result in found:
        if result["state"] == "failed":
            print(f"{result['run']} failed: {result.get('error', 'not said why')}")
    place = shown(Path(os.path.commonpath([folder.parent for folder in folders])))
    print(
        f"{len(found)} runs, {time.time() - started:.0f} s. "
        f"Compare them: tensorboard --logdir {shlex.quote(str(place))}"
    )
    if signals.received:
        print(f"To go on, give the same command: {program('train')} {shlex.join(command)}")
        return signals.exit_code()
    return 0 if all(result["state"] == "finished" for result in found) else 1


def _result_of(folder: Path) -> dict[str, Any]:
    try:
        settle(folder, wait_s=_WAIT_S if signals.received else 0)
        result = read_result(folder) or {"run": folder.name, "state": "not run"}
        if result.get("identity", {}) != _begun.get(folder, result.get("identity", {})):
            return {"run": folder.name, "state": "failed", "error": "its folder holds another run, see above"}
        return result
    except (FileError, OSError) as error:
        return {"run": folder.name, "state": "failed", "error": str(error)}


def _is_decided(sweep: Sweep, seeds: int) -> bool:
    """Whether a study ends at a look; what the look says is shown."""
    from grouprl.studies.verdict import judge

    try:
        verdict = judge(sweep.plan, sweep.folder, seeds_done=seeds)
    except (OutcomeError, FileError, ValueError) as error:
        print(f"after {seeds} seeds: {error}")
        return False
    print("\n".join(f"after {seeds} seeds: {line}" for line in verdict.lines()), flush=True)
    return verdict.decided


def _conclude(plan: StudyPlan, folder: Path) -> int:
    """Say the verdict of a study, in which failed runs count as what they scored; the exit code."""
    from grouprl.studies.show.report import write_report
    from grouprl.studies.verdict import judge

    try:
        verdict = judge(plan, folder)
    except (OutcomeError, FileError, ValueError) as error:
        print(f"no verdict: {error}", file=sys.stderr)
        return 1
    verdict.write(folder)
    report = write_report(verdict, folder)
    print(f"\n{verdict.describe()}\n\nTo look at: {shlex.quote(str(shown(report)))}")
    print(f"Again: python compare.py {shlex.quote(str(shown(folder)))}")
    return verdict.exit_code
