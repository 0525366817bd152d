"""The training script: check the command line, run each job, sum up."""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from grouprl.cli import results
from grouprl.cli.config import register, without_hydra
from grouprl.cli.helptext import help_text
from grouprl.cli.preflight import UsageError, check_command, guarded, overrides_of
from grouprl.cli.study import table_of

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
    jobs = guarded(lambda: check_command("train", overrides, multirun=multirun), PROGRAM)
    if multirun:
        guarded(lambda: _refuse_many_devices(jobs), PROGRAM)
    started = time.time()
    # Flags first: Hydra's parser takes no flag between overrides.
    sys.argv = [sys.argv[0], *(argument for argument in arguments if argument not in overrides), *overrides]
    register()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    hydra.main(version_base="1.3", config_path="pkg://grouprl.conf", config_name="train")(_run_job)()
    if multirun and not {"--cfg", "-c"} & set(arguments):
        folders = [Path(job.hydra.sweep.dir) / job.hydra.sweep.subdir for job in jobs]
        raise SystemExit(_close_sweep(folders, started))
    raise SystemExit(_interrupted[0] if _interrupted else 0)


def _refuse_many_devices(jobs: Sequence[DictConfig]) -> None:
    for job in jobs:
        if str(job.trainer.get("devices", 1)) not in ("1", "[0]"):
            raise UsageError(
                f"trainer.devices={job.trainer.devices} with -m: a sweep runs its jobs in one process, which cannot "
                "drive several devices in turn. Use trainer.devices=1, or start the runs one by one."
            )


def _run_job(config: DictConfig) -> None:
    """One job of the command line. In a sweep its failure is recorded and the next job goes on."""
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    sweeping = settings.mode == RunMode.MULTIRUN
    name = folder.name
    result: dict[str, Any] = {
        "run": name,
        "state": "running",
        "overrides": list(settings.overrides.task),
        "choices": {k: v for k, v in settings.runtime.choices.items() if not k.startswith("hydra")},
        "seed": config.seed,
        "identity": results.identity(config),
        "versions": results.versions(),
    }
    if sweeping and _interrupted:
        _write(folder, result | {"state": "not run"})
        return
    if sweeping and results.is_finished(folder, config):
        print(f"{name}: finished before, skipped (same configuration, version and commit)")
        return
    if sweeping:
        print(f"\n== {name}", flush=True)
    _clear(folder)
    _write(folder, result)
    try:
        _train(config, folder, result)
    except UsageError as error:
        _fail(folder, result, str(error))
        if not sweeping:
            print(f"{PROGRAM}: {error}", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
            raise SystemExit(2) from None
        print(f"{name}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        _interrupted.append(130)
        _write(folder, result | {"state": "interrupted"})
        print(f"{name}: stopped at once; nothing of the iteration under way is kept", file=sys.stderr)
    except Exception as error:
        _fail(folder, result, f"{type(error).__name__}: {error}")
        if not sweeping:
            raise
        traceback.print_exc()


def _train(config: DictConfig, folder: Path, result: dict[str, Any]) -> None:
    from grouprl.cli.build import build, quiet_libraries
    from grouprl.cli.report import describe_run, log_hyperparameters, metrics_of
    from grouprl.training import run_training

    quiet_libraries()
    OmegaConf.save(without_hydra(config), folder / "config.yaml", resolve=True)
    run = build(config, folder)
    report = run_training(run.module, run.data, run.trainer, folder, run.stop, title=folder.name)
    if not run.trainer.is_global_zero:
        return
    if config.save_merged and run.module.policy.has_adapter:
        run.module.policy.save(folder / "policy_merged", merged=True)
    metrics = metrics_of(report, folder)
    log_hyperparameters(run.trainer, config, result["choices"], metrics)
    state = "interrupted" if report.exit_code else "finished"
    outcome = {"state": state, "iterations": report.iterations, "seconds": report.seconds, "metrics": metrics}
    results.write_result(folder, result | outcome)
    print(describe_run(report, folder))
    if report.exit_code:
        _interrupted.append(report.exit_code)


def _close_sweep(folders: Sequence[Path], started: float) -> int:
    """Print the table of a sweep's jobs; the exit code of the sweep."""
    found = [results.read_result(folder) or {"run": folder.name, "state": "not run"} for folder in folders]
    print(f"\n{table_of(found)}\n")
    for result in found:
        if result["state"] == "failed":
            print(f"{result['run']} failed: {result['error']}")
    print(
        f"{len(found)} runs, {time.time() - started:.0f} s. "
        f"Compare them: tensorboard --logdir {_shown(folders[0].parent)}"
    )
    if _interrupted:
        return _interrupted[0]
    return 0 if all(result["state"] == "finished" for result in found) else 1


def _clear(folder: Path) -> None:
    """Put an earlier run that stands in the way out of TensorBoard's sight; nothing is deleted."""
    if not results.read_result(folder) and not (folder / "metrics.jsonl").exists():
        return
    number = 1
    while (kept := folder.parents[1] / "superseded" / folder.parent.name / f"{folder.name}-{number}").exists():
        number += 1
    kept.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(kept)
    folder.mkdir()


def _fail(folder: Path, result: dict[str, Any], error: str) -> None:
    _write(folder, result | {"state": "failed", "error": error})


def _write(folder: Path, result: dict[str, Any]) -> None:
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        results.write_result(folder, result)


def _shown(path: Path) -> Path:
    """A path as short as a user in this folder would write it."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    main()
