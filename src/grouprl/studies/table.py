"""The runs of a sweep as a table: for people, and as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from grouprl.files import FileError, write_named
from grouprl.studies.plan import read_plan
from grouprl.training.records import SUPERSEDED, read_result

METRICS = {
    "pass@1 before": "heldout/pass@1/before",
    "pass@1 after": "heldout/pass@1/after",
    "greedy before": "heldout/greedy/before",
    "greedy after": "heldout/greedy/after",
    "clip high %": "ppo/clip_fraction/high",
}
_COLUMNS = ("run", "state", "overrides", "seed", "commit", "versions", "seconds")


def table_of(results: Iterable[dict[str, Any]]) -> str:
    """A Markdown table, one row a run, with 95% intervals."""
    header = ["run", "state", *METRICS, "minutes"]
    rows = [[_code(r["run"]), r["state"], *(_cell(r, key) for key in METRICS.values()), _minutes(r)] for r in results]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def rows_of(results: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Flat rows for a CSV file: overrides, seed, commit, versions and every metric."""
    rows = []
    for result in results:
        packages = " ".join(f"{name}={number}" for name, number in result.get("versions", {}).items())
        row = {
            "run": result["run"],
            "state": result["state"],
            "overrides": " ".join(result.get("overrides", [])),
            "seed": str(result.get("seed", "")),
            "commit": str(result.get("commit", "")),
            "versions": packages,
            "seconds": f"{result.get('seconds', 0):.1f}",
        }
        rows.append(row | {name: f"{value:.6g}" for name, value in result.get("metrics", {}).items()})
    return rows


def write_csv(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Write one row a run."""
    rows = rows_of(results)
    names = [*_COLUMNS, *dict.fromkeys(name for row in rows for name in row if name not in _COLUMNS)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_named(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Results as `table_of` takes them, from a CSV file.

    Raises:
        FileError: The file holds something else.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_result(row) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise FileError(
            f"{path}: not a table of runs ({type(error).__name__}: {error}). Write it anew: "
            "python -m grouprl.cli.study FOLDER --csv FILE"
        ) from error


def _result(row: dict[str, str]) -> dict[str, Any]:
    metrics = {name: float(value) for name, value in row.items() if name not in _COLUMNS and value}
    return {"run": row["run"], "state": row["state"], "seconds": float(row["seconds"]), "metrics": metrics}


def run_folders(folder: Path) -> list[Path]:
    """The run folders in a sweep's folder, also where they lie deeper; not those put aside."""
    found = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != SUPERSEDED):
        if read_result(inner) is not None:
            found.append(inner)
        elif not inner.is_symlink():
            found += run_folders(inner)
    return found


def collect(folder: Path) -> list[dict[str, Any]]:
    """Results of the runs in a sweep's folder."""
    return [result for run in run_folders(folder) if (result := read_result(run)) is not None]


def progress(folder: Path, at_once: int = 1) -> str:
    """How far a study has come, in a line; empty where its folder holds no plan.

    Args:
        folder: The study's.
        at_once: How many of its runs are done at a time.
    """
    plan = read_plan(folder)
    if plan is None:
        return ""
    done = [result for result in collect(folder) if result["state"] == "finished"]
    seconds = [result["seconds"] for result in done if result.get("seconds")]
    left = max(0, plan.runs - len(done))
    said = f"study: {len(done)} of {plan.runs} runs done"
    if not left or not seconds:
        return said
    minutes = left * sum(seconds) / len(seconds) / 60 / at_once
    about = f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"
    return f"{said}, {about} left{' at most' if plan.looks else ''}"


def _cell(result: dict[str, Any], key: str) -> str:
    metrics = result.get("metrics", {})
    names = (key,) if key.startswith("ppo/") else (key, f"{key}/low", f"{key}/high")
    if not all(name in metrics for name in names):
        return "-"
    value, *interval = (100 * metrics[name] for name in names)
    return f"{value:.1f} [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else f"{value:.2f}"


def _code(text: str) -> str:
    return f"`{text}`"


def _minutes(result: dict[str, Any]) -> str:
    return f"{result['seconds'] / 60:.1f}" if result.get("seconds") else "-"
