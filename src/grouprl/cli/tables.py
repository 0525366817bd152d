"""The recipe's two tables, with sources: ``python -m grouprl.cli.tables [EVALUATION ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grouprl.checks import CommandParser
from grouprl.evaluation.benchmarks import load_benchmark
from grouprl.evaluation.comparison import ComparisonError, results_in
from grouprl.evaluation.published import FEW_SHOT, TOOL_TABLE, recipe_tables
from grouprl.files import FileError


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables; folders that ``evaluate.py`` wrote add their rows."""
    parser = CommandParser(description="The recipe's tables: claimed, published and measured.")
    parser.add_argument("evaluations", nargs="*", type=Path, help="folders that evaluate.py wrote")
    options = parser.parse_args(arguments)
    measured: dict[str, dict[tuple[str, str], Any]] = {}
    for folder in options.evaluations:
        try:
            results = results_in(folder)
        except (ComparisonError, FileError) as error:
            print(f"tables: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        rows = measured.setdefault(str(results["policy"]), {})
        for key, summary in results["measured"].items():
            name, _, mode = key.partition("/")
            rows[name, mode] = summary
    titles = {name: load_benchmark(name).title for name in {*FEW_SHOT, *TOOL_TABLE}}
    print(recipe_tables(measured, titles))


if __name__ == "__main__":
    main()
