"""Files: written in one step, and read with errors that name the file and the line."""

from __future__ import annotations

import codecs
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

Row = dict[str, Any]
LONGEST_LINE = 2**24
"""Bytes of a line of JSONL at most: a problem is shorter by far, and all that is read is read into memory."""
DEEPEST = 100
"""Levels of JSON at most: Python's own bound depends on what has been called before, and on its version."""
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_HALF_PAIR = re.compile("[\ud800-\udfff]")


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
    """Line numbers, from 1, and objects of a JSONL file; blank lines are passed over, and a byte order mark is.

    Args:
        path: The file.
        on_error: Called with line number and reason for a line that is no JSON object in UTF-8 (see `json_object`) or
            longer than `LONGEST_LINE`. None: raise.

    Raises:
        ValueError: There is such a line, and ``on_error`` is None.
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                return
            try:
                if len(line) > LONGEST_LINE:
                    _skip_rest(file, line)
                    raise ValueError(f"longer than {LONGEST_LINE // 2**20} MiB")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                row = json_object(line, each_key_once=True)
            except ValueError as error:
                if on_error is None:
                    raise ValueError(f"{path}, line {number}: not a JSON object in UTF-8 ({error}).") from error
                on_error(number, f"not a JSON object in UTF-8 ({error})")
                continue
            yield number, row


def json_object(content: bytes, *, each_key_once: bool = False) -> Row:
    """The JSON object that some bytes are.

    Args:
        content: UTF-8.
        each_key_once: Refuse a key that an object has twice, of which JSON does not say what it means.

    Raises:
        ValueError: They are no object, nested deeper than `DEEPEST`, or hold half of a surrogate pair, which is no
            character. The text says which, and what it found.
    """
    if not content.strip():
        raise ValueError("it is empty")
    if content.count(b"[") + content.count(b"{") > DEEPEST and _depth(content) > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    value = json.loads(content.decode("utf-8"), object_pairs_hook=_once if each_key_once else None)
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}")
    if b"\\u" in content and (found := _HALF_PAIR.search(json.dumps(value, ensure_ascii=False))):
        raise ValueError(f"\\u{ord(found.group()):x} is half of a surrogate pair, and no character")
    return value


def _once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {repeated!r} is there twice")
    return row


def _depth(content: bytes) -> int:
    """How deep arrays and objects are nested."""
    depth = deepest = 0
    for token in _BRACKET.finditer(content):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token.group(), 0)
        deepest = max(deepest, depth)
    return deepest


def _skip_rest(file: BinaryIO, line: bytes) -> None:
    """Read on to the end of a line of which a part was read."""
    while line and not line.endswith(b"\n"):
        line = file.readline(2**20)
