"""Grade what is stored anew, without sampling: after the grader changed, or with another reading of the answers.

    python -m grouprl.evaluation.regrade EVALUATION [EVALUATION ...]

An evaluation's samples, blocks and results are written again, with the accuracy before beside the accuracy now. What a
run measured while it trained stays: its results are sealed, and most of its samples are kept without their texts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grouprl.answers.grading import GRADER_VERSION
from grouprl.checks import CommandParser
from grouprl.evaluation.benchmarks import all_benchmarks, load_benchmark
from grouprl.evaluation.kept import graded_anew
from grouprl.evaluation.results import markdown, read_results, summarize, verdict_of, write_results
from grouprl.evaluation.rows import Grading, grade_rows
from grouprl.files import FileError, read_parquet, write_parquet, write_text

BEFORE = "graded_before"
"""Entry of a summary: versions of the grader before this one, with what they gave."""


def regrade(folder: Path) -> list[str]:
    """Grade the samples of an evaluation anew and write them, blocks and results.

    Args:
        folder: What ``evaluate.py`` wrote.

    Returns:
        A line for each benchmark and mode.

    Raises:
        FileError: No evaluation is there, or a file of it is damaged.
    """
    results = read_results(folder)
    if results is None:
        raise FileError(f"{folder}: no evaluation is here (results.json). Give a folder that evaluate.py wrote.")
    lines = []
    for key, summary in results["measured"].items():
        name, _, mode = key.partition("/")
        file = folder / f"{key.replace('/', '-')}.parquet"
        rows = read_parquet(file, ("index", "sample", "completion", "gold", "status", "correct"))
        grading = Grading.of(load_benchmark(name), summary["settings"]["extraction"])
        now = grade_rows(rows, grading)
        changed = sum(old["correct"] != new["correct"] for old, new in zip(rows, now, strict=True))
        hit = _trained_on(summary, name)
        before = [*summary.get(BEFORE, ()), {"grader": summary["settings"]["grader"], "accuracy": summary["accuracy"]}]
        results["measured"][key] = {
            **summary,
            **summarize(now),
            "settings": {**summary["settings"], "grader": GRADER_VERSION},
            "contamination": verdict_of(now, hit, name),
            BEFORE: before,
        }
        write_parquet(file, now)
        graded_anew(folder / "samples" / name / mode, now, GRADER_VERSION)
        old, new = (100 * part["accuracy"]["value"] for part in (summary, results["measured"][key]))
        lines.append(f"{key}: {changed} of {len(rows)} verdicts changed, {old:.1f} -> {new:.1f}")
    write_results(folder, results)
    titles = {name: benchmark.title for name, benchmark in all_benchmarks().items()}
    write_text(folder / "results.md", markdown(results["measured"], titles) + "\n")
    return lines


def _trained_on(summary: Mapping[str, Any], benchmark: str) -> dict[str, list[int]] | None:
    """Problems of a benchmark that were trained on, as its summary says it; None: not checked."""
    said = summary["contamination"]
    return None if said["verdict"] == "not checked" else {benchmark: list(said.get("indices", ()))}


def main() -> None:
    """Entry point of ``python -m grouprl.evaluation.regrade``."""
    parser = CommandParser(prog="grouprl.evaluation.regrade", description="Grade stored samples anew.")
    parser.add_argument("folder", nargs="+", type=Path, help="what evaluate.py wrote")
    for folder in parser.parse_args().folder:
        try:
            lines = regrade(folder)
        except (FileError, ValueError) as error:
            print(error, file=sys.stderr)
            raise SystemExit(1) from None
        print(f"{folder}, grader version {GRADER_VERSION}:", *lines, sep="\n")


if __name__ == "__main__":
    main()
