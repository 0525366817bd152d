"""What a run leaves: ``result.json``, without paths that name machines or people, metrics, and held-out completions."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grouprl.files import FileError, Shape, check_shape, open_regular, read_json, read_jsonl, write_json, write_text

if TYPE_CHECKING:
    from grouprl.statistics.proportions import Estimate

RESULT_FILE, CONFIG_FILE = "result.json", "config.yaml"
ENDED = ("finished", "failed")
"""States of a run that will not change by itself."""
SUPERSEDED = "superseded"
"""Folder of runs that stood in the way of others."""
LOCK_FILE = ".lock"
"""Held by the process that works in a run folder, as long as it lives."""
_PACKAGES = ("grouprl", "torch", "lightning", "transformers", "peft", "hydra-core", "datasets")
STATES = ("running", "finished", "failed", "interrupted", "not run")
_SHAPE: Shape = {
    **{"run": str, "state": str, "error?": str, "seed?": int, "iterations?": int, "seconds?": (int, float)},
    **{"overrides?": list, "choices?": dict, "identity?": dict, "versions?": dict, "machine?": dict, "loaded?": dict},
    **{"digests?": dict, "metrics?": dict, "contamination?": (dict, type(None)), "commit?": (str, type(None))},
}
_REMEDY = "Put back what was written there; without it the folder is no run: move it away to start anew"
METRICS_FILE = "metrics.jsonl"
HELDOUT_FOLDER = "heldout"
POLICY_FOLDER = "policy"
"""What a run ended with, as a Hugging Face folder."""
_HELDOUT = re.compile(r"iteration-(\d+)\.parquet")
_REMEDY_OF_ROWS = "Remove that line, or put back the file"
_NAMES = re.compile(r"[\w./~@%,=-]+")
"""What a path is made of that need not be there to be known as one."""
_PATH_IN_A_VALUE = re.compile(r"""(?<![^\[{(,:'"])[~/][^'",\]})]*""")
"""As Hydra's grammar writes it: alone, in quotes, or in a list or mapping."""
WITHHELD = "<outside the working folder>/"
"""Stands before the name of a file whose path is not written down."""


def portable_text(text: str) -> str:
    """A path as seen from the working folder; outside of it, its last part alone. Other text as it is.

    A text that starts like a path is one if it is there, or its folder is, or if it has two parts or more of what names
    are made of: ``/no_think`` and ``/a+/b/`` are none.
    """
    path = Path(os.path.expanduser(text)) if text.startswith("~/") else Path(text)
    if not path.is_absolute() or not _is_place(path):
        return text
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else f"{WITHHELD}{path.name}"


def _is_place(path: Path) -> bool:
    if len(path.parents) > 1 and _NAMES.fullmatch(str(path)):
        return True
    try:
        return path.name != "" and (path.exists() or (len(path.parents) > 1 and path.parent.is_dir()))
    except (OSError, ValueError):  # too long, or with a null byte
        return False


def portable_value(value: Any) -> Any:
    """A value without absolute paths, which name machines and people, in whatever it holds."""
    if isinstance(value, Mapping):
        return {key: portable_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable_value(item) for item in value]
    return portable_text(value) if isinstance(value, str) else value


def portable_message(text: str) -> str:
    """An error message without the folders of absolute paths in it."""
    text = text.replace(f"{Path.cwd()}/", "")
    return re.sub(r"(?<![\w.:/])/(?:[^\s/'\":]+/)+", WITHHELD, text)


def portable_override(override: str) -> str:
    """An override with its value made portable."""
    key, sign, value = override.partition("=")
    return f"{key}{sign}{re.sub(_PATH_IN_A_VALUE, lambda found: portable_text(found.group()), value)}"


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
    write_json(folder / RESULT_FILE, result)


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result in a run folder, or None where there is none.

    A run whose process has ended without a word, killed or out of power, is one that was interrupted.

    Raises:
        FileError: The file holds something else.
    """
    file = folder / RESULT_FILE
    result = read_json(file, _SHAPE, remedy=_REMEDY)
    if result is None:
        return None
    if result["state"] not in STATES:
        raise FileError(f"{file}: its state is {result['state']!r}, not one of {', '.join(STATES)}. {_REMEDY}.")
    _check_entries(result, file)
    if result["state"] == "running" and not is_in_use(folder):
        return result | {"state": "interrupted"}
    return result


def _check_entries(result: Mapping[str, Any], file: Path) -> None:
    metrics, overlaps = result.get("metrics", {}), result.get("contamination") or {}
    overrides = result.get("overrides", [])
    shapes: list[tuple[str, Any, Shape]] = [
        ("metrics", metrics, dict.fromkeys(metrics, (int, float))),
        (
            "identity",
            result.get("identity", {}),
            {"config_hash?": str, "resume_hash?": str, "package?": str, "inputs?": dict},
        ),
        ("machine", result.get("machine", {}), {"threads?": int}),
        ("overrides", {str(n): text for n, text in enumerate(overrides)}, {str(n): str for n in range(len(overrides))}),
        *(
            (f"contamination, {n}", report, {"test_overlapping": int, "indices": list})
            for n, report in overlaps.items()
        ),
    ]
    for name, value, shape in shapes:
        check_shape(value, shape, f"{file}, {name}", remedy=_REMEDY)


def settle(folder: Path, *, wait_s: float = 0.0) -> None:
    """Write down that a run was interrupted whose process is gone; one that is going gets ``wait_s`` for it."""
    deadline = time.monotonic() + wait_s
    while is_in_use(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    result = read_result(folder)
    if result is not None and result["state"] == "interrupted":
        write_result(folder, result)


def is_in_use(folder: Path) -> bool:
    """Whether a process is working in a run folder."""
    try:
        with open_regular(folder / LOCK_FILE) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested options under their dotted names."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def heldout_file(iteration: int) -> str:
    """Name of the file with the evaluation after an iteration."""
    return f"iteration-{iteration:05d}.parquet"


def evaluations_in(run: Path) -> dict[int, Path]:
    """Files of a run's evaluations by iteration, in their order."""
    found = {m.group(1): m.string for f in (run / HELDOUT_FOLDER).glob("*") if (m := _HELDOUT.fullmatch(f.name))}
    return {int(number): run / HELDOUT_FOLDER / found[number] for number in sorted(found, key=int)}


def keep_evaluations(run: Path, iterations: int) -> None:
    """Remove the evaluations after later iterations (-1: all), as `keep_metrics` does with their rows."""
    for iteration, file in evaluations_in(run).items():
        if iteration > iterations:
            file.unlink()


def keep_metrics(path: Path, iterations: int) -> None:
    """Cut a metric file back to its first iterations (0: to the evaluation before training; -1: to nothing)."""
    rows = _rows(path) if iterations >= 0 and path.exists() else ()
    kept = [row for row in rows if row["iteration"] <= iterations]
    write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of a run's metric file; estimates come back as `Estimate`.

    Raises:
        FileError: A line is no row. A last one that was cut off in the middle is left out.
    """
    for number, row in enumerate(_rows(folder / METRICS_FILE), start=1):
        try:
            yield {name: _estimate(value) if isinstance(value, list) else value for name, value in row.items()}
        except (TypeError, ValueError, IndexError) as error:
            where = f"{folder / METRICS_FILE}, row {number}"
            raise FileError(
                f"{where}: an estimate has value, low, high and count ({error}). {_REMEDY_OF_ROWS}."
            ) from error


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    faults: list[str] = []
    for number, row in read_jsonl(path, lambda number, reason: faults.append(f"{path}, line {number}: {reason}")):
        if faults:  # not the last line
            break
        yield check_shape(row, {"iteration": int}, f"{path}, line {number}", remedy=_REMEDY_OF_ROWS)
    else:
        if not faults or (len(faults) == 1 and _is_cut(path)):
            return
    raise FileError(f"{faults[0]}. {_REMEDY_OF_ROWS}.")


def _is_cut(path: Path) -> bool:
    """Whether a file ends in the middle of a line, as a kill leaves it."""
    return not path.read_bytes().endswith(b"\n")


def _estimate(values: list[Any]) -> Estimate:
    from grouprl.statistics.proportions import Estimate

    value, low, high = (math.nan if number is None else float(number) for number in values[:3])
    return Estimate(value, low, high, int(values[3]))
