"""Comparisons: ``python compare.py RUN...`` of arms over seeds, ``python compare.py A B`` of two evaluations.

Runs are folders that ``train.py`` wrote, or a sweep's folder; evaluations are folders that ``evaluate.py`` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grouprl.files import FileError, finite, write_named
from grouprl.studies import seeds
from grouprl.studies.comparison import ComparisonError, compare, describe, results_in
from grouprl.studies.outcomes import METRICS, OutcomeError, arms_of, read_outcome
from grouprl.training.records import RESULT_FILE


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``compare.py``."""
    parser = argparse.ArgumentParser(
        prog="compare.py",
        description="Compare arms over paired seeds (run folders, or a sweep's folder), or two evaluations.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs, sweeps, or two evaluations")
    parser.add_argument("--metric", choices=METRICS, default="final", help="primary metric of runs (%(default)s)")
    parser.add_argument("--margin", type=float, default=1.0, help="points that do not matter (%(default)s)")
    parser.add_argument("--baseline", help="arm that the others are compared with; without it all pairs")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    try:
        text, numbers = _runs(options) if _run_folders(options.folders) else _evaluations(options.folders)
        print(text)
        if options.json:
            write_named(options.json, json.dumps(finite(numbers), indent=2) + "\n")
    except (ComparisonError, OutcomeError, FileError, OSError, ValueError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _run_folders(folders: Sequence[Path]) -> list[Path]:
    """The run folders among some folders, and in them."""
    found = []
    for folder in folders:
        runs = (
            [folder]
            if (folder / RESULT_FILE).is_file()
            else sorted(file.parent for file in folder.glob(f"*/{RESULT_FILE}"))
        )
        found += runs
    return found


def _runs(options: argparse.Namespace) -> tuple[str, Any]:
    arms = arms_of([read_outcome(folder) for folder in _run_folders(options.folders)])
    found = seeds.compare_arms(arms, metric=options.metric, margin=options.margin / 100, baseline=options.baseline)
    return seeds.describe(found), found.as_json()


def _evaluations(folders: Sequence[Path]) -> tuple[str, Any]:
    if len(folders) != 2:
        raise ComparisonError(
            f"{len(folders)} folders, and no runs among them: give runs, a sweep, or two evaluations."
        )
    comparisons = compare(*folders)
    names = [str(results_in(folder).get("policy", folder.name)) for folder in folders]
    rows = [
        {
            **{"key": c.key, "a": c.first, "b": c.second, **c.difference.__dict__},
            "mcnemar_p": c.test.p_value if c.test else None,
        }
        for c in comparisons
    ]
    return describe(comparisons, names), rows


if __name__ == "__main__":
    main()
