"""What makes two configurations the same run: hashes, digests of what they name, and options that may differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.inputs import input_digests, package_digest
from grouprl.training.records import portable_value

OF_ROUNDING = frozenset(
    {
        "micro_batch_size",
        "micro_batch_tokens",
        "on_out_of_memory",
        "policy.gradient_checkpointing",
        "policy.cuda_graphs",
        "sampler.max_sequences",
        "threads",
        "deterministic",
    }
)
"""Options that change a run by rounding alone: how much is computed at once, and in which order sums are made."""
HOUSEKEEPING = frozenset({"checkpoint_every", "keep_checkpoints", "stop_grace_s"})
"""Options that change nothing of what a run ends with."""
HARMLESS = OF_ROUNDING | HOUSEKEEPING | {"steps", "save_policy_every", "max_skipped_steps", "save_merged"}
"""Options that may change when a run is resumed. More steps stretch the learning rate's decay from there on."""
ONCE = frozenset({"resume", "resume_fall_back", "accept_changed", "study"})
"""Options of a command line, and not of the run."""


def identity(config: DictConfig) -> dict[str, Any]:
    """What decides a run's outcome on a machine: hash of the options, digests of the package and of the named files."""
    return {
        "config_hash": _hash_without(config, HOUSEKEEPING | ONCE),
        "resume_hash": resume_hash(config),
        "package": package_digest(),
        "inputs": input_digests(without_hydra(config)),
    }


def changed_inputs(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of what two identities differ in beside the options: files, and ``grouprl`` for the package."""
    old, new = (entry.get("inputs") or {} for entry in (before, now))
    package = ["grouprl"] if before.get("package") != now.get("package") else []
    return package + [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def resume_hash(config: DictConfig) -> str:
    """Hash of what must not change when a run is resumed, the same wherever its files lie."""
    return _hash_without(config, HARMLESS | ONCE)


def _hash_without(config: DictConfig, keys: Set[str]) -> str:
    content = _without(portable(without_hydra(config)), keys)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _without(content: dict[str, Any], keys: Set[str], prefix: str = "") -> dict[str, Any]:
    """A configuration without some options, which are named by their path: ``policy.gradient_checkpointing``."""
    kept = {str(key): value for key, value in content.items() if f"{prefix}{key}" not in keys}
    return {k: _without(v, keys, f"{prefix}{k}.") if isinstance(v, dict) else v for k, v in kept.items()}


def portable(config: DictConfig) -> dict[str, Any]:
    """A resolved configuration without absolute paths, which name machines and people."""
    return portable_value(OmegaConf.to_container(config, resolve=True))
