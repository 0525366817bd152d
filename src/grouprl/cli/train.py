"""The training script: check the command line, run each job, sum up."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from grouprl.checks import on_one_device
from grouprl.cli.arms import arm_of
from grouprl.cli.config.compose import register
from grouprl.cli.config.help import help_text
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, guarded, overrides_of
from grouprl.cli.environment import prepare
from grouprl.cli.job import Job, execute, refuse_to_overwrite
from grouprl.cli.resume import is_resume, resumed_job
from grouprl.studies.table import table_of
from grouprl.training.records import read_result, shown

PROGRAM = "train.py"
_interrupted: list[int] = []
"""Exit code of the job a signal stopped; the jobs after it are not run."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``train.py`` and ``grouprl-train``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(help_text("train"))
        return
    multirun = bool({"-m", "--multirun"} & set(arguments))
    overrides = guarded(lambda: overrides_of(arguments), PROGRAM)
    prepare()
    if is_resume(overrides) and {"--cfg", "-c"} & set(arguments):
        print("train.py: --cfg with resume=...: the run's configuration is config.yaml in its folder.", file=sys.stderr)
        raise SystemExit(2)
    if is_resume(overrides):
        job = guarded(lambda: resumed_job(overrides, multirun=multirun), PROGRAM)
        raise SystemExit(execute(job) if job else 0)
    jobs = guarded(lambda: check_command("train", overrides, multirun=multirun), PROGRAM)
    if multirun:
        guarded(lambda: _refuse_many_devices(jobs), PROGRAM)
    if not {"--cfg", "-c"} & set(arguments):
        for job in jobs[:1]:
            target = Path(job.hydra.sweep.dir if multirun else job.hydra.run.dir)
            guarded(lambda folder=target: _check_writable(folder), PROGRAM)  # type: ignore[misc]
            if not multirun:
                guarded(lambda folder=target: refuse_to_overwrite(folder), PROGRAM)  # type: ignore[misc]
    started = time.time()
    # Flags first: Hydra's parser takes no flag between overrides.
    sys.argv = [sys.argv[0], *(argument for argument in arguments if argument not in overrides), *overrides]
    register()
    hydra.main(version_base="1.3", config_path="pkg://grouprl.conf", config_name="train")(_run_job)()
    if multirun and not {"--cfg", "-c"} & set(arguments):
        folders = [Path(job.hydra.sweep.dir) / job.hydra.sweep.subdir for job in jobs]
        raise SystemExit(_close_sweep(folders, started))
    raise SystemExit(_interrupted[0] if _interrupted else 0)


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
                f"trainer.devices={job.trainer.devices} with -m: a sweep runs its jobs in one process, which cannot "
                "drive several devices in turn. Use trainer.devices=1, or start the runs one by one."
            )


def _run_job(config: DictConfig) -> None:
    """One job of the command line. In a sweep a finished one is skipped, and the jobs after a signal are not run."""
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    choices = {k: v for k, v in settings.runtime.choices.items() if not k.startswith("hydra")}
    sweeping = settings.mode == RunMode.MULTIRUN
    task = (config, folder, list(settings.overrides.task), choices)
    if sweeping and _interrupted:
        if read_result(folder) is None:
            Job.new(*task, sweeping=True).write(state="not run")
        return
    job = arm_of(*task) if sweeping else Job.new(*task, sweeping=False)
    if job is None:
        return
    if sweeping:
        print(f"\n== {folder.name}", flush=True)
    code = execute(job)
    if code in (130, 143):
        _interrupted.append(code)
    elif code and not sweeping:
        raise SystemExit(code)


def _close_sweep(folders: Sequence[Path], started: float) -> int:
    """Print the table of a sweep's jobs; the exit code of the sweep."""
    found = [read_result(folder) or {"run": folder.name, "state": "not run"} for folder in folders]
    print(f"\n{table_of(found)}\n")
    for result in found:
        if result["state"] == "failed":
            print(f"{result['run']} failed: {result['error']}")
    print(
        f"{len(found)} runs, {time.time() - started:.0f} s. "
        f"Compare them: tensorboard --logdir {shown(folders[0].parent)}"
    )
    if _interrupted:
        return _interrupted[0]
    return 0 if all(result["state"] == "finished" for result in found) else 1


if __name__ == "__main__":
    main()
