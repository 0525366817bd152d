"""Worked examples before a problem: what they are, and how a file of them is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grouprl.data.checks import data_file, place
from grouprl.data.rows import cell_text, problem_text, texts_of
from grouprl.data.tables import read_rows

SHOTS = Path(__file__).parent / "shots"
"""Sets of exemplars that ship with the package, by the names of their files."""
_CALCULATOR = re.compile(r"<<[^<>]*>>")
"""GSM8K's annotations for a calculator."""


@dataclass(frozen=True)
class Exemplar:
    """A solved problem that stands before the question."""

    problem: str
    solution: str
    answer: str
    choices: tuple[str, ...] = ()

    @property
    def boxed(self) -> str:
        """The solution as a policy is to write it: with the answer in a box at its end, if it has none."""
        if "\\boxed" in self.solution:
            return self.solution
        return f"{self.solution} The answer is \\boxed{{{self.answer}}}.".strip()


def read_exemplars(path: str | None, option: str = "prompt.exemplars") -> tuple[Exemplar, ...]:
    """The exemplars of a JSONL file with the columns problem, solution and answer, and choices where there are any.

    Args:
        path: The file, or the name of a set that ships (``words``; see `SHOTS`); None: no exemplars.
        option: What messages call it.

    Raises:
        ValueError: There is no such file, or it holds no exemplar, or a row is none; the text names file and line.
    """
    if path is None:
        return ()
    file = place(path)
    if path in named_sets():
        file = SHOTS / f"{path}.jsonl"
    elif not file.suffix and not file.exists():
        raise ValueError(f"{option}={path}: give a JSONL file, or one of {', '.join(named_sets())}.")
    else:
        data_file(option, path)
    found = tuple(exemplar_of(row, source) for source, row in rows_with_place(file))
    if not found:
        raise ValueError(f"{option}={path}: the file holds no exemplar. Give one at least, or leave the option out.")
    return found


def named_sets() -> tuple[str, ...]:
    """Names of the sets that ship."""
    return tuple(sorted(file.stem for file in SHOTS.glob("*.jsonl")))


def rows_with_place(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a file, each with its place."""
    return ((f"{path}, line {number}", row) for number, row in read_rows(path))


def exemplar_of(row: Mapping[str, Any], source: str) -> Exemplar:
    """A row as an exemplar.

    Raises:
        ValueError: It is none; the text names the source.
    """
    try:
        answer = cell_text(row.get("answer"), "answer")
        solution = _CALCULATOR.sub("", cell_text(row.get("solution"), "solution")).strip()
        choices = texts_of(row.get("choices"), "choices")
        problem = problem_text(row.get("problem"))
        if not problem or not answer:
            raise ValueError(f"no {'problem' if answer else 'answer'}")
        return Exemplar(problem, solution, answer, choices)
    except ValueError as error:
        raise ValueError(
            f"{source}: not an exemplar ({error}). Give each problem, solution, answer, and choices if it has any."
        ) from None
