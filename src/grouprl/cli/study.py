"""Tables over the runs of a sweep: ``python -m grouprl.cli.study runs/sweep [--csv results.csv]``."""

from __future__ import annotations

import shlex
from pathlib import Path

from grouprl.checks import CommandParser
from grouprl.files import FileError
from grouprl.studies.exchange.published import publish
from grouprl.studies.plan import OutcomeError, read_plan
from grouprl.studies.table import collect, read_csv, table_of, write_csv
from grouprl.studies.verdict import judge
from grouprl.training.records import RESULT_FILE


def main() -> None:
    """Print the table of a sweep folder or a CSV file."""
    parser = CommandParser(description="Table of the runs of a sweep.")
    parser.add_argument("source", type=Path, help="folder of run folders, or a results.csv")
    parser.add_argument("--csv", type=Path, help="also write the rows to this file")
    parser.add_argument(
        "--publish", type=Path, metavar="FOLDER", help="write plan, rows and held-out completions there, and no runs"
    )
    arguments = parser.parse_args()
    try:
        results = read_csv(arguments.source) if arguments.source.is_file() else collect(arguments.source)
    except (FileError, OSError) as error:
        parser.error(str(error))
    if not results:
        parser.error(f"{arguments.source}: no {RESULT_FILE} in its folders")
    print(table_of(results))
    if arguments.csv:
        write_csv(results, arguments.csv)
    if arguments.publish:
        try:
            if (plan := read_plan(arguments.source)) is not None:
                judge(plan, arguments.source)  # what has no verdict here has none there
            publish(arguments.source, arguments.publish)
            print(f"\nwritten: {arguments.publish}. Again: python compare.py {shlex.quote(str(arguments.publish))}")
        except (FileError, OSError, OutcomeError) as error:
            parser.error(str(error))


if __name__ == "__main__":
    main()
