"""One run: its folder, its configuration, and what becomes of it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from grouprl.checks import differing, refusal
from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.identity import changed_inputs, identity, portable, resume_hash
from grouprl.cli.config.inputs import input_digests
from grouprl.cli.config.messages import UsageError
from grouprl.cli.environment import program
from grouprl.cli.jobs.locks import FolderError, alone
from grouprl.files import FileError, read_json, write_text
from grouprl.policy.fetch import source_of
from grouprl.training import signals
from grouprl.training.records import (
    CONFIG_FILE,
    LOCK_FILE,
    RESULT_FILE,
    SUPERSEDED,
    portable_message,
    portable_override,
    read_result,
    shown,
    source_commit,
    versions,
    write_result,
)

if TYPE_CHECKING:
    from grouprl.training.run import RunReport

LOADED = ("weights", "config", "heldout", "problems", "prompts")
"""What a run notes digests of as it comes into memory, from wherever."""
_OF_DATA = ("heldout", "problems", "prompts")
_OF_A_MODEL = ("weights", "config", "prompts")
"""What is loaded of data files, and of those of a model."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")
"""What a kill left of a file that was being written."""
_OWN_FILES = (RESULT_FILE, CONFIG_FILE, LOCK_FILE)
"""What a run writes before its components are built."""
_OF_AN_END = ("error", "metrics", "seconds", "iterations", "digests")
"""Entries of ``result.json`` that a run which goes on does not have yet."""


@dataclass
class Job:
    """A run that is to be done, or gone on with."""

    config: DictConfig
    folder: Path
    result: dict[str, Any]
    """What ``result.json`` holds of it whatever happens."""
    sweeping: bool = False
    resume_from: Path | None = None
    """Checkpoint to go on from; None: from the start."""
    resumed: bool = False
    accepted: tuple[str, ...] = ()
    """Names of inputs that may be others than those the run was started with."""
    before: dict[str, Any] | None = None
    """Of a run that goes on, ``result.json`` as it was found."""
    command_to_resume: str = ""
    found: Mapping[str, Any] | EllipsisType | None = ...
    """``result.json`` as it was when it was decided what to do; ...: that was not looked at."""
    report: RunReport | None = None
    error: BaseException | None = None
    """What became of it: a report, or the error that ended it."""

    @classmethod
    def new(
        cls, config: DictConfig, folder: Path, overrides: Sequence[str], choices: dict[str, Any], *, sweeping: bool
    ) -> Job:
        """A job that starts from nothing."""
        result = {
            "run": folder.name,
            "state": "running",
            "overrides": [portable_override(override) for override in overrides],
            "choices": choices,
            "seed": config.seed,
            "identity": identity(config),
            "commit": source_commit(),
            "versions": versions(),
        }
        named = shlex.join(o for o in overrides if portable_override(o) != o or "._target_=" in o)
        command = " ".join(filter(None, (program("train"), shlex.quote(f"resume={shown(folder)}"), named)))
        return cls(config, folder, result, sweeping=sweeping, command_to_resume=command)

    def gone_on_with(self, before: Mapping[str, Any], checkpoint: Path | None) -> Job:
        """This job as one that goes on with what its folder holds.

        Args:
            before: ``result.json`` of the folder.
            checkpoint: Where it goes on; None: from the start.
        """
        result = {key: value for key, value in before.items() if key not in _OF_AN_END} | {"state": "running"}
        return replace(self, result=result, resumed=True, resume_from=checkpoint, before=dict(before))

    def write(self, **changes: Any) -> None:
        """Write ``result.json`` with some of it changed."""
        if "error" in changes:
            changes["error"] = portable_message(changes["error"])
        if is_first_process():
            write_result(self.folder, self.result | changes)

    def end(self, state: str, **changes: Any) -> None:
        """Write ``result.json`` of a run that has come to its end, with digests of what it came to."""
        from grouprl.studies.verification import sealed

        with contextlib.suppress(FileError, OSError):  # of a run that failed any file may be broken, or none there
            changes["digests"] = sealed(self.folder, self.result | changes | {"state": state})
        self.write(state=state, **changes)


def execute(job: Job) -> int:
    """Do a job; the exit code. Whatever happens, ``result.json`` says it."""
    try:
        with alone(job.folder) if is_first_process() else contextlib.nullcontext():
            return _execute(job)
    except (FolderError, FileError) as error:
        job.error = error
        print(f"{job.folder.name if job.sweeping else 'train.py'}: {error}", file=sys.stderr)
        return 2
    except UsageError as error:
        return _refuse(job, error)


