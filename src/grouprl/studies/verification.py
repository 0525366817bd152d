"""Whether a run is what its files say: digests of what it ended with, and what differs when it is run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grouprl.files import finite, read_parquet
from grouprl.training.callbacks import evaluations_in, read_metrics

CHANGING = ("time/", "memory/", "tokens_per_s", "limits/")
"""Metrics that depend on the clock and on what else the machine does."""
_MACHINE = ("processor", "instructions", "gpu", "threads", "precision", "deterministic", "torch")
_DIGITS = 16


def digests_of(run: Path) -> dict[str, str]:
    """Digests of the weights, of the metrics but for times and memory, and of every held-out completion of a run."""
    weights = hashlib.sha256()
    for file in sorted((run / "policy").glob("*.safetensors")):
        weights.update(file.name.encode() + b"\0" + file.read_bytes())
    metrics = [{k: v for k, v in row.items() if not k.startswith(CHANGING)} for row in read_metrics(run)]
    heldout = {iteration: read_parquet(file) for iteration, file in evaluations_in(run).items()}
    return {
        "weights": weights.hexdigest()[:_DIGITS],
        "metrics": digest(metrics),
        "heldout": digest(heldout),
    }


def digest(content: Any) -> str:
    """Of what can be written as JSON."""
    return hashlib.sha256(json.dumps(finite(content), sort_keys=True).encode()).hexdigest()[:_DIGITS]


def edited(run: Path, result: Mapping[str, Any]) -> list[str]:
    """Which of a finished run's files are not those that it wrote; names of `digests_of`.

    Args:
        run: Its folder.
        result: Its ``result.json``.
    """
    written, now = result.get("digests", {}), digests_of(run)
    return [name for name in now if written.get(name) != now[name]]


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """What of two runs' recorded conditions is not the same, each with both values."""
    for place, name in (
        ("identity", "package"),
        *(("machine", key) for key in _MACHINE),
        *(("versions", key) for key in sorted({**first.get("versions", {}), **second.get("versions", {})})),
    ):
        old, new = first.get(place, {}).get(name), second.get(place, {}).get(name)
        if old != new:
            yield f"{name} was {old}, and is {new}"
