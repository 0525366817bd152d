"""Benchmarks: which problems, how they are asked, and what must not be trained on without saying so."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from grouprl.answers import AnswerKind, last_box
from grouprl.data import read_jsonl
from grouprl.tiny import task

AnswerFormat = Literal["plain", "boxed", "hashes", "index", "list"]
SHOTS = Path(__file__).parent / "shots"
LETTERS = "ABCDEFGHIJ"
_LONGEST_SOLUTION = 600
"""Characters of an exemplar's solution."""
_CALCULATOR = re.compile(r"<<[^<>]*>>")
"""GSM8K's annotations for a calculator."""
COT_SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."
GROUPS: dict[str, tuple[str, ...]] = {
    "cot": ("gsm8k", "math", "mmlu_stem", "cmath", "gaokao_cloze", "gaokao_qa"),
    "tir": ("math", "minerva", "gaokao2023en", "olympiadbench", "college_math"),
    "all": (
        "gsm8k", "math", "math500", "mmlu_stem", "cmath", "gaokao_cloze", "gaokao_qa", "minerva", "gaokao2023en",
        "olympiadbench", "college_math", "aime24", "amc23",
    ),
}  # fmt: skip
"""The six of the recipe's few-shot table, the five of its tool table, and all."""


@dataclass(frozen=True)
class BenchmarkProblem:
    """One problem."""

    problem: str
    answer: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exemplar:
    """A solved problem that stands before the question."""

    problem: str
    solution: str
    answer: str
    choices: tuple[str, ...] = ()


TEST_SETS: dict[tuple[str, str], tuple[str, ...]] = {
    ("HuggingFaceH4/MATH-500", "test"): ("math500", "math"),
    ("EleutherAI/hendrycks_math", "test"): ("math",),
    ("openai/gsm8k", "test"): ("gsm8k",),
    ("cais/mmlu", "test"): ("mmlu_stem",),
    ("weitianwen/cmath", "test"): ("cmath",),
    ("hails/agieval-gaokao-mathcloze", "test"): ("gaokao_cloze",),
    ("hails/agieval-gaokao-mathqa", "test"): ("gaokao_qa",),
    ("math-ai/minervamath", "test"): ("minerva",),
    ("MARIO-Math-Reasoning/Gaokao2023-Math-En", "train"): ("gaokao2023en",),
    ("Hothan/OlympiadBench", "train"): ("olympiadbench",),
    ("di-zhang-fdu/College_Math_Test", "test"): ("college_math",),
    ("HuggingFaceH4/aime_2024", "train"): ("aime24",),
    ("math-ai/amc23", "test"): ("amc23",),
}
"""Dataset id and split of each benchmark, and the benchmarks that training on it contaminates."""