def _execute(job: Job) -> int:
    from grouprl.advantages.own import AdvantageError
    from grouprl.rewards.scoring import ScoringError
    from grouprl.runtime.failures import RankError
    from grouprl.runtime.guards import TrainingError
    from grouprl.runtime.machine import without_determinism
    from grouprl.sandbox.sandbox import SandboxError
    from grouprl.training.checkpoint import CheckpointError

    known = (TrainingError, ScoringError, CheckpointError, FileError, SandboxError, AdvantageError, FloatingPointError)
    if is_first_process():
        _refuse_if_another_came_between(job)
    if is_first_process() and not job.resumed:
        make_way(job.folder) if job.sweeping else refuse_to_overwrite(job.folder)
    try:
        if not job.resumed:
            _write_config(job)
        job.write()
        code, text = _train(job)
    except UsageError as error:
        return _refuse(job, error)
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of a component, too
        if refused := without_determinism(error):
            error = TrainingError(refused)
        if isinstance(error, RankError) and not is_first_process():
            return 0  # Lightning would kill the first process, which says it all
        with signals.handled(signal.SIG_IGN):
            return _end(job, error, in_one_line=isinstance(error, known))
    with contextlib.suppress(OSError):  # what was done is done, whether or not somebody reads of it
        print(text, end="", flush=True)
    return code


def _refuse_if_another_came_between(job: Job) -> None:
    """A folder whose run went on since it was decided what to do with it."""
    if job.found is not ... and _settled(read_json(job.folder / RESULT_FILE)) != _settled(job.found):
        raise FolderError(
            f"{shown(job.folder)}: another process worked in this folder just now. Give the same command again."
        )


