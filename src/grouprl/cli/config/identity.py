"""What makes two configurations the same run: hashes, digests of what they name, and options that may differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.inputs import input_digests, package_digest
from grouprl.training.records import portable_text

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
HARMLESS = OF_ROUNDING | {
    *("steps", "checkpoint_every", "keep_checkpoints", "save_policy_every", "stop_grace_s", "max_skipped_steps"),
    "save_merged",
}
"""Options that may change when a run is resumed. More steps stretch the learning rate's decay from there on."""
ONCE = frozenset({"resume", "resume_fall_back", "accept_changed", "study"})
"""Options of a command line, and not of the run."""


def identity(config: DictConfig) -> dict[str, Any]:
    """What decides a run's outcome on a machine: hash of the options, digests of the package and of the named files."""
    content = OmegaConf.to_yaml(without_hydra(config), resolve=True, sort_keys=True)
    return {
        "config_hash": hashlib.sha256(content.encode()).hexdigest()[:16],
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
    content = _without(portable(without_hydra(config)), HARMLESS | ONCE)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _without(content: dict[str, Any], keys: Set[str], prefix: str = "") -> dict[str, Any]:
    """A configuration without some options, which are named by their path: ``policy.gradient_checkpointing``."""
    kept = {str(key): value for key, value in content.items() if f"{prefix}{key}" not in keys}
    return {k: _without(v, keys, f"{prefix}{k}.") if isinstance(v, dict) else v for k, v in kept.items()}


def portable(config: DictConfig) -> dict[str, Any]:
    """A resolved configuration without absolute paths, which name machines and people."""
    return _portable(OmegaConf.to_container(config, resolve=True))


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    return portable_text(value) if isinstance(value, str) else value
