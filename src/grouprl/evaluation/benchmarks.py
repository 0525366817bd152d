"""Benchmarks: their problems, and what must not be trained on unsaid; `conf/benchmark/` has one file each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from grouprl.answers.grading import AnswerKind
from grouprl.answers.text import as_number
from grouprl.checks import no_such_option
from grouprl.data import messages
from grouprl.data.checks import place
from grouprl.data.rows import AnswerFormat, gold_answer, problem_text, texts_of
from grouprl.data.tables import dataset_rows
from grouprl.data.tiny import task
from grouprl.files import read_jsonl

FEW_SHOT = ("gsm8k", "math", "mmlu_stem", "cmath", "gaokao_cloze", "gaokao_qa")
"""The six of the recipe's few-shot table."""
TOOL_TABLE = ("math", "minerva", "gaokao2023en", "olympiadbench", "college_math")
"""The five of its tool table."""


@dataclass(frozen=True)
class BenchmarkProblem:
    """One problem."""

    problem: str
    answer: str
    """The reference answer, with its unit where the set names it in a column of its own."""
    choices: tuple[str, ...] = ()
    tolerance: float | None = None
    """Relative difference that this answer may have; None: what the benchmark says."""
    accepted: tuple[str, ...] = ()
    """Other answers that count as right."""


