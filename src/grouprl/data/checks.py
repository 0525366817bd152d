"""What the loaders of problems refuse, without torch."""

from __future__ import annotations

from pathlib import Path

from grouprl.checks import choice

ANSWER_FORMATS = ("plain", "boxed", "hashes")

_OTHER_FORMATS = (".csv", ".tsv", ".parquet", ".arrow", ".xlsx", ".gz", ".zip", ".zst")


def row_check(bad_rows: str, duplicates: str, answer_format: str) -> None:
    """Arguments of `grouprl.data.rows.RowCheck`."""
    choice("data.bad_rows", bad_rows, ("refuse", "drop"))
    choice("data.duplicates", duplicates, ("drop", "refuse", "keep"))
    choice("data.answer_format", answer_format, ANSWER_FORMATS)


jsonl_problems = hub_problems = row_check


def jsonl_file(key: str, path: str) -> None:
    """A file that is there, and not of another format by its name."""
    file, folder = Path(path), "data=hub data.name=FOLDER reads a folder of JSONL, CSV or Parquet files"
    if file.is_dir():
        raise ValueError(f"{key}={path}: this is a folder. Give the path of a JSONL file; {folder}.")
    if not file.is_file():
        raise ValueError(f"{key}={path}: there is no such file. Give the path of a JSONL file.")
    if file.suffix.lower() in _OTHER_FORMATS:
        raise ValueError(f"{key}={path}: a JSONL file is read here, one object a line; {folder}.")