def contaminated_by(dataset: str, split: str) -> tuple[str, ...]:
    """Benchmarks that a training set given by id and split contaminates; slices, sums of splits and ``all`` count."""
    named = {part.partition("[")[0].strip() for part in split.split("+")}
    found = [
        benchmarks
        for (known, test_split), benchmarks in TEST_SETS.items()
        if known.casefold() == dataset.casefold().strip("/") and ("all" in named or test_split in named)
    ]
    return tuple(dict.fromkeys(name for benchmarks in found for name in benchmarks))


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
    system: str | None = COT_SYSTEM
    language: Literal["en", "zh"] = "en"
    kind: AnswerKind = "auto"
    tolerance: float = 0.0
    """Relative difference that numeric answers may have."""
    arxiv: str | None = None

    def problems(self, data_dir: str | None = None, limit: int | None = None) -> list[BenchmarkProblem]:
        """The problems in their order.

        Args:
            data_dir: Folder with ``file``; None: the dataset is loaded from the hub.
            limit: The first so many.

        Raises:
            ValueError: Where a file or column is not there; the text names it.
        """
        if self.embedded:
            made = (
                task.hard_problems("heldout", self.size)
                if self.embedded == "hard"
                else task.distinct_problems("heldout", self.size, levels={1: 0.35, 2: 0.35, 3: 0.3})
            )
            return [BenchmarkProblem(p.text, p.answer) for p in made][:limit]
        if data_dir is not None:
            path = Path(data_dir) / str(self.file)
            if not path.is_file():
                raise ValueError(
                    f"data_dir={data_dir}: it has no {self.file}, which benchmark={self.name} is read from."
                )
            rows: Iterable[tuple[int, Mapping[str, Any]]] = read_jsonl(path)
            names, answer_format, source = {"problem": "problem", "answer": "answer"}, "plain", str(path)
            if self.kind == "choice":
                names["choices"] = "choices"
        else:
            rows, names, answer_format = self._from_hub(self.split), dict(self.columns), self.answer_format
            source = f"{self.dataset} [{self.split}]"
        found = []
        for number, row in itertools.islice(rows, limit):
            for role, column in names.items():
                if column not in row:
                    raise ValueError(
                        f"benchmark={self.name}: {source}, row {number}, has no column {column!r} for the {role}. "
                        f"It has: {', '.join(map(str, row))}."
                    )
            choices = tuple(str(choice) for choice in row[names["choices"]] or ()) if "choices" in names else ()
            found.append(
                BenchmarkProblem(str(row[names["problem"]]), _gold(row[names["answer"]], answer_format), choices)
            )
        return found

    def _from_hub(self, split: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        import datasets

        parts = (datasets.load_dataset(self.dataset, config, split=split) for config in self.configs or (None,))
        yield from enumerate(itertools.chain.from_iterable(parts), start=1)

    def exemplar_rows(self, path: str | None = None, data_dir: str | None = None) -> list[Exemplar]:
        """The exemplars of a few-shot prompt: the user's, or else the training split's, or else this package's own.

        From a training split, whose solutions must not be too long, those come first whose problems have the smallest
        SHA-256: a fixed rule that looks at nothing else. Test problems are never exemplars.

        Args:
            path: JSONL file of the user's with the columns problem, solution, answer, and choices where there are any.
            data_dir: Folder that ``shots_file`` may lie in; None: the hub, where the set has a training split.
        """
        if not self.shots:
            return []
        if path is not None:
            return [_exemplar(row) for _, row in read_jsonl(path)][: self.shots]
        rows: Iterable[Mapping[str, Any]] = ()
        if data_dir is not None and self.shots_file and (Path(data_dir) / self.shots_file).is_file():
            rows = (row for _, row in read_jsonl(Path(data_dir) / self.shots_file))
        elif data_dir is None and self.shots_split:
            rows = (self._solved(row) for _, row in self._from_hub(self.shots_split))
        found = [_exemplar(row) for row in rows if 40 <= len(str(row.get("solution", ""))) <= _LONGEST_SOLUTION]
        if len(found) >= self.shots:
            found.sort(key=lambda shot: hashlib.sha256(shot.problem.encode()).hexdigest())
            return found[: self.shots]
        return [_exemplar(row) for _, row in read_jsonl(SHOTS / f"{self.exemplars}.jsonl")][: self.shots]

    def _solved(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A training row of the hub; its answer column holds the solution, too."""
        solution = str(row[self.columns["answer"]])
        return {
            "problem": row[self.columns["problem"]],
            "solution": solution.partition("####")[0],
            "answer": _gold(solution, self.answer_format),
        }


def _exemplar(row: Mapping[str, Any]) -> Exemplar:
    solution = _CALCULATOR.sub("", str(row.get("solution", ""))).strip()
    return Exemplar(row["problem"], solution, str(row["answer"]), tuple(row.get("choices", ())))


def _gold(value: Any, answer_format: str) -> str:
    if answer_format == "index":
        places = value if isinstance(value, (list, tuple)) else [value]
        return "".join(LETTERS[int(place)] for place in places)
    if answer_format == "list":
        return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    if answer_format == "boxed":
        return last_box(str(value)) or ""
    return str(value).rpartition("####")[2].strip() if answer_format == "hashes" else str(value)
