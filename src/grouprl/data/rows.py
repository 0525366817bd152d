"""From rows of a file or dataset to problems: columns, gold answers, bad rows and duplicates.

Rows are checked as they are read: a missing column, a missing answer or a broken line is an error that names the file,
the line and what to do.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grouprl.answers.extraction import last_box
from grouprl.data import checks
from grouprl.data.tables import read_rows

AnswerFormat = Literal["plain", "boxed", "hashes", "index", "list"]
BadRows = Literal["refuse", "drop"]
Duplicates = Literal["drop", "refuse", "keep"]
DEFAULT_COLUMNS = {"problem": "problem", "answer": "answer"}
ROLES = ("problem", "answer", "intermediate", "level", "type")
"""What columns are read as."""
LETTERS = "ABCDEFGHIJ"
"""Names of choices."""
LONGEST_PROBLEM, LONGEST_ANSWER = 1_000_000, 10_000
"""Characters at most: beyond them a row holds something else than a problem and its answer."""
_SHOWN = 5
"""Faulty rows that are named."""
_COUNTED = ("level", "choice")
"""Cells in which 3.0 means 3."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """One problem with its gold answer."""

    problem: str
    answer: str
    intermediate: tuple[str, ...] = ()
    """Results on the way to the answer, in order, without it; see `grouprl.rewards.graded`."""


def chosen_rows(
    rows: Iterable[tuple[int, dict[str, Any]]],
    columns: Mapping[str, str] | None,
    levels: Sequence[int] | None,
    types: Sequence[str] | None,
    source: str,
    on_error: Callable[[int, str], None],
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of the levels and types that were asked for.

    Args:
        rows: Rows with their line numbers.
        columns: As for `grouprl.data.problems.jsonl_problems`.
        levels: As there.
        types: As there.
        source: What messages call the file.
        on_error: Called with line number and reason for a row whose level or type cannot be read.

    Raises:
        ValueError: The first row lacks a column, or no row is of a level and type that was asked for.
    """
    names = {"level": "level", "type": "type", **(columns or {})}
    asked = {"level": levels, "type": [types] if isinstance(types, str) else types}
    wanted = {role: set(map(str, values)) for role, values in asked.items() if values is not None}
    met: dict[str, set[str]] = {role: set() for role in wanted}
    found = False
    for number, row in rows:
        missing = [role for role in wanted if not has_cell(row, names[role])]
        if missing and not any(met.values()):
            raise ValueError(
                f"data.{missing[0]}s: {source}, line {number}, has no column {names[missing[0]]!r}. It has: "
                f"{', '.join(row)}. Name it with data.columns.{missing[0]}."
            )
        try:
            if missing:
                raise ValueError(f"no column {names[missing[0]]!r}, which the rows before have")
            cells = {role: cell_text(cell_of(row, names[role]), role).removeprefix("Level").strip() for role in wanted}
        except ValueError as error:
            on_error(number, str(error))
            continue
        for role, cell in cells.items():
            met[role].add(cell)
        if all(cell in wanted[role] for role, cell in cells.items()):
            found = True
            yield number, row
    if not found and any(met.values()):
        seen = "; ".join(f"{role}s there are: {', '.join(sorted(values))}" for role, values in met.items())
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
        empty, complete = True, False
        for number, row in rows:
            empty = False
            try:
                names = check_columns(row, self.columns, f"{self.source}, line {number},")
            except ValueError:
                if not complete:
                    raise
                self.bad(number, "a column is missing that the rows before have")
                continue
            complete = True
            try:
                problem = problem_text(cell_of(row, names["problem"]))
                answer = gold_answer(cell_of(row, names["answer"]), self.answer_format)
                intermediate = _results(cell_of(row, names["intermediate"])) if "intermediate" in names else ()
            except ValueError as error:
                self.bad(number, str(error))
                continue
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
                kept.append(Problem(problem, answer, intermediate))
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
            shown = "; ".join(faults[:_SHOWN]) + ("; ..." if len(faults) > _SHOWN else "")
            rows = f"{len(faults)} {kind} row{'s' * (len(faults) > 1)}"
            if policy == "refuse":
                raise ValueError(
                    f"{self.source}: {rows}: {shown}. Mend them, or set data.{key}=drop to go on without them."
                )
            _log.warning("%s: %s dropped: %s", self.source, rows, shown)


