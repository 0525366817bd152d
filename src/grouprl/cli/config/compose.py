"""Composing the configuration of a job from `conf/` and a command line."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from grouprl.cli.config.schema import GROUPS, EvaluateConfig, TrainConfig
from grouprl.cli.config.sizes import fitting

CONFIG_MODULE = "grouprl.conf"
_MAX_NAME = 150


def register() -> None:
    """Make schemas and resolvers known to Hydra. May be called more than once."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("fitting", fitting, replace=True)


def run_name(overrides: str, seed: int) -> str:
    """A folder name from a run's overrides: letters, digits, ``.``, ``_`` and ``-`` alone.

    An axis such as ``loss/gate`` is written ``loss.gate``. Where other characters are replaced, or the name is cut, a
    checksum keeps apart what would become alike.
    """
    for group in GROUPS:
        if "/" in group:
            overrides = overrides.replace(f"{group}-", f"{group.replace('/', '.')}-")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", overrides).strip("-.")
    if len(name) > _MAX_NAME or name != overrides:
        name = f"{name[:_MAX_NAME]}-{zlib.crc32(overrides.encode()):08x}"
    return "__".join(part for part in (name, f"seed-{seed}") if part)


def compose_job(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of one job, Hydra's own part included."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose(config_name, overrides=list(overrides), return_hydra_config=True)


def without_hydra(config: DictConfig) -> DictConfig:
    """The job's own part of a composed configuration."""
    copy = config.copy()
    OmegaConf.set_readonly(copy, False)
    OmegaConf.set_struct(copy, False)
    copy.pop("hydra", None)
    return copy


def options_of(group: str) -> list[str]:
    """Names of the options of a component group or axis."""
    folder = files("grouprl.experiments" if group == "experiment" else "grouprl.conf")
    for part in group.split("/"):
        folder = folder.joinpath(part)
    if not folder.is_dir():
        return []
    return sorted(Path(str(file)).stem for file in folder.iterdir() if str(file).endswith(".yaml"))


@functools.lru_cache
def shipped_targets() -> frozenset[str]:
    """The ``_target_`` of every option that ships: what a configuration can name without code of the user's."""
    found: set[str] = set()
    for package in ("grouprl.conf", "grouprl.experiments"):
        for file in _yaml_files(files(package)):
            found |= set(re.findall(r"_target_: ([\w.]+)", file.read_text(encoding="utf-8")))
    return frozenset(found)


def _yaml_files(folder: Any) -> Iterator[Any]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _yaml_files(entry)
        elif entry.name.endswith(".yaml"):
            yield entry
