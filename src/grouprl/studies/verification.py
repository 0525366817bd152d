"""Whether a run is what its files say: digests of what it ended with, and what differs when it is run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grouprl.files import finite, read_parquet
from grouprl.training.records import CONFIG_FILE, POLICY_FOLDER, evaluations_in, read_metrics

CHANGING = ("time/", "memory/", "tokens_per_s", "limits/")
"""Metrics that depend on the clock and on what else the machine does."""
_MACHINE = ("processor", "instructions", "gpu", "threads", "precision", "deterministic", "torch")
_SEALED = ("state", "seed", "overrides", "identity", "machine", "versions", "loaded")
"""Of ``result.json``, what a verdict rests on."""
_RESULT, _NUMBERS = "options or conditions", "summary of metrics"
"""What digests of ``result.json`` are called; runs of earlier versions have not all of them."""
_DIGITS = 16


def digests_of(run: Path, *, weights: bool = True) -> dict[str, str]:
    """Digests of the weights, of the metrics but for times and memory, and of every held-out completion of a run.

    Args:
        run: Its folder.
        weights: Whether the weights, which may be large, are read.
    """
    metrics = [{k: v for k, v in row.items() if not k.startswith(CHANGING)} for row in read_metrics(run)]
    heldout = {iteration: read_parquet(file) for iteration, file in evaluations_in(run).items()}
    found = {"weights": _digest_of_weights(run)} if weights else {}
    return found | {"metrics": digest(metrics), "heldout": digest(heldout)}


def _digest_of_weights(run: Path) -> str:
    found = hashlib.sha256()
    for file in sorted((run / POLICY_FOLDER).glob("*.safetensors")):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:_DIGITS]


def sealed(run: Path, result: Mapping[str, Any], *, weights: bool = True) -> dict[str, str]:
    """`digests_of` a run that ended, and one of what its ``result.json`` and ``config.yaml`` say of how it was made."""
    config = run / CONFIG_FILE
    said = {name: result.get(name) for name in _SEALED} | {"config": config.read_text() if config.is_file() else ""}
    return {**digests_of(run, weights=weights), _RESULT: digest(said), _NUMBERS: digest(result.get("metrics"))}


def digest(content: Any) -> str:
    """Of what can be written as JSON."""
    return hashlib.sha256(json.dumps(finite(content), sort_keys=True).encode()).hexdigest()[:_DIGITS]


def edited(run: Path, result: Mapping[str, Any], *, weights: bool = True) -> list[str]:
    """What of a run that ended is not as it was written; names of `sealed`.

    Args:
        run: Its folder.
        result: Its ``result.json``.
        weights: Whether the weights, which may be large, are looked at.
    """
    written = result.get("digests", {})
    if not written:
        return ["digests"] if evaluations_in(run) else []  # it failed before it wrote anything
    now = sealed(run, result, weights=weights)
    later = (_RESULT, _NUMBERS)
    return [name for name in now if written.get(name) != now[name] and (name in written or name not in later)]


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """What of two runs' recorded conditions is not the same, each with both values."""
    for place, name in (
        *(("identity", key) for key in ("package", "inputs", "config_hash")),
        *(("machine", key) for key in _MACHINE),
        *(("versions", key) for key in sorted({**first.get("versions", {}), **second.get("versions", {})})),
    ):
        old, new = first.get(place, {}).get(name), second.get(place, {}).get(name)
        if old != new:
            yield f"{name} was {old}, and is {new}"
