"""The training script: check the command line, run each job, sum up."""

from __future__ import annotations

import functools
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from grouprl.checks import on_one_device
from grouprl.cli.config.compose import register
from grouprl.cli.config.folders import pinned, prepare_folder, prepare_sweep, run_folder, sweep_folders
from grouprl.cli.config.help import help_text
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, guarded, overrides_of
from grouprl.cli.environment import prepare, program
from grouprl.cli.jobs.apart import run_apart
from grouprl.cli.jobs.arms import arm_of
from grouprl.cli.jobs.job import Job, execute, is_first_process, refuse_to_overwrite
from grouprl.cli.jobs.resume import is_resume, resumed_job
from grouprl.cli.streams import lasting_streams
from grouprl.files import FileError
from grouprl.studies.table import table_of
from grouprl.training import signals
from grouprl.training.records import read_result, settle, shown

PROGRAM = "train.py"
_WAIT_S = 10.0
"""For the processes of a launcher to end that a signal stopped."""
_used: dict[int, Path] = {}
"""The folders of the jobs of a sweep that this process ran: a name may hold the time."""
_begun: dict[Path, dict[str, Any]] = {}
"""The identities of the jobs that this process began, by their folders."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``train.py`` and ``grouprl-train``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(help_text("train"))
        return
    with signals.listening(), lasting_streams():
        try:
            code = _do(arguments)
        except signals.Stopped:
            print(f"{PROGRAM}: stopped before a run began", file=sys.stderr)
            code = signals.exit_code()
        except SystemExit:
            if not signals.received:
                raise
            code = signals.exit_code()
    raise SystemExit(code)


def _do(arguments: list[str]) -> int:
    """Do what a command line says; the exit code."""
    multirun = bool({"-m", "--multirun"} & set(arguments))
    overrides = guarded(lambda: overrides_of(arguments), PROGRAM)
    prepare()
    shows = bool({"--cfg", "-c"} & set(arguments))
    if is_resume(overrides) and shows:
        print("train.py: --cfg with resume=...: the run's configuration is config.yaml in its folder.", file=sys.stderr)
        return 2
    if is_resume(overrides):
        job = guarded(lambda: resumed_job(overrides, multirun=multirun), PROGRAM)
        return execute(job) if job else 0
    jobs = guarded(lambda: check_command("train", overrides, multirun=multirun), PROGRAM)
    if multirun:
        guarded(lambda: _refuse_many_devices(jobs), PROGRAM)
    if not shows and is_first_process():
        find = (lambda: sweep_folders(jobs)) if multirun else (lambda: [run_folder(jobs[0])])
        folders = guarded(find, PROGRAM)
        guarded(lambda: _check_writable(folders[0]), PROGRAM)
        if not multirun:
            guarded(lambda: refuse_to_overwrite(folders[0]), PROGRAM)
        for folder, job in zip(folders, jobs, strict=True):
            guarded(functools.partial(prepare_folder, folder, job), PROGRAM)
        if multirun:
            guarded(lambda: prepare_sweep(jobs[0]), PROGRAM)
    # Flags first: Hydra's parser takes no flag between overrides.
    sys.argv = [sys.argv[0], *(argument for argument in arguments if argument not in overrides), *overrides]
    if multirun and not shows:
        sys.argv += pinned(jobs[0])
    register()
    run = hydra.main(version_base="1.3", config_path="pkg://grouprl.conf", config_name="train")(_run_job)
    if not multirun or shows:
        run()
        return 0
    return _sweep(run, jobs, folders)


def _sweep(run: Callable[[], None], jobs: Sequence[DictConfig], folders: list[Path]) -> int:
    """Run the jobs of a sweep and sum up, whatever became of them; the exit code."""
    started, code = time.time(), 0
    in_turn = jobs[0].hydra.launcher._target_.endswith(".BasicLauncher")  # else they run in other processes
    _used.clear()
    _begun.clear()
    with signals.handled(signals.note if in_turn else signals.raise_stopped):
        try:
            run()
        except signals.Stopped:
            pass
        except SystemExit:  # Hydra's, which has said why
            code = 1
    return _close_sweep([_used.get(number, folder) for number, folder in enumerate(folders)], started) or code


def _check_writable(folder: Path) -> None:
    """Hydra makes run folders with a traceback where that is not possible."""
    parent = folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder}: the run folder cannot be made ({error.strerror}). Set hydra.run.dir=DIR."
        ) from error


def _refuse_many_devices(jobs: Sequence[DictConfig]) -> None:
    for job in jobs:
        if not on_one_device(job.trainer.get("devices", 1)):
            raise UsageError(
                f"trainer.devices={job.trainer.devices} with -m: the processes of further devices are started with the "
                "whole command line, which is the sweep's. Use trainer.devices=1, or start the runs one by one."
            )


def _run_job(config: DictConfig) -> None:
    """One job of the command line. In a sweep a finished one is skipped, and the jobs after a signal are not run."""
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    choices = {k: v for k, v in settings.runtime.choices.items() if not k.startswith("hydra")}
    task = (config, folder, list(settings.overrides.task), choices)
    if settings.mode != RunMode.MULTIRUN:
        if code := execute(Job.new(*task, sweeping=False)):
            raise SystemExit(code)
        return
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


def _close_sweep(folders: Sequence[Path], started: float) -> int:
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
        print(f"To go on, give the same command: {program('train')} {shlex.join(sys.argv[1:])}")
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


if __name__ == "__main__":
    main()