@dataclass(frozen=True)
class Benchmark:
    """A set of problems and how it is asked; `conf/benchmark/` has one file each."""

    name: str
    title: str
    licence: str
    size: int
    """Problems of the whole set."""
    dataset: str | None = None
    """Hugging Face dataset id."""
    configs: Sequence[str] | None = None
    split: str = "test"
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of the dataset's columns for problem, answer, and choices where it has them."""
    answer_format: AnswerFormat = "plain"
    file: str | None = None
    """Name of a JSONL file of the same problems, with the columns problem, answer and choices."""
    embedded: Literal["heldout", "hard"] | None = None
    """Problems of the embedded task instead."""
    style: Literal["few_shot", "chat"] = "chat"
    shots: int = 0
    exemplars: str | None = None
    """Exemplars of this package's own writing, in the language of the set."""
    shots_split: str | None = None
    """Split of the dataset with worked solutions, from which exemplars are taken instead."""
    shots_file: str | None = None
    """The same as a JSONL file with the columns problem, solution and answer."""
    system: str | None = messages.BOX
    language: Literal["en", "zh"] = "en"
    kind: AnswerKind = "auto"
    tolerance: float = 0.0
    """Relative difference that numeric answers may have."""
    arxiv: str | None = None
    part_of: str | None = None
    """The benchmark whose test problems these are some of: who trains on them cannot be measured on either."""

    def problems(self, data_dir: str | None = None, limit: int | None = None) -> list[BenchmarkProblem]:
        """The problems in their order.

        Args:
            data_dir: Folder with ``file``; None: the dataset is loaded from the hub.
            limit: The first so many.

        Raises:
            ValueError: Where a file or column is not there, or a cell cannot be used; the text names it.
        """
        if self.embedded:
            made = (
                task.hard_problems("heldout", self.size)
                if self.embedded == "hard"
                else task.distinct_problems("heldout", self.size, levels={1: 0.35, 2: 0.35, 3: 0.3})
            )
            return [BenchmarkProblem(p.text, p.answer) for p in made][:limit]
        if data_dir is not None:
            path = place(data_dir) / str(self.file)
            if not path.is_file():
                raise ValueError(
                    f"data_dir={data_dir}: it has no {self.file}, which benchmark={self.name} is read from."
                )
            rows: Iterable[tuple[int, Mapping[str, Any]]] = read_jsonl(path)
            answer_format: AnswerFormat = "plain"
            names, source = {"problem": "problem", "answer": "answer"}, str(path)
            if self.kind == "choice":
                names["choices"] = "choices"
        else:
            rows, names, answer_format = self.hub_rows(self.split), dict(self.columns), self.answer_format
            source = f"{self.dataset} [{self.split}]"
        found = []
        for number, row in itertools.islice(rows, limit):
            for role, column in names.items():
                if column not in row:
                    raise ValueError(
                        f"benchmark={self.name}: {source}, row {number}, has no column {column!r} for the {role}. "
                        f"It has: {', '.join(map(str, row))}."
                    )
            try:
                problem = problem_text(row[names["problem"]])
                if not problem:
                    raise ValueError("no problem")
                answer = gold_answer(row[names["answer"]], answer_format)
                choices = texts_of(row[names["choices"]], "choices") if "choices" in names else ()
                extras = _extras(answer, row)
            except ValueError as error:
                raise ValueError(f"benchmark={self.name}: {source}, row {number}: {error}.") from None
            found.append(BenchmarkProblem(problem, extras.pop("answer", answer), choices, **extras))
        return found

    def hub_rows(self, split: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Numbers, from 1, and rows of a split of the data set."""
        yield from dataset_rows(str(self.dataset), self.configs, split)


def _extras(answer: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says of its answer: ``unit``, ``error`` (an absolute one, as in OlympiadBench), ``accepted``."""
    found: dict[str, Any] = {}
    if row.get("unit") and isinstance(row["unit"], str):
        unit = row["unit"].strip().strip("$")
        if re.fullmatch(r"[A-Za-z/ ]+", unit):
            unit = rf" \text{{ {unit}}}"
        found["answer"] = answer.strip().strip("$") + unit
    if row.get("error") not in (None, ""):
        value = as_number(answer.strip().strip("$"))
        try:
            error = float(row["error"])
        except (TypeError, ValueError):
            raise ValueError(f"its error {row['error']!r} is no number") from None
        if value:
            found["tolerance"] = error / abs(float(value))
    if row.get("accepted"):
        found["accepted"] = tuple(texts_of(row["accepted"], "accepted"))
    return found


@lru_cache(maxsize=1)
def all_benchmarks() -> Mapping[str, Benchmark]:
    """The benchmarks of `conf/benchmark` by name."""
    found = {}
    for file in files("grouprl.conf").joinpath("benchmark").iterdir():
        if str(file).endswith(".yaml"):
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
            values.pop("_target_")
            found[str(values["name"])] = Benchmark(**values)
    return dict(sorted(found.items()))


def load_benchmark(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
        ValueError: There is none of this name; the text lists those there are.
    """
    known = all_benchmarks()
    if name not in known:
        raise ValueError(f"{no_such_option('benchmark', name, list(known))} Or several: all, cot, tir.")
    return known[name]


def names_of(value: str | Iterable[str], what: str) -> list[str]:
    """Names of a list, as such or written as ``[a,b]`` or ``a``, in their order and each once."""
    found = value.strip("[] ").split(",") if isinstance(value, str) else value
    names = [str(name).strip(" '\"") for name in found]
    if not names or "" in names:
        raise ValueError(f"{what}={value}: name at least one.")
    return list(dict.fromkeys(names))


def benchmarks_of(value: str | Iterable[str]) -> list[str]:
    """Names of benchmarks; ``all``, ``cot`` and ``tir`` stand for several.

    Raises:
        ValueError: There is none of a name.
    """
    several = {
        "cot": FEW_SHOT,
        "tir": TOOL_TABLE,
        "all": [name for name, benchmark in all_benchmarks().items() if not benchmark.embedded],
    }
    names = [name for given in names_of(value, "benchmark") for name in several.get(given, (given,))]
    return list(dict.fromkeys(load_benchmark(name).name for name in names))


def contaminated_by(dataset: str, split: str) -> tuple[str, ...]:
    """Benchmarks that a training set given by id and split contaminates; slices, sums of splits and ``all`` count."""
    named = {part.partition("[")[0].strip() for part in split.split("+")}
    found = [
        benchmark
        for benchmark in all_benchmarks().values()
        if (benchmark.dataset or "").casefold() == dataset.casefold().strip("/") and {"all", benchmark.split} & named
    ]
    whole = (name for benchmark in found for name in (benchmark.name, benchmark.part_of))
    return tuple(dict.fromkeys(name for name in whole if name))


def with_same_problems(names: Iterable[str]) -> set[str]:
    """Benchmarks by name, and those that share their problems: MATH-500 is a part of MATH's test set."""
    given = set(names)
    parts = {name: benchmark.part_of for name, benchmark in all_benchmarks().items() if benchmark.part_of}
    return given | {part for part, whole in parts.items() if whole in given} | {parts[n] for n in given if n in parts}
