"""From rows of a file or dataset to problems: columns, gold answers, bad rows and duplicates.

Rows are checked as they are read: a missing column, a missing answer or a broken line is an error that names the file,
the line and what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grouprl.answers.text import last_box
from grouprl.data import checks
from grouprl.files import read_jsonl

AnswerFormat = Literal["plain", "boxed", "hashes", "index", "list"]
BadRows = Literal["refuse", "drop"]
Duplicates = Literal["drop", "refuse", "keep"]
DEFAULT_COLUMNS = {"problem": "problem", "answer": "answer"}
LETTERS = "ABCDEFGHIJ"
"""Names of choices."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """One problem with its gold answer."""

    problem: str
    answer: str


def chosen_rows(
    rows: Iterable[tuple[int, dict[str, Any]]],
    columns: Mapping[str, str] | None,
    levels: Sequence[int] | None,
    types: Sequence[str] | None,
    source: str,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of the levels and types that were asked for."""
    names = {"level": "level", "type": "type", **(columns or {})}
    wanted = {"level": None if levels is None else set(map(str, levels)), "type": None if types is None else set(types)}
    met: dict[str, set[str]] = {"level": set(), "type": set()}
    found = False
    for number, row in rows:
        for role, values in wanted.items():
            if values is not None and names[role] not in row:
                raise ValueError(
                    f"data.{role}s: {source}, line {number}, has no column {names[role]!r}. It has: {', '.join(row)}. "
                    f"Name it with data.columns.{role}."
                )
            if values is not None:
                met[role].add(str(row[names[role]]).removeprefix("Level").strip())
        if all(
            values is None or str(row[names[role]]).removeprefix("Level").strip() in values
            for role, values in wanted.items()
        ):
            found = True
            yield number, row
    if not found and any(met.values()):
        seen = "; ".join(f"{role}s there are: {', '.join(sorted(values))}" for role, values in met.items() if values)
        raise ValueError(f"data.levels, data.types: {source} has no row of them ({seen}).")


class RowCheck:
    """Turns rows into problems; bad ones are refused or dropped, and never trained on in silence."""

    def __init__(
        self,
        source: str,
        columns: Mapping[str, str] | None = None,
        answer_format: AnswerFormat = "plain",
        bad_rows: BadRows = "refuse",
        duplicates: Duplicates = "drop",
    ) -> None:
        """Set what is done with what; see `jsonl_problems`."""
        checks.row_check(bad_rows, duplicates, answer_format)
        self.source, self.columns, self.answer_format = source, columns, answer_format
        self.policies = {"bad": bad_rows, "duplicate": duplicates}
        self.faults: dict[str, list[str]] = {"bad": [], "duplicate": []}

    def bad(self, number: int, reason: str) -> None:
        """Take note of a row that cannot be used."""
        self.faults["bad"].append(f"line {number}: {reason}")

    def problems(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> list[Problem]:
        """The problems of the good rows, or a `ValueError` that names the first of the others."""
        found: dict[str, tuple[int, str]] = {}
        kept: list[Problem] = []
        empty = True
        for number, row in rows:
            empty = False
            try:
                names = check_columns(row, self.columns, f"{self.source}, line {number},")
            except ValueError:
                if not found:
                    raise
                self.bad(number, "a column is missing that the rows before have")
                continue
            problem = str(row[names["problem"]] or "").strip()
            answer = gold_answer(row[names["answer"]], self.answer_format)
            if not problem or not answer:
                self.bad(number, f"no {'answer' if problem else 'problem'} (data.answer_format={self.answer_format})")
                continue
            first, known = found.setdefault(problem, (number, answer))
            if known != answer:
                self.bad(number, f"answer {answer!r}, but line {first} answers the same problem with {known!r}")
                continue
            if first != number:
                self.faults["duplicate"].append(f"line {number}: the problem of line {first}")
            if first == number or self.policies["duplicate"] == "keep":
                kept.append(Problem(problem, answer))
        if not kept and not self.faults["bad"]:
            raise ValueError(f"data: {self.source} holds no {'rows' if empty else 'usable rows'}.")
        self._report()
        if not kept:
            raise ValueError(f"data: {self.source} holds no usable rows.")
        return kept

    def _report(self) -> None:
        for kind, key in (("bad", "bad_rows"), ("duplicate", "duplicates")):
            faults, policy = self.faults[kind], self.policies[kind]
            if not faults or policy == "keep":
                continue
            shown = "\n".join(f"  {fault}" for fault in faults[:5]) + ("\n  ..." if len(faults) > 5 else "")
            if policy == "refuse":
                raise ValueError(
                    f"{self.source}: {len(faults)} {kind} rows:\n{shown}\nMend them, or set data.{key}=drop to go on "
                    "without them."
                )
            _log.warning("%s: %d %s rows dropped:\n%s", self.source, len(faults), kind, shown)


def check_columns(row: Mapping[str, Any], columns: Mapping[str, str] | None, source: str) -> dict[str, str]:
    """The column names to read, or an error that names the missing column and those there are."""
    names = {**DEFAULT_COLUMNS, **{k: v for k, v in (columns or {}).items() if k not in ("level", "type")}}
    for role, column in names.items():
        if column not in row:
            raise ValueError(
                f"data.columns.{role}={column}: {source} has no such column. It has: {', '.join(map(str, row))}. "
                f"Set data.columns.{role} to one of them."
            )
    return names


def check_first_row(key: str, path: str, columns: Mapping[str, str] | None, bad_rows: BadRows) -> None:
    """Refuse a JSONL file that is not there, or whose first row lacks a column that is read.

    Args:
        key: What messages call the file.
        path: The file.
        columns: As for `grouprl.data.problems.jsonl_problems`.
        bad_rows: ``drop``: lines that cannot be read are passed over.
    """
    checks.jsonl_file(key, path)
    for number, row in read_jsonl(path, None if bad_rows == "refuse" else lambda *_: None):
        check_columns(row, columns, f"{path}, line {number},")
        break


def gold_answer(value: Any, answer_format: AnswerFormat) -> str:
    """The gold answer in a cell, empty where there is none.

    Args:
        value: The cell.
        answer_format: ``plain``: the cell itself; ``boxed``: the last box of a solution; ``hashes``: what follows
            ``####``; ``index``: the letter of a choice's number, or of each of several; ``list``: several answers.
    """
    if answer_format == "index":
        return "".join(LETTERS[int(place)] for place in (value if isinstance(value, (list, tuple)) else [value]))
    if answer_format == "list" and isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    text = "" if value is None else str(value)
    if answer_format == "boxed":
        return last_box(text) or ""
    if answer_format == "hashes":
        return text.rpartition("####")[2].strip() if "####" in text else ""
    return text.strip()
