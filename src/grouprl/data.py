"""Problems to train on and to hold out: the embedded task, JSONL files, Hugging Face datasets.

Every loader returns `ProblemSplits`. Rows are checked as they are read: a missing column, a missing answer or a
broken line is an error that names the file, the line and what to do.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grouprl import checks
from grouprl.answers import last_box
from grouprl.tiny import task

AnswerFormat = Literal["plain", "boxed", "hashes"]
BadRows = Literal["refuse", "drop"]
Duplicates = Literal["drop", "refuse", "keep"]
DEFAULT_COLUMNS = {"problem": "problem", "answer": "answer"}


@dataclass(frozen=True)
class Problem:
    """One problem with its gold answer."""

    problem: str
    answer: str


@dataclass(frozen=True)
class ProblemSplits:
    """Problems to train on, and others to measure on."""

    train: Sequence[Problem]
    heldout: Sequence[Problem]


def tiny_problems(
    train_size: int = 4096, heldout_size: int = 400, levels: Mapping[int, float] | None = None, seed: int = 0
) -> ProblemSplits:
    """The embedded task: short arithmetic chains, split by a hash of the chain (see `grouprl.tiny.task`).

    Args:
        train_size: Training problems with distinct chains.
        heldout_size: Held-out problems with distinct chains.
        levels: Weight of each level, 1 to 3.
        seed: Seed of the problem stream.
    """
    weights = {int(level): float(weight) for level, weight in (levels or dict.fromkeys(task.LEVELS, 1.0)).items()}

    def draw(split: task.Split, size: int) -> list[Problem]:
        return [Problem(p.text, p.answer) for p in task.distinct_problems(split, size, seed=seed, levels=weights)]

    return ProblemSplits(draw("train", train_size), draw("heldout", heldout_size))


def jsonl_problems(
    path: str,
    heldout_path: str | None = None,
    heldout_size: int = 200,
    columns: Mapping[str, str] | None = None,
    answer_format: AnswerFormat = "plain",
    limit: int | None = None,
    bad_rows: BadRows = "refuse",
    duplicates: Duplicates = "drop",
    levels: Sequence[int] | None = None,
    types: Sequence[str] | None = None,
    seed: int = 0,
) -> ProblemSplits:
    """Problems of a JSONL file (one object a line).

    Args:
        path: Training file.
        heldout_path: File to hold out. Without one, ``heldout_size`` rows of ``path`` are held out.
        heldout_size: Number of rows held out (at most a fifth of the file where there is no ``heldout_path``).
        columns: Name of the columns for ``problem`` and ``answer``.
        answer_format: ``plain``; ``boxed``: the last box of the column (a solution); ``hashes``: what follows ``####``.
        limit: Use only the first so many training rows.
        bad_rows: Lines that are no JSON object in UTF-8, or have no problem or answer: ``refuse``, or ``drop`` them
            with a report of their numbers.
        duplicates: Rows whose problem came before: ``drop``, ``refuse`` or ``keep``. One with another answer is a
            bad row.
        levels: Only rows whose ``level`` column (``3`` or ``Level 3``) is one of these.
        types: Only rows whose ``type`` column is one of these. Columns are named by ``columns``, too.
        seed: Seed of the held-out choice.
    """

    def read(file: str) -> list[Problem]:
        check = RowCheck(file, columns, answer_format, bad_rows, duplicates)
        return check.problems(_chosen(read_jsonl(file, on_error=check.bad), columns, levels, types, file))

    rows, heldout = read(path), read(heldout_path) if heldout_path else None
    return _split(rows, heldout, heldout_size, limit, seed)


def hub_problems(
    name: str,
    split: str = "train",
    heldout_split: str | None = None,
    configs: Sequence[str] | None = None,
    heldout_size: int = 200,
    columns: Mapping[str, str] | None = None,
    answer_format: AnswerFormat = "plain",
    limit: int | None = None,
    bad_rows: BadRows = "refuse",
    duplicates: Duplicates = "drop",
    levels: Sequence[int] | None = None,
    types: Sequence[str] | None = None,
    seed: int = 0,
) -> ProblemSplits:
    """Problems of a Hugging Face dataset: a hub id, or a local folder of data files in the same format.

    Args:
        name: Dataset id or folder.
        split: Training split.
        heldout_split: Split to hold out. Without one, rows of ``split`` are held out.
        configs: Dataset configurations to put together (``None``: the default one).
        heldout_size: As for `jsonl_problems`.
        columns: As for `jsonl_problems`.
        answer_format: As for `jsonl_problems`.
        limit: As for `jsonl_problems`.
        bad_rows: As for `jsonl_problems`.
        duplicates: As for `jsonl_problems`.
        levels: As for `jsonl_problems`.
        types: As for `jsonl_problems`.
        seed: As for `jsonl_problems`.
    """
    import datasets

    def load(which: str) -> Iterator[tuple[int, dict[str, Any]]]:
        parts = (datasets.load_dataset(name, config, split=which) for config in configs or (None,))
        yield from enumerate(itertools.chain.from_iterable(parts), start=1)

    def read(which: str) -> list[Problem]:
        check = RowCheck(f"{name} [{which}]", columns, answer_format, bad_rows, duplicates)
        return check.problems(_chosen(load(which), columns, levels, types, f"{name} [{which}]"))

    rows, heldout = read(split), read(heldout_split) if heldout_split else None
    return _split(rows, heldout, heldout_size, limit, seed)


def read_jsonl(
    path: str | Path, on_error: Callable[[int, str], None] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of a JSONL file; blank lines are passed over.

    Args:
        path: The file.
        on_error: Called with line number and reason for a line that is no JSON object in UTF-8. None: raise.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"data.path={path}: there is no such file. Give the path of a JSONL file.")
    with file.open("rb") as lines:
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


def _chosen(
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
            answer = _extract(row[names["answer"]], self.answer_format)
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
            print(f"{self.source}: {len(faults)} {kind} rows dropped:\n{shown}")


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


def _extract(value: Any, answer_format: str) -> str:
    text = "" if value is None else str(value)
    if answer_format == "boxed":
        return last_box(text) or ""
    if answer_format == "hashes":
        return text.rpartition("####")[2].strip() if "####" in text else ""
    return text.strip()


def _split(
    rows: list[Problem], heldout: list[Problem] | None, heldout_size: int, limit: int | None, seed: int
) -> ProblemSplits:
    if heldout is not None:
        shared = {row.problem for row in heldout} & {row.problem for row in rows}
        if shared:
            raise ValueError(
                f"data: {len(shared)} held-out problems are among the training problems, such as {min(shared)[:80]!r}. "
                "Take them out of one of the two."
            )
        return ProblemSplits(rows[:limit], heldout[:heldout_size])
    # Rows of one problem text stay on one side of the split.
    texts = sorted({row.problem for row in rows})
    random.Random(seed).shuffle(texts)
    chosen = set(texts[: min(heldout_size, len(texts) // 5)])
    train = [row for row in rows if row.problem not in chosen]
    return ProblemSplits(train[:limit], [row for row in rows if row.problem in chosen])
