"""The arms of a sweep: what is done already, what is gone on with, and what begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.identity import changed_inputs, portable, resume_hash
from grouprl.cli.config.saved import read_values
from grouprl.cli.jobs.job import Job
from grouprl.files import read_json
from grouprl.training.records import RESULT_FILE, flat, read_result


def arm_of(config: DictConfig, folder: Path, overrides: Sequence[str], choices: dict[str, Any]) -> Job | None:
    """The job of an arm, or None where its folder holds it finished. What is found there is said.

    Args:
        config: The composed options.
        folder: The arm's folder.
        overrides: What the command line sets for it.
        choices: The chosen option of each group.
    """
    job = Job.new(config, folder, overrides, choices, sweeping=True)
    job.found = read_json(folder / RESULT_FILE)
    before = read_result(folder)
    if before is None:
        return job
    others = _others(folder, config, before, job.result["identity"])
    if others:
        print(f"{folder.name}: begun anew, since {', '.join(others)} changed")
        return job
    if before["state"] == "finished":
        print(f"{folder.name}: finished before, skipped (same options, files and package)")
        return None
    checkpoint = _checkpoint(folder, config)
    if before["state"] != "not run":
        where = f"after {checkpoint.name}" if checkpoint else "from the start (there is no checkpoint)"
        print(f"{folder.name}: {before['state']} before, goes on {where}")
    return job.gone_on_with(before, checkpoint)


def _others(folder: Path, config: DictConfig, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of options and files in which an arm differs from what its folder holds."""
    identity = before.get("identity") or {}
    options = []
    if identity.get("config_hash") != now["config_hash"]:
        options = _changed_options(folder, config) or ["its options"]
    on_the_way = ["what it was made of on the way"] if before.get("accepted_changes") else []
    return options + changed_inputs(identity, now) + on_the_way


def _changed_options(folder: Path, config: DictConfig) -> list[str]:
    saved = read_values(folder)
    if saved is None:
        return []
    old, new = flat(saved), flat(portable(without_hydra(config)))
    return [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def _checkpoint(folder: Path, config: DictConfig) -> Path | None:
    """The newest checkpoint that is whole: an arm of a sweep does not wait for somebody to choose."""
    from grouprl.training.checkpoint import CheckpointError, newest_checkpoint

    try:
        return newest_checkpoint(folder, resume_hash(config))
    except CheckpointError as error:
        print(f"{folder.name}: {error}")
    try:
        return newest_checkpoint(folder, resume_hash(config), fall_back=True)
    except CheckpointError:
        return None
