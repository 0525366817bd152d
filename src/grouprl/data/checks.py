"""What the loaders of problems refuse, without torch."""

from __future__ import annotations

from pathlib import Path

from grouprl.checks import choice

ANSWER_FORMATS = ("plain", "boxed", "hashes")


def row_check(bad_rows: str, duplicates: str, answer_format: str) -> None:
    """Arguments of `grouprl.data.rows.RowCheck`."""
    choice("data.bad_rows", bad_rows, ("refuse", "drop"))
    choice("data.duplicates", duplicates, ("drop", "refuse", "keep"))
    choice("data.answer_format", answer_format, ANSWER_FORMATS)


jsonl_problems = hub_problems = row_check


def jsonl_file(key: str, path: str) -> None:
    """A file that is there."""
    if not Path(path).is_file():
        raise ValueError(f"{key}={path}: there is no such file. Give the path of a JSONL file.")
