"""``resume=RUN_DIR``: go on with an interrupted run, with its own configuration."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grouprl.checks import refusal
from grouprl.cli.config.identity import HARMLESS, OF_ROUNDING, changed_inputs, identity, resume_hash
from grouprl.cli.config.inputs import package_digest
from grouprl.cli.config.messages import UsageError, explain
from grouprl.cli.config.saved import REMEDY, foreign, read_config
from grouprl.cli.config.schema import RENAMED, TrainConfig
from grouprl.cli.config.values import check_values
from grouprl.cli.environment import program
from grouprl.cli.jobs.job import LOADED, Job
from grouprl.files import FileError, read_json, refuse_links
from grouprl.training.records import CONFIG_FILE, RESULT_FILE, WITHHELD, portable_value, read_result, shown

OLDER = "Go on with that version, or start anew"


def is_resume(overrides: Sequence[str]) -> bool:
    """Whether the command line goes on with a run."""
    return any(
        o.lstrip("+").startswith("resume=") and o.partition("=")[2] not in ("", "null", "''", '""') for o in overrides
    )


def resumed_job(overrides: Sequence[str], *, multirun: bool) -> Job | None:
    """The job that goes on with a run, or None where the run is finished."""
    if multirun:
        raise UsageError("resume=... with -m: resume runs one by one; a sweep run again skips what is finished.")
    values = _values(overrides)
    folder = Path(os.path.expanduser(str(values.pop("resume"))))
    fall_back = values.pop("resume_fall_back", False)
    if not isinstance(fall_back, bool):
        raise UsageError(f"resume_fall_back={fall_back}: expected true or false.")
    refuse_links(folder)
    accepted = _names(values.pop("accept_changed", None))
    found = read_json(folder / RESULT_FILE)
    saved_result, saved = read_result(folder), read_config(folder)
    if saved_result is None or saved is None:
        run = next((above for above in folder.parents if (above / RESULT_FILE).is_file()), None)
        if run is not None:
            raise UsageError(f"resume={folder}: this lies in a run's folder. Did you mean resume={run}?")
        raise UsageError(
            f"resume={folder}: not a run folder (it needs result.json and config.yaml).{_unfinished_beside(folder)}"
        )
    choices = saved_result.get("choices", {})
    values = {key: value for key, value in values.items() if key not in choices or choices[key] != value}
    _refuse_other_names(folder, saved, saved_result)
    config = _changed(copy.deepcopy(saved), values, choices)
    _refuse_foreign(config, values)
    _refuse_edited(folder, saved, saved_result)
    check_values(config)
    _refuse_fewer_steps(saved_result.get("iterations", 0), config)
    if saved_result["state"] == "finished" and saved_result.get("iterations", 0) >= config.steps:
        print(f"{folder} is finished: nothing to do. To go on, give more steps: steps={2 * config.steps}")
        return None
    here = identity(config)
    _refuse_changed(folder, saved_result.get("identity", {}), here, accepted)
    once = ("resume_fall_back", "accept_changed")
    again = [shlex.quote(override) for override in overrides if override.partition("=")[0] not in once]
    job = Job(config, folder, {}, accepted=accepted, command_to_resume=" ".join((program("train"), *again)))
    checkpoint = _checkpoint(folder, config, fall_back=fall_back)
    job = replace(job.gone_on_with(saved_result, checkpoint), found=found)
    given = [f"{key}={config[key]}" for key in values if key in HARMLESS and "." not in key]
    before = [o for o in job.result.get("overrides", ()) if o.partition("=")[0] not in values]
    job.result["overrides"] = [*before, *given] if given else job.result.get("overrides", [])
    return job


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value if isinstance(value, list) else [value])) if value else ()


def _refuse_changed(folder: Path, before: dict[str, Any], now: dict[str, Any], accepted: Sequence[str]) -> None:
    changed = changed_inputs(before, now)
    known = dict.fromkeys(("grouprl", *before.get("inputs", {}), *now["inputs"], *LOADED))
    for name in accepted:
        if name not in known:
            raise UsageError(
                f"accept_changed: nothing that the run depends on is called {name}. Names: {', '.join(known)}."
            )
    text = refusal(f"resume={shown(folder)}", changed, accepted, "Start anew")
    if text is not None:
        raise UsageError(text)
    for name in changed:
        print(f"note: {name} changed since the run was started, and the run goes on with what is there now")


def _unfinished_beside(folder: Path) -> str:
    """The newest runs that could be resumed, to choose from."""
    parent = folder.parent if folder.parent.is_dir() and folder.parent != Path() else Path("runs")
    found = [file.parent for file in [*parent.glob("*/result.json"), *parent.glob("*/*/result.json")]]
    found = [run for run in found if _state(run) not in (None, "finished")]
    found.sort(key=lambda run: run.stat().st_mtime, reverse=True)
    return "\nUnfinished runs, newest first: " + ", ".join(map(str, found[:5])) if found else ""


def _state(run: Path) -> str | None:
    with contextlib.suppress(FileError):
        return (read_result(run) or {}).get("state")
    return None


def _refuse_fewer_steps(done: int, config: DictConfig) -> None:
    if done > config.steps:
        raise UsageError(f"steps={config.steps}: the run has done {done} iterations already.")


def _values(overrides: Sequence[str]) -> dict[str, Any]:
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UsageError(f"cannot read the command line: {str(error).splitlines()[0]}") from error
    for override in parsed:
        if override.is_sweep_override() or override.is_delete() or "${" in (override.input_line or ""):
            raise UsageError(f"{override.input_line}: a resumed run takes its own configuration, and plain values.")
    return {override.key_or_group.lstrip("+"): override.value() for override in parsed}


def _is_here(target: str) -> bool:
    """Whether a ``_target_`` of this package names a file, as all do now; nothing but packages is imported."""
    try:
        found = importlib.util.find_spec(target.rpartition(".")[0])
    except ModuleNotFoundError:
        return False
    return found is not None and found.submodule_search_locations is None


def _refuse_other_names(folder: Path, config: DictConfig, result: dict[str, Any]) -> None:
    """A run of a version that called its components or options otherwise."""
    targets = {str(target) for key, target in _leaves(config) if key.endswith("_target_")}
    gone = {t for t in targets if t.startswith("grouprl.") and not _is_here(t)}
    others = sorted(set(map(str, config)) - set(TrainConfig.__dataclass_fields__))
    if set(others) - set(RENAMED) and result.get("identity", {}).get("package") == package_digest():
        raise UsageError(f"{folder / CONFIG_FILE}: {others[0]} is no option. {REMEDY}.")
    if gone or others:
        version = result.get("commit") or result.get("versions", {}).get("grouprl", "another version")
        raise UsageError(
            f"resume={folder}: the run was started by an older grouprl ({version}), whose components and options have "
            f"other names. {OLDER} (CHANGELOG.md)."
        )


def _refuse_edited(folder: Path, config: DictConfig, result: dict[str, Any]) -> None:
    """A saved configuration that is not the one the run was started with, but for what may change."""
    file = folder / CONFIG_FILE
    is_older = result.get("identity", {}).get("package") != package_digest()
    for key in TrainConfig.__dataclass_fields__:
        if key not in config and is_older:
            raise UsageError(f"{file}: the run was started by another version of grouprl, which had no {key}. {OLDER}.")
        if key not in config:
            raise UsageError(f"{file}: it has no {key}. {REMEDY}.")
    if resume_hash(config) != result.get("identity", {}).get("resume_hash"):
        raise UsageError(f"{file}: it was changed since the run was started. {REMEDY}.")


def _changed(config: DictConfig, values: dict[str, Any], choices: Mapping[str, Any]) -> DictConfig:
    """The run's configuration with what may change, and with the paths that were not written down."""
    for key, value in values.items():
        if key in choices:
            raise UsageError(
                f"{key}={value}: the run was started with {key}={choices[key]}, and another would make another run. "
                "Leave it out, or start anew."
            )
        if not _has(config, key):
            raise UsageError(f"{key}: the run has no such option. A resumed run takes its own configuration.")
        old, portable = _plain(OmegaConf.select(config, key)), portable_value(value)
        if portable == old and portable == value:
            continue  # as it is written down, 1 for 1.0, too
        if portable != old and key not in HARMLESS:
            harmless = ", ".join(sorted(HARMLESS))
            raise UsageError(
                f"{key}={value}: the run was started with {key}={old}, and changing it would make another run. "
                f"Leave it out, or start anew. What may change: {harmless}."
            )
        if portable != old and key in OF_ROUNDING:
            print(f"note: {key}={value} and not {old} as before: the run goes on as well, but not bit for bit")
        OmegaConf.update(config, key, value)
    try:
        typed = OmegaConf.merge(OmegaConf.structured(TrainConfig), config)
    except OmegaConfBaseException as error:
        given = [f"{key}={'null' if value is None else value}" for key, value in values.items()]
        raise UsageError(explain("train", error, given)) from error
    for key in sorted(HARMLESS & set(values) & set(map(str, config))):
        config[key] = OmegaConf.select(typed, key)
    withheld = [key for key, value in _leaves(config) if isinstance(value, str) and value.startswith(WITHHELD)]
    if withheld:
        hints = " ".join(f"{key}=PATH/{str(OmegaConf.select(config, key)).rpartition('/')[2]}" for key in withheld)
        raise UsageError(f"{', '.join(withheld)}: paths outside the working folder are not written down. Add: {hints}")
    return config


