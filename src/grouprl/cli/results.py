"""``result.json``: what a run was, what it measured, and whether it needs to be run again."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Set
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grouprl import __version__
from grouprl.cli.config import without_hydra

RESULT_FILE = "result.json"
_RESUMING = ("resume", "resume_fall_back", "study")
_PACKAGES = ("grouprl", "torch", "lightning", "transformers", "peft", "hydra-core", "datasets")


def identity(config: DictConfig) -> dict[str, Any]:
    """What decides a run's outcome: configuration hash, package version and commit."""
    content = OmegaConf.to_yaml(without_hydra(config), resolve=True, sort_keys=True)
    return {
        "config_hash": hashlib.sha256(content.encode()).hexdigest()[:16],
        "version": __version__,
        "commit": source_commit(),
        "files": own_files_digest(config),
    }


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


OF_MEMORY = frozenset(
    {
        "micro_batch_size",
        "micro_batch_tokens",
        "on_out_of_memory",
        "policy.gradient_checkpointing",
        "policy.cuda_graphs",
        "sampler.max_sequences",
    }
)
"""Options that decide how much is computed at once, and change a run by rounding alone: the remedies of a run that ran
out of memory."""
HARMLESS = OF_MEMORY | {
    *("steps", "save_every", "keep_checkpoints", "save_policy_every", "stop_grace_s", "max_skipped_steps"),
    "save_merged",
}
"""Options that may change when a run is resumed. More steps stretch the learning rate's decay from there on."""
_HASHED_WHOLE = 64 * 2**20
WITHHELD = "<outside the working folder>/"
"""Stands before the name of a file whose path is not written down."""


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


def portable_text(text: str) -> str:
    """A path as seen from the working folder; outside of it, its last part alone. Other text as it is."""
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    if path.is_absolute():
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else f"{WITHHELD}{path.name}"
    return text


def portable_message(text: str) -> str:
    """An error message without the folders of absolute paths in it."""
    text = text.replace(f"{Path.cwd()}/", "")
    return re.sub(r"(?<![\w.:/])/(?:[^\s/'\":]+/)+", WITHHELD, text)


def portable_override(override: str) -> str:
    """An override with its value made portable."""
    key, sign, value = override.partition("=")
    return f"{key}{sign}{portable_text(value)}"


def shown(path: Path) -> Path:
    """A path as short as a user in this folder would write it."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path


def source_commit() -> str | None:
    """Commit of the source tree the package is imported from, with a digest of uncommitted changes, if any."""
    folder = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if not git("ls-files", "grouprl/__init__.py"):
            return None  # installed inside somebody else's repository
        commit, changes = git("rev-parse", "HEAD"), git("diff", "HEAD", "--", ".", ":/conf", ":/experiments")
        for file in git("ls-files", "--others", "--exclude-standard", "--", "grouprl").splitlines():
            changes += f"{file} {hashlib.sha256((folder / file).read_bytes()).hexdigest()}\n"
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else commit


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ``result.json`` in one step: a reader sees the old file or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RESULT_FILE, json.dumps(result, indent=2, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a file in one step: a reader, or a full disk, leaves the old one or the new one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result in a run folder, or None where there is none that can be read."""
    try:
        return json.loads((folder / RESULT_FILE).read_text())
    except (OSError, ValueError):
        return None


def is_finished(folder: Path, config: DictConfig) -> bool:
    """Whether the folder holds a finished run of this very configuration, version and commit."""
    result = read_result(folder)
    return result is not None and result["state"] == "finished" and result["identity"] == identity(config)