def _settled(result: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A result whose state does not depend on when it is looked at."""
    return result and {**result, "state": "interrupted" if result.get("state") == "running" else result.get("state")}


def _write_config(job: Job) -> None:
    if is_first_process():
        write_text(job.folder / CONFIG_FILE, OmegaConf.to_yaml(portable(without_hydra(job.config))))


def _end(job: Job, error: BaseException, *, in_one_line: bool) -> int:
    """Record and say how a run ended that did not come to its end; the exit code."""
    name, job.error = job.folder.name, error
    if signals.received:  # whatever became of its exception on the way
        job.write(state="interrupted")
        print(f"{name}: stopped at once. To go on: {job.command_to_resume}", file=sys.stderr)
        return signals.exit_code()
    if isinstance(error, OSError):
        with contextlib.suppress(OSError):
            job.end("failed", error=str(error))
        print(f"{name}: {error}\nTo go on, once that is mended: {job.command_to_resume}", file=sys.stderr)
    elif in_one_line:
        job.end("failed", error=str(error))
        print(f"{name}: {error}\nAfter mending it: {job.command_to_resume}", file=sys.stderr)
    elif isinstance(error, Exception):
        job.end("failed", error=f"{type(error).__name__}: {error}")
        traceback.print_exception(error)
    else:
        text = _leaving(error)
        job.end("failed", error=text)
        print(f"{name}: {text}\nAfter mending it: {job.command_to_resume}", file=sys.stderr)
    return 1


def _leaving(error: BaseException) -> str:
    """What code under way raised to leave the program, and where."""
    if isinstance(error.__context__, KeyboardInterrupt):  # which Lightning turns into an exit of its own
        error = error.__context__
    place = traceback.extract_tb(error.__traceback__)[-1]
    told = ", ".join(map(repr, error.args))
    return f"{type(error).__name__}({told}) was raised in {shown(Path(place.filename))}, line {place.lineno}"


def _train(job: Job) -> tuple[int, str]:
    """Train; the exit code and what is to be said."""
    from grouprl.cli.build import build, quiet_libraries
    from grouprl.runtime import machine
    from grouprl.studies.plan import read_plan
    from grouprl.training.checkpoint import iteration_of
    from grouprl.training.run import run_training
    from grouprl.training.show.report import describe_run, log_hyperparameters, metrics_of, seconds_of

    quiet_libraries()
    config, folder = job.config, job.folder
    if is_first_process():
        print(f"run folder {shown(folder)}", flush=True)
    after = None if job.resume_from is None else iteration_of(job.resume_from)
    purged = None if not job.resumed else 0 if after is None else after + 1
    before = job.result.get("machine", {}) if job.resumed else {}
    as_before = {key: before.get(key) for key in ("threads", "precision")}
    run = build(config, folder, config_hash=resume_hash(config), purge_step=purged, **as_before)
    job.result["machine"] = machine.describe(run.trainer.precision)
    for key, (old, new) in machine.differences(before, job.result["machine"]).items():
        print(f"note: {key} is {new}, and was {old} before: the run goes on as well, but not bit for bit")
    if run.contamination is not None:
        job.result["contamination"] = run.contamination
    signals.raise_if_received()
    run.stop.on_giving_up = lambda: job.write(state="interrupted")
    try:
        _note_inputs(job, run.digests())
        report = run_training(
            run.module, run.data, run.trainer, folder, run.stop, title=folder.name, resume_from=job.resume_from
        )
    finally:
        run.module.scorer.close()
    if not run.trainer.is_global_zero:
        return 0, ""  # at anything else Lightning kills the first process, which is still writing
    if after:
        report = replace(report, seconds=report.seconds + seconds_of(folder, until=after))
    if config.save_merged and run.module.policy.has_adapter:
        run.module.policy.save(folder / "policy_merged", merged=True)
    job.report, metrics = report, metrics_of(report, folder)
    plan = read_plan(folder.parent)
    log_hyperparameters(run.trainer, job.result["overrides"], metrics, swept=None if plan is None else plan.swept)
    state = "interrupted" if report.exit_code else "finished"
    write = job.end if state == "finished" else job.write
    write(state=state, iterations=report.iterations, seconds=report.seconds, metrics=metrics)
    again = "" if job.sweeping else job.command_to_resume
    return report.exit_code, describe_run(report, folder, again, program("evaluate")) + "\n"


def _note_inputs(job: Job, digests: dict[str, str]) -> None:
    """Write down what a run trains and on what, as it was loaded; a run that goes on goes on with the same."""
    from grouprl.training.checkpoint import iteration_of

    before = job.result.get("loaded") or digests
    changed = differing(before, digests)
    now = identity(job.config)
    files = [name for name in changed_inputs(job.result["identity"], now) if name in job.accepted]
    excused = set(_OF_DATA) if set(files) & set(input_digests(job.config.data)) else set()
    excused |= set(_OF_A_MODEL) if set(files) & set(input_digests(job.config.policy)) else set()
    changed = [name for name in changed if name not in excused]  # it comes of a file that was accepted
    text = refusal(f"resume={shown(job.folder)}", changed, job.accepted, "Start anew")
    if text is not None:
        raise UsageError(text)
    if files or changed:
        entry = {"names": files + changed, "after": iteration_of(job.resume_from) if job.resume_from else 0}
        job.result["accepted_changes"] = [*job.result.get("accepted_changes", ()), entry]
    kept = now if files else job.result["identity"] | {"config_hash": now["config_hash"]}
    job.result |= {"loaded": digests, "identity": kept}
    if source := source_of(str(job.config.policy.get("path")), job.config.policy.get("source", "auto")):
        job.result["weights_from"] = source
    if job.resumed:
        _write_config(job)
    job.write()


def _refuse(job: Job, error: UsageError) -> int:
    """A job whose configuration turned out not to work: one message, and no run folder beside a single run."""
    text, job.error = str(error), error
    if job.before is None:
        job.write(state="failed", error=text)
    elif is_first_process():
        write_result(job.folder, job.before)
    print(f"{job.folder.name if job.sweeping else 'train.py'}: {text}", file=sys.stderr)
    if not job.sweeping and not job.resumed and is_first_process():
        for name in _OWN_FILES:  # and no others: the folder may be the user's
            (job.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            job.folder.rmdir()
    return 2


def refuse_to_overwrite(folder: Path) -> None:
    """Refuse a folder that holds a run already, or anything else."""
    result, others = _held(folder)
    if result is not None:
        state = result.get("state", "unfinished")
        command = " ".join((program("train"), shlex.quote(f"resume={shown(folder)}")))
        go_on = "" if state == "finished" else f" To go on with it: {command}"
        raise FolderError(f"{shown(folder)}: it holds a run ({state}). Set hydra.run.dir to a new folder.{go_on}")
    if others:
        raise _not_a_run(folder, others)


def make_way(folder: Path) -> None:
    """Put an earlier run that stands in a sweep's way out of TensorBoard's sight; nothing is deleted."""
    result, others = _held(folder)
    if result is None and others:
        raise _not_a_run(folder, others)
    if result is None:
        return
    number = 1
    while (kept := folder.parents[1] / SUPERSEDED / folder.parent.name / f"{folder.name}-{number}").exists():
        number += 1
    moved: list[Path] = []
    try:
        kept.mkdir(parents=True)
        for file in [file for file in folder.iterdir() if file.name != LOCK_FILE]:
            file.rename(kept / file.name)
            moved.append(file)
    except OSError as error:
        for file in moved:
            (kept / file.name).rename(file)
        raise FolderError(
            f"{shown(folder)}: the run that is here cannot be moved to {shown(kept)} ({error.strerror})."
        ) from error
    print(f"{folder.name}: the run that was here is kept in {shown(kept)}")


def _held(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """What a folder holds: a run's result, or {} of one that has none, else None; and the names of all files."""
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    names = [name for name in names if name != LOCK_FILE and not _TEMPORARY.fullmatch(name)]
    is_run = bool({"metrics.jsonl", "checkpoints", RESULT_FILE} & set(names))
    return (read_result(folder) or {}) if is_run else None, names


def _not_a_run(folder: Path, names: Sequence[str]) -> FolderError:
    return FolderError(
        f"{shown(folder)}: it holds other files ({', '.join(names[:3])}) and is no run folder. "
        "Set hydra.run.dir to an empty or new folder."
    )


def is_first_process() -> bool:
    """Whether this is not one that Lightning started beside another, which sees to the run folder."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0
