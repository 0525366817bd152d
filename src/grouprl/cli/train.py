"""The training script: check the command line, run each job, sum up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from grouprl.cli.call import prepare_run
from grouprl.cli.config.compose import register
from grouprl.cli.config.folders import check_writable, run_folder
from grouprl.cli.config.help import help_text
from grouprl.cli.config.preflight import check_command, guarded, overrides_of, readable
from grouprl.cli.config.study import split_study
from grouprl.cli.environment import fetch_policies, prepare
from grouprl.cli.jobs.job import Job, execute, is_first_process
from grouprl.cli.jobs.resume import is_resume, resumed_job
from grouprl.cli.jobs.sweep import checked_sweep, prepare_study, run_arm, run_sweep
from grouprl.training import signals

PROGRAM = "train.py"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``train.py`` and ``grouprl-train``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(help_text("train"))
        return
    with signals.listening():
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
    given = guarded(lambda: overrides_of(arguments), PROGRAM)
    study, overrides = guarded(lambda: split_study(given, multirun=multirun), PROGRAM)
    overrides = [readable(override) for override in overrides]
    prepare()
    shows = bool({"--cfg", "-c"} & set(arguments))
    if multirun and shows:
        print("train.py: --cfg shows one job. Leave out -m, and give one value of each option.", file=sys.stderr)
        return 2
    if is_resume(overrides) and shows:
        print("train.py: --cfg with resume=...: the run's configuration is config.yaml in its folder.", file=sys.stderr)
        return 2
    if is_resume(overrides):
        job = guarded(lambda: resumed_job(overrides, multirun=multirun), PROGRAM)
        return execute(job) if job else 0
    # Flags first: Hydra's parser takes no flag between overrides.
    flags = [argument for argument in arguments if argument not in given]
    flags += ["--resolve"] if shows and "--resolve" not in flags else []
    sys.argv = [sys.argv[0], *flags, *overrides]
    register()
    run = hydra.main(version_base="1.3", config_path="pkg://grouprl.conf", config_name="train")(_run_job)
    if multirun and not shows:
        sweep = guarded(lambda: checked_sweep(study, flags, overrides), PROGRAM)
        guarded(lambda: check_writable(sweep.folders[0], "study=NAME or hydra.sweep.dir=DIR"), PROGRAM)
        guarded(lambda: fetch_policies(job.policy for batch in sweep.batches for job in batch.jobs), PROGRAM)
        return run_sweep(run, guarded(lambda: prepare_study(sweep), PROGRAM), arguments)
    jobs = guarded(lambda: check_command("train", overrides, multirun=multirun), PROGRAM)
    if not shows and is_first_process():
        guarded(lambda: prepare_run(jobs[0], run_folder(jobs[0])), PROGRAM)
    run()
    return 0


def _run_job(config: DictConfig) -> None:
    """One job of the command line."""
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        run_arm(config)
        return
    choices = {k: v for k, v in settings.runtime.choices.items() if not k.startswith("hydra")}
    task = (config, Path(settings.runtime.output_dir), list(settings.overrides.task), choices)
    if code := execute(Job.new(*task, sweeping=False)):
        raise SystemExit(code)


if __name__ == "__main__":
    main()
