"""Files: written in one step and never through a link, and read with errors that name file, fault and remedy."""

from __future__ import annotations

import codecs
import errno
import itertools
import json
import math
import os
import re
import secrets
import shutil
import stat
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
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_HALF_PAIR = re.compile("[\ud800-\udfff]")
Shape = Mapping[str, "type | tuple[type, ...]"]
"""Fields of an object with their types; a name that ends in ``?`` may be missing."""
_ANY: Shape = {}
REMEDY = "Put back what was written there, or remove it"
_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


class FileError(ValueError):
    """A file that cannot be used. Its text is one line: which file, what is wrong, and what to do."""


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to; it takes the file's place at the end, or is gone where an error came first.

    A reader, or a full disk, leaves the old file or the new one, and never a part of it. Where ``file`` is a link, or
    another name of a file elsewhere, that stays as it is.
    """
    temporary = _beside(file)
    try:
        yield temporary
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to write to; each of its files takes its place in ``folder`` at the end, in one step.

    Other files in ``folder`` stay.

    Raises:
        FileError: The folder, or one in it, is a link.
    """
    folder = Path(os.path.abspath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(folder)
    temporary.mkdir()
    readable = temporary.stat().st_mode & 0o666  # some libraries write for the user alone
    try:
        yield temporary
        for source in [temporary, *sorted(temporary.rglob("*"))]:
            target = folder / source.relative_to(temporary)
            if source.is_dir():
                _make_own_folder(target)
            else:
                source.chmod(readable)
                source.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _make_own_folder(folder: Path) -> None:
    if folder.is_symlink():
        raise FileError(f"{folder}: it is a link, through which nothing is written. Remove the link.")
    folder.mkdir(exist_ok=True)


def refuse_links(folder: Path) -> None:
    """Refuse a folder out of which a link leads: what is written there would change what lies elsewhere.

    Raises:
        FileError: There is one, or something else that is neither file nor folder.
    """
    inside = Path(os.path.realpath(folder))
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink():
                if not Path(os.path.realpath(path)).is_relative_to(inside):
                    raise FileError(
                        f"{path}: it is a link that leads out of the folder, and nothing is written through one. "
                        "Put the file or folder itself there, or remove the link."
                    )
            elif not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
                raise FileError(f"{path}: it is neither a file nor a folder. Remove it.")


def make_own(file: Path) -> None:
    """Give a file that is a link, or has another name elsewhere, a copy of its own before it is written to in place."""
    if file.is_symlink() or (file.is_file() and file.stat().st_nlink > 1):
        with replacing(file) as temporary:
            shutil.copyfile(file, temporary)


def append(file: Path, text: str) -> None:
    """Add to a text file, and see it to the disk."""
    make_own(file)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def write_text(file: Path, text: str) -> None:
    """Write a text file in one step."""
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def write_named(file: Path, text: str) -> None:
    """Write a text file that the user named: in one step, through a link that is the user's, and also to a device."""
    place = Path(os.path.realpath(file))
    if not place.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    if place.exists() and not place.is_file():
        place.write_text(text, encoding="utf-8")
    else:
        write_text(place, text)


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


def read_json(file: Path, shape: Shape = _ANY, *, remedy: str = REMEDY) -> Row | None:
    """The object in a JSON file, or None where there is no such file.

    Args:
        file: The file.
        shape: What the object has to hold.
        remedy: What to do where it does not.

    Raises:
        FileError: The file holds something else.
    """
    return _read(file, json.loads, "JSON", shape, remedy)


def read_yaml(file: Path, shape: Shape = _ANY, *, remedy: str = REMEDY) -> Row | None:
    """The mapping in a YAML file, or None where there is no such file; see `read_json`."""
    import yaml

    def parse(text: str) -> Any:
        try:
            return _plain_yaml(text)
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from error

    return _read(file, parse, "YAML", shape, remedy)


def _plain_yaml(text: str) -> Any:
    """What a YAML text holds without anchors, aliases and tags, each key once, and nothing but what JSON has, too."""
    import yaml

    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"line {line} has an anchor or alias")
        if getattr(event, "tag", None):
            raise ValueError(f"line {line} has a tag")
    _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader))
    value = yaml.safe_load(text)
    try:
        json.dumps(value, skipkeys=True)
    except TypeError as error:  # a date, for one
        raise ValueError(f"it holds what no run writes: {error}") from error
    return value


def _refuse_repeated_keys(node: Any) -> None:
    children = getattr(node, "value", None)
    if not isinstance(children, list):
        return
    pairs = [child for child in children if isinstance(child, tuple)]
    for name, count in Counter(str(key.value) for key, _ in pairs).items():
        if count > 1:
            raise ValueError(f"the key {name!r} is there twice")
    for child in children:
        _refuse_repeated_keys(child[1] if isinstance(child, tuple) else child)


def open_regular(file: Path) -> BinaryIO:
    """Open a file to read it, and nothing else: a pipe or a device that bears its name is an `OSError` at once."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            raise OSError(errno.EISDIR if is_folder else errno.EINVAL, "it is no regular file", str(file))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _read(file: Path, parse: Callable[[str], Any], language: str, shape: Shape, remedy: str) -> Row | None:
    try:
        with open_regular(file) as stream:
            value = parse(stream.read().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FileError(f"{file}: it cannot be read ({error.strerror}). {remedy}.") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{file}: damaged, as it is no {language} in UTF-8 ({error}). {remedy}.") from error
    return check_shape(value, shape, str(file), remedy=remedy)


def check_shape(value: Any, shape: Shape, where: str, *, remedy: str = REMEDY) -> Row:
    """What was read from a file, as the object it has to be.

    Args:
        value: What was read.
        shape: What it has to hold.
        where: Where it stands, for a message.
        remedy: What to do where it is something else.

    Raises:
        FileError: It is something else.
    """
    if not isinstance(value, dict):
        raise FileError(f"{where}: it holds {_kind(value)} and not an object. {remedy}.")
    for name, kind in shape.items():
        field = name.removesuffix("?")
        if field not in value and name != field:
            continue
        if field not in value:
            raise FileError(f"{where}: it has no {field}. {remedy}.")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        given = value[field]
        if not isinstance(given, kinds) or (isinstance(given, bool) and bool not in kinds):
            raise FileError(f"{where}: its {field} is {_kind(given)}, not {' or '.join(map(_word, kinds))}. {remedy}.")
    return value


def _kind(value: Any) -> str:
    return "nothing" if value is None else _word(type(value))


def _word(kind: type) -> str:
    return _WORDS.get(kind, "nothing" if kind is type(None) else f"a {kind.__name__}")


def write_parquet(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as Parquet in one step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(file) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows)), temporary)


def read_parquet(file: Path, columns: Sequence[str] = (), *, remedy: str = REMEDY) -> list[Row]:
    """Rows of a Parquet file.

    Args:
        file: The file.
        columns: What each row has to hold.
        remedy: What to do where it does not.

    Raises:
        FileError: The file is not there, damaged, or without a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise FileError(f"{file}: it cannot be read ({str(error).splitlines()[0]}). {remedy}.") from error
    for column in columns:
        if column not in table.column_names:
            raise FileError(f"{file}: it has no column {column}. {remedy}.")
    return table.to_pylist()


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
    with open_regular(Path(path)) as file:
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
