"""Rows of a file of problems (JSONL, a JSON list, CSV, TSV or Parquet, by the end of its name) or of a dataset."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from grouprl import hub
from grouprl.data.checks import place
from grouprl.files import LONGEST_LINE, Row, json_object, open_regular, read_jsonl

OnError = Callable[[int, str], None]
_BATCH = 1024
"""Rows of a Parquet file that are read at once."""


def read_rows(path: str | Path, on_error: OnError | None = None) -> Iterator[tuple[int, Row]]:
    """Line numbers, from 1, and rows of a file; of a Parquet file and a JSON list the numbers of the rows.

    Args:
        path: The file. Its name ends in ``.csv``, ``.tsv``, ``.parquet`` or ``.json``; else it is read as JSONL.
        on_error: Called with line number and reason for a row that cannot be read. None: raise.

    Raises:
        ValueError: There is such a row, and ``on_error`` is None; or the file is of another format than its name says.
        OSError: The file cannot be read.
    """
    readers = {".csv": _csv_rows, ".tsv": _csv_rows, ".parquet": _parquet_rows, ".json": _json_rows}
    file = place(path)
    reader = readers.get(file.suffix.lower())
    if reader is None:
        yield from read_jsonl(file, on_error)
        return

    def bad(number: int, reason: str) -> None:
        if on_error is None:
            raise ValueError(f"{path}, line {number}: {reason}.")
        on_error(number, reason)

    yield from reader(file, bad)


def dataset_rows(name: str, configs: Sequence[str] | None, split: str) -> Iterator[tuple[int, Row]]:
    """Numbers, from 1, and rows of a split of a dataset.

    Args:
        name: Hub id, or a local folder of data files.
        configs: Its configurations, one after the other; None: the only one.
        split: Which split.

    Raises:
        ValueError: The hub does not have it, or does not answer; that is known within a few seconds.
    """
    import datasets

    folder = place(name)
    is_local = folder.exists()
    name = str(folder) if is_local else name
    if not is_local:
        hub.answers()
    try:
        parts = [datasets.load_dataset(name, config, split=split) for config in configs or (None,)]
    except OSError as error:
        if is_local:
            raise
        raise ValueError(
            f"{name} [{split}]: it could not be had from the Hugging Face hub ({hub.reason(error)}). A folder of its "
            "files can be read in its place."
        ) from None
    yield from enumerate(itertools.chain.from_iterable(parts), start=1)


def _csv_rows(path: Path, bad: OnError) -> Iterator[tuple[int, Row]]:
    """Rows under a header; cells are text, those that hold nothing None."""
    with open_regular(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        csv.field_size_limit(LONGEST_LINE)
        rows = csv.reader(text, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(rows, [])
            if len(set(header)) < len(header):
                raise ValueError(f"{path}: its header names a column twice ({', '.join(header)}).")
            for cells in rows:
                if len(cells) == len(header):
                    yield rows.line_num, {name: _cell(cell) for name, cell in zip(header, cells, strict=True)}
                elif cells:
                    bad(rows.line_num, f"{len(cells)} cells under a header of {len(header)}")
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, line {rows.line_num + 1}: not CSV in UTF-8 ({error}).") from None


def _cell(text: str) -> str | float | None:
    """A cell of a CSV file: ``NaN``, as programs write a number that is not there, is no text."""
    return math.nan if text.strip().lower() == "nan" else text or None


def _parquet_rows(path: Path, bad: OnError) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    with open_regular(path) as file:
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path}: not a Parquet file that can be read ({str(error).splitlines()[0]}).") from None


def _json_rows(path: Path, bad: OnError) -> Iterator[tuple[int, Row]]:
    """The objects of a list, or where the file holds none, of its lines."""
    with open_regular(path) as file:
        content = file.read().removeprefix(codecs.BOM_UTF8)
    if not content.lstrip().startswith(b"["):
        yield from read_jsonl(path, bad)
        return
    try:
        found: list[Any] = json_object(b'{"rows": ' + content + b"}")["rows"]
    except ValueError as error:
        raise ValueError(f"{path}: not a list of JSON objects in UTF-8 ({error}).") from None
    for number, row in enumerate(found, start=1):
        if isinstance(row, dict):
            yield number, row
        else:
            bad(number, f"not a JSON object but {json.dumps(row)[:40]}")
