"""A configuration that was saved with a run: data, in which nothing is resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grouprl.cli.config.compose import shipped_targets
from grouprl.data.checks import place
from grouprl.files import FileError, Row, read_yaml
from grouprl.training.records import CONFIG_FILE, RESULT_FILE

REMEDY = "Put back what was written there, or start anew"
_OF_HYDRA = ("_partial_", "_args_", "_recursive_", "_convert_")
"""Keys that say how Hydra makes an object of a ``_target_``."""
_OF_TORCH = re.compile(r"torch\.optim\.[A-Z]\w*")
"""What a saved configuration may name unasked, beside what ships."""


def read_config(run: Path) -> DictConfig | None:
    """The configuration in a run folder; see `read_values`."""
    values = read_values(run)
    return None if values is None else OmegaConf.create(values)


def run_of(policy: str) -> Path:
    """The folder of the run that saved a policy (RUN/policy, RUN/policies/iteration-00002); else the policy's own."""
    folder = place(policy)
    saved_by = folder.parent.parent if folder.parent.name == "policies" else folder.parent
    is_saved = folder.parent.name == "policies" or folder.name in ("policy", "policy_merged")
    return saved_by if is_saved and (saved_by / RESULT_FILE).is_file() else folder


def read_values(run: Path) -> Row | None:
    """The values of the configuration in a run folder, or None where there is none.

    Raises:
        FileError: The file holds something else, or an interpolation: what that would become could not be checked.
    """
    file = run / CONFIG_FILE
    values = read_yaml(file, remedy=REMEDY)
    if values == {}:
        raise FileError(f"{file}: it is empty. {REMEDY}.")
    for key in other_keys(values):
        raise FileError(f"{file}: {key} is no text, as every key is. {REMEDY}.")
    for key, _ in interpolations(values):
        raise FileError(
            f"{file}: {key} holds an interpolation (${{...}}), which no saved configuration does. {REMEDY}."
        )
    return values


def other_keys(node: Any) -> Iterator[Any]:
    """Keys that are no texts."""
    for name, value in node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ():
        if isinstance(node, Mapping) and not isinstance(name, str):
            yield name
        yield from other_keys(value)


def interpolations(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Places and texts of what OmegaConf would resolve, in values and in keys, also where it is escaped once more."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            place = f"{key}.{name}" if key else str(name)
            if "${" in str(name):
                yield place, str(name)
            yield from interpolations(value, place)
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from interpolations(value, f"{key}.{number}")
    elif isinstance(node, str) and "${" in node:
        yield key, node


def foreign(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Places and values by which a configuration names code that does not ship, or runs it otherwise than it ships.

    A model's own code, and attention kernels from the hub, are such code, too.
    """
    entries = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in entries:
        place = f"{key}.{name}" if key else str(name)
        if name == "_target_":
            is_known = isinstance(value, str) and (value in shipped_targets() or _OF_TORCH.fullmatch(value) is not None)
        elif name in _OF_HYDRA:
            is_known = (place, value) == ("optimizer._partial_", True)
        else:
            is_known = not (name == "trust_remote_code" and value) and not (name == "attention" and "/" in str(value))
            yield from foreign(value, place)
        if not is_known:
            yield place, value