def check_columns(row: Mapping[str, Any], columns: Mapping[str, str] | None, source: str) -> dict[str, str]:
    """The column names to read, or an error that names the missing column and those there are."""
    for role in columns or {}:
        if role not in ROLES:
            raise ValueError(f"data.columns.{role}: a column is read as one of {', '.join(ROLES)}.")
    names = {**DEFAULT_COLUMNS, **{k: v for k, v in (columns or {}).items() if k not in ("level", "type")}}
    for role, column in names.items():
        if not has_cell(row, column):
            raise ValueError(
                f"data.columns.{role}={column}: {source} has no such column. It has: {', '.join(_names_in(row))}. "
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
    checks.data_file(key, path)
    for number, row in read_rows(path, None if bad_rows == "refuse" else lambda *_: None):
        check_columns(row, columns, f"{path}, line {number},")
        break


def _results(value: Any) -> tuple[str, ...]:
    """The intermediate results in a cell, a list of numbers or texts; none where it is empty."""
    cells = [] if value is None else value if isinstance(value, list) else [value]
    return tuple(_bounded(cell_text(cell, "answer"), LONGEST_ANSWER, "intermediate result") for cell in cells)


def has_cell(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a column of a name, or one of the first part of it that holds an object with the rest."""
    try:
        cell_of(row, name)
    except KeyError:
        return False
    return True


def cell_of(row: Mapping[str, Any], name: str) -> Any:
    """The cell of a column; ``reward_model.ground_truth``: of an object in a column.

    Raises:
        KeyError: There is none.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(name)
        value = value[part]
    return value


def _names_in(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row, those of objects in it by their full names."""
    return [
        name
        for key, value in row.items()
        for name in ([f"{key}.{inner}" for inner in value] if isinstance(value, Mapping) and value else [str(key)])
    ]


def problem_text(value: Any) -> str:
    """The problem in a cell, empty where there is none.

    Args:
        value: Text, or the messages of a chat with one question, of which a system message comes first.

    Raises:
        ValueError: The cell holds something else, or too much of it.
    """
    if isinstance(value, (list, tuple)):
        value = _question(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"the problem is a {type(value).__name__}, and no text")
    return _bounded((value or "").strip(), LONGEST_PROBLEM, "problem")


def _question(messages: Sequence[Any]) -> str:
    """What a user asks in a chat, after what the system is told."""
    told = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise ValueError("the problem is a list, and not one of messages with a role and text as content")
        told.append((message.get("role"), message["content"].strip()))
    roles = [role for role, _ in told]
    if roles not in (["user"], ["system", "user"]):
        raise ValueError(f"the problem is a chat of {', '.join(map(str, roles))}, and not one user's question")
    return "\n\n".join(text for _, text in told if text) if told[-1][1] else ""  # a system message is no question


def gold_answer(value: Any, answer_format: AnswerFormat) -> str:
    """The gold answer in a cell, empty where there is none.

    Args:
        value: The cell.
        answer_format: ``plain``: the cell itself; ``boxed``: the last box of a solution; ``hashes``: what follows
            ``####``; ``index``: the letter of a choice's number, or of each of several; ``list``: several answers.

    Raises:
        ValueError: The cell holds neither text nor a finite number (nor several of them), or is too long.
    """
    if answer_format == "index":
        return "".join(_letter(place) for place in (value if isinstance(value, (list, tuple)) else [value]))
    if answer_format == "list" and isinstance(value, (list, tuple)):
        return _bounded(", ".join(cell_text(item, "answer") for item in value), LONGEST_ANSWER, "answer")
    text = cell_text(value, "answer")
    if answer_format == "boxed":
        text = last_box(text) or ""
    if answer_format == "hashes":
        text = text.rpartition("####")[2] if "####" in text else ""
    return _bounded(text.strip(), LONGEST_ANSWER, "answer")


def cell_text(value: Any, what: str) -> str:
    """The text of a cell that holds text or a number; empty where it holds nothing.

    Raises:
        ValueError: It holds something else, such as a list, or a number that is not finite (``1e999``).
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"the {what} is the number {value}")
        return str(int(value)) if value.is_integer() and what in _COUNTED else str(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
        raise ValueError(f"the {what} is a {type(value).__name__}, and neither text nor a number")
    return "" if value is None else str(value)


def texts_of(value: Any, what: str) -> tuple[str, ...]:
    """The texts of a cell that holds several, none where it is empty.

    Raises:
        ValueError: It is no list, or one of them is neither text nor a finite number.
    """
    if value and not isinstance(value, (list, tuple)):
        raise ValueError(f"the {what} are a {type(value).__name__}, and no list")
    return tuple(cell_text(item, what) for item in value or ())


def _letter(place: Any) -> str:
    """The letter of a choice."""
    try:
        return LETTERS[range(len(LETTERS)).index(int(cell_text(place, "choice")))]
    except ValueError:
        raise ValueError(f"the answer is {str(place)[:40]!r}, and not the number of a choice (from 0)") from None


def _bounded(text: str, longest: int, what: str) -> str:
    if len(text) > longest:
        raise ValueError(f"the {what} has {len(text)} characters, and may have {longest}")
    return text