def _has(config: DictConfig, key: str) -> bool:
    """Whether a configuration has an option, be it null."""
    parent, _, name = key.rpartition(".")
    try:
        node = OmegaConf.select(config, parent) if parent else config
        return (isinstance(node, DictConfig) and name in node) or OmegaConf.select(config, key) is not None
    except OmegaConfBaseException:
        return False


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if isinstance(value, (DictConfig, ListConfig)) else value


def _refuse_foreign(config: DictConfig, values: dict[str, Any]) -> None:
    """Code that a configuration names is run where it ships with the package, or the command line names it, too."""
    for key, value in foreign(OmegaConf.to_container(config, resolve=False)):
        if key not in values or values[key] != value:
            raise UsageError(
                f"{key}={value}: code that the run folder names is not run unless you name it, too. "
                f"If you trust it, add: {key}={value}"
            )


def _leaves(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items_ex(resolve=False):
        key = str(name)
        if isinstance(value, DictConfig):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, ListConfig):
            entries = {str(number): entry for number, entry in enumerate(value._iter_ex(resolve=False))}
            yield from _leaves(OmegaConf.create(entries), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _checkpoint(folder: Path, config: DictConfig, *, fall_back: bool) -> Path | None:
    from grouprl.training.checkpoint import CheckpointError, iteration_of, newest_checkpoint

    try:
        path = newest_checkpoint(folder, resume_hash(config), fall_back=fall_back)
    except CheckpointError as error:
        hint = "" if fall_back else "\nTo go on from the one before it, add resume_fall_back=true."
        raise UsageError(f"{error}{hint}") from error
    if path is not None:
        _refuse_fewer_steps(iteration_of(path), config)
    where = f"after {path.name}" if path else "from the start (there is no checkpoint)"
    print(f"resuming {shown(folder)} {where}", flush=True)
    return path
