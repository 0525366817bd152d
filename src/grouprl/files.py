"""Files: written in one step, and read with errors that name the file and the line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to; it takes the file's place at the end, or is gone where an error came first.

    A reader, or a full disk, leaves the old file or the new one, and never a part of it.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(file: Path, text: str) -> None:
    """Write a text file in one step."""
    with replacing(file) as temporary:
        temporary.write_text(text)


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file in one step; a number that is not finite becomes null."""
    write_text(file, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """What JSON can hold: None for a number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(file: Path) -> Any:
    """The content of a JSON file, or None where there is none that can be read."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def write_parquet(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as Parquet in one step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(file) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows)), temporary)


def read_parquet(file: Path) -> list[Row]:
    """Rows of a Parquet file."""
    import pyarrow.parquet as pq

    return pq.read_table(file).to_pylist()


def read_jsonl(path: str | Path, on_error: Callable[[int, str], None] | None = None) -> Iterator[tuple[int, Row]]:
    """Line numbers, from 1, and objects of a JSONL file; blank lines are passed over.

    Args:
        path: The file.
        on_error: Called with line number and reason for a line that is no JSON object in UTF-8. None: raise.

    Raises:
        ValueError: A line is no JSON object in UTF-8, and ``on_error`` is None.
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise ValueError(f"it is a {type(row).__name__}")
            except ValueError as error:
                if on_error is None:
                    raise ValueError(f"{path}, line {number}: not a JSON object in UTF-8 ({error}).") from error
                on_error(number, f"not a JSON object in UTF-8 ({error})")
                continue
            yield number, row
