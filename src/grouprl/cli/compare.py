"""Paired comparison of two evaluations: ``python compare.py A B``, folders that ``evaluate.py`` wrote."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grouprl.files import FileError, write_named
from grouprl.studies.comparison import ComparisonError, compare, describe, results_in


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``compare.py``."""
    parser = argparse.ArgumentParser(prog="compare.py", description="Compare two evaluations question by question.")
    parser.add_argument("a", type=Path, help="folder that evaluate.py wrote")
    parser.add_argument("b", type=Path, help="another one")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    try:
        comparisons = compare(options.a, options.b)
    except (ComparisonError, FileError, OSError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    names = [str(results_in(folder).get("policy", folder.name)) for folder in (options.a, options.b)]
    print(describe(comparisons, names))
    if options.json:
        rows = [
            {"key": c.key, "a": c.first, "b": c.second, **c.difference.__dict__, "p": c.p_value} for c in comparisons
        ]
        write_named(options.json, json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
