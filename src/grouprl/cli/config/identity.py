"""What makes two configurations the same run: hashes, files of the user's, and options that may differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grouprl import __version__
from grouprl.cli.config.compose import without_hydra
from grouprl.training.records import portable_text, read_result, source_commit

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
_RESUMING = ("resume", "resume_fall_back", "study")
_HASHED_WHOLE = 64 * 2**20
"""Bytes of a file that is hashed as a whole; of a larger one, size and time."""


def identity(config: DictConfig) -> dict[str, Any]:
    """What decides a run's outcome: configuration hash, package version and commit."""
    content = OmegaConf.to_yaml(without_hydra(config), resolve=True, sort_keys=True)
    return {
        "config_hash": hashlib.sha256(content.encode()).hexdigest()[:16],
        "version": __version__,
        "commit": source_commit(),
        "files": own_files_digest(config),
    }


def is_finished(folder: Path, config: DictConfig) -> bool:
    """Whether the folder holds a finished run of this very configuration, version and commit."""
    result = read_result(folder)
    return result is not None and result["state"] == "finished" and result["identity"] == identity(config)


def own_files_digest(config: DictConfig) -> str | None:
    """Digest of the files that the configuration names: the user's code, data files, and local model folders."""
    digest, found = hashlib.sha256(), False
    for path in sorted(_named_files(without_hydra(config))):
        found = True
        digest.update(path.name.encode())
        if path.stat().st_size < _HASHED_WHOLE:
            digest.update(path.read_bytes())
        else:
            digest.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16] if found else None


def _named_files(node: Any) -> Iterator[Path]:
    for key, value in node.items() if isinstance(node, DictConfig) else ():
        if isinstance(value, DictConfig):
            yield from _named_files(value)
        elif isinstance(value, str) and value:
            own_code = f"{value.rpartition('.')[0].replace('.', '/')}.py" if key == "_target_" else value
            path = Path(own_code.partition(".py:")[0] + ".py" if ".py:" in own_code else own_code).expanduser()
            if path.is_file():
                yield path
            elif path.is_dir() and key in ("path", "name"):
                yield from (file for file in path.iterdir() if file.is_file())


def resume_hash(config: DictConfig) -> str:
    """Hash of what must not change when a run is resumed, the same wherever its files lie."""
    content = _without(portable(without_hydra(config)), {*HARMLESS, *_RESUMING})
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
