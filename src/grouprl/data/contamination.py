r"""Test problems among the training problems.

``python -m grouprl.data.contamination --train F.jsonl --against G.jsonl``

The rule of Qwen2.5-Math (arXiv 2409.12122): a training and a test problem overlap if they share a run of 13 tokens and
their longest common subsequence is more than 0.6 of the test problem. Problems that are equal after normalisation
always overlap. One of fewer than 13 tokens has no such run and is compared whole: it overlaps with its equals alone.

The paper does not say what the subsequence is a fraction of. Here it is the test problem, so that one inside a longer
prompt counts, and a short exercise about a formula that a long test problem mentions does not.

A template that is filled with other numbers is a hit if it is long enough to have 13 tokens in a row without a changed
number, and none otherwise. `Overlap.same_numbers` tells it from a twin.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from grouprl.answers.text import nfkc
from grouprl.checks import CommandParser
from grouprl.files import read_jsonl, write_named

GRAM = 13
"""Tokens of a shared run."""
RATIO = 0.6
"""The common subsequence is longer than this fraction of the test problem."""

Rule = Literal["exact", "13-gram"]
Tokens = tuple[str, ...]

_HAN = r"぀-ヿ㐀-鿿豈-﫿"
_LAYOUT = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|q?quad|text|mathrm|mathbf|mathit|textbf|textit|mbox"
    r"|operatorname|boxed|begin|end|[hv]space)(?![a-z])|\\[,;:!> ]|\\\\|~|&"
)
_SAME = {"dfrac": "frac", "tfrac": "frac", "leq": "le", "geq": "ge", "neq": "ne", "times": "*", "cdot": "*"}
_SAME |= dict.fromkeys(("mid", "vert", "lvert", "rvert"), "|")
_JOINED = re.compile(
    r"(?<=\d)(?:,(?:\\!)?|\{,\}|\\[,!])(?=\d{3}(?!\d))"  # 1,000  1{,}000  1\,000
    r"|['’]|(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})"  # what joins words
)
_TOKEN = re.compile(rf"\d+(?:\.\d+)?|\.\d+|[{_HAN}]|\\[a-z]+|[^\W\d_{_HAN}]+|[^\w\s\\${{}}]")


def tokenize(text: str) -> Tokens:
    r"""The tokens of a problem in normal form; two problems are equal where these are.

    Unicode's NFKC form in lower case, without dollars, braces, punctuation and layout commands (``\left``, ``\quad``,
    ``\,``, ``\text``). A number, a word, a LaTeX command, a Chinese or Japanese character and an operator is a token
    each: ``3 - 4`` and ``3 + 4`` differ, and so do ``1.5`` and ``15``.
    """
    text = nfkc(text).lower().replace("−", "-")
    text = _LAYOUT.sub(" ", _JOINED.sub("", text))
    found = (_SAME.get(token[1:], token[1:]) if token[0] == "\\" else token for token in _TOKEN.findall(text))
    return tuple(token for token in found if not _is_punctuation(token))


@dataclass(frozen=True)
class Overlap:
    """A training problem that is a test problem, or close to one."""

    train: int
    """Its index among the training problems."""
    test: int
    """The index of the test problem."""
    rule: Rule
    """``exact``: equal after normalisation; ``13-gram``: a shared run of 13 tokens and a ratio above 0.6."""
    ratio: float
    """Longest common subsequence as a fraction of the test problem, 0 to 1."""
    same_numbers: bool
    """Whether the two hold the same numbers: if not, they mostly share a template."""


@dataclass(frozen=True)
class Report:
    """What the training problems share with one benchmark."""

    train: int
    """Number of training problems."""
    test: int
    """Number of the benchmark's problems."""
    overlaps: tuple[Overlap, ...]

    @property
    def test_indices(self) -> tuple[int, ...]:
        """The benchmark's problems that overlap with a training problem."""
        return tuple(sorted({overlap.test for overlap in self.overlaps}))

    @property
    def train_indices(self) -> tuple[int, ...]:
        """The training problems that overlap with the benchmark: without them it is clean."""
        return tuple(sorted({overlap.train for overlap in self.overlaps}))

    def summary(self) -> dict[str, int]:
        """Counts of problems, each counted once, such as for ``result.json``.

        ``train`` and ``test``: all; ``train_overlapping`` and ``test_overlapping``: those with a hit; ``exact`` and
        ``same_numbers``: test problems with such a hit.
        """
        return {
            "train": self.train,
            "test": self.test,
            "train_overlapping": len(self.train_indices),
            "test_overlapping": len(self.test_indices),
            "exact": len({overlap.test for overlap in self.overlaps if overlap.rule == "exact"}),
            "same_numbers": len({overlap.test for overlap in self.overlaps if overlap.same_numbers}),
        }

    def as_dict(self) -> dict[str, Any]:
        """The summary and every overlap, for JSON."""
        return {**self.summary(), "overlaps": [asdict(overlap) for overlap in self.overlaps]}


def overlaps(train: Sequence[str], test: Sequence[str]) -> list[Overlap]:
    """Every pair of a training and a test problem that overlap by the rule above.

    Pairs are found through an index of runs, so that the time grows with the texts and the candidates and not with the
    number of pairs. An instruction of 13 tokens or more that all problems carry makes every pair a candidate: take it
    off before.

    Args:
        train: Training problems.
        test: Test problems.

    Returns:
        The overlaps in order of their training index, then their test index.
    """
    train_tokens, test_tokens = [tokenize(text) for text in train], [tokenize(text) for text in test]
    equals: defaultdict[Tokens, list[int]] = defaultdict(list)
    for index, tokens in enumerate(test_tokens):
        if tokens:
            equals[tokens].append(index)
    found: list[Overlap] = []
    for index, candidates in enumerate(_sharing_a_run(train_tokens, test_tokens)):
        tokens = train_tokens[index]
        exact = equals.get(tokens, [])
        found += (Overlap(index, other, "exact", 1.0, True) for other in exact)
        found += _close(index, tokens, test_tokens, candidates.difference(exact))
    return sorted(found, key=lambda overlap: (overlap.train, overlap.test))


def check(train_problems: Sequence[str], benchmarks: Mapping[str, Sequence[str]]) -> dict[str, Report]:
    """Compare training problems with several benchmarks at once.

    Args:
        train_problems: Problem texts, as they are before any prompt template.
        benchmarks: Problem texts of each benchmark by its name.

    Returns:
        A report for each benchmark, under its name.
    """
    every = [text for texts in benchmarks.values() for text in texts]
    owners = [(name, index) for name, texts in benchmarks.items() for index in range(len(texts))]
    found: dict[str, list[Overlap]] = {name: [] for name in benchmarks}
    for hit in overlaps(train_problems, every):
        name, index = owners[hit.test]
        found[name].append(Overlap(hit.train, index, hit.rule, hit.ratio, hit.same_numbers))
    return {name: Report(len(train_problems), len(texts), tuple(found[name])) for name, texts in benchmarks.items()}


def table(reports: Mapping[str, Report]) -> str:
    """The reports as a Markdown table, one row a benchmark."""
    rows = [["benchmark", "problems", "overlapping", "exact", "same numbers", "training problems"]]
    for name, report in reports.items():
        counts = report.summary()
        share = f" ({100 * counts['test_overlapping'] / report.test:.1f}%)" if report.test else ""
        cells = (counts["exact"], counts["same_numbers"], counts["train_overlapping"])
        rows.append([name, str(report.test), f"{counts['test_overlapping']}{share}", *map(str, cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def _is_punctuation(token: str) -> bool:
    return len(token) == 1 and token not in "-*/!%" and unicodedata.category(token)[0] not in "LNS"


def _close(index: int, tokens: Tokens, test: Sequence[Tokens], candidates: set[int]) -> Iterator[Overlap]:
    """Those candidates whose common subsequence is long enough."""
    numbers = _numbers(tokens) if candidates else None
    for other in candidates:
        shorter, longer = sorted((test[other], tokens), key=len)
        ratio = _common_subsequence(_positions(shorter), len(shorter), longer) / len(test[other])
        if ratio > RATIO:
            yield Overlap(index, other, "13-gram", ratio, numbers == _numbers(test[other]))


@functools.lru_cache(maxsize=256)
def _positions(tokens: Tokens) -> Mapping[str, int]:
    """Of each token its positions as bits."""
    masks: dict[str, int] = {}
    for position, token in enumerate(tokens):
        masks[token] = masks.get(token, 0) | 1 << position
    return masks


def _common_subsequence(masks: Mapping[str, int], length: int, other: Tokens) -> int:
    """Length of the longest common subsequence, a column of the table at a time as bits (Hyyrö 2004).

    Args:
        masks: Of each token of the first sequence, its positions as bits.
        length: Length of the first sequence, better the shorter one: the masks take its square.
        other: The second sequence.
    """
    full = (1 << length) - 1
    column = full
    for token in other:
        if token in masks:
            matches = column & masks[token]
            column = ((column + matches) | (column - matches)) & full
    return length - column.bit_count()


def _numbers(tokens: Tokens) -> Counter[str]:
    return Counter(token for token in tokens if token[-1].isdecimal())


def _sharing_a_run(train: Sequence[Tokens], test: Sequence[Tokens]) -> Iterator[set[int]]:
    """For each training problem the test problems that share a run of 13 tokens with it."""
    texts = [*train, *test]
    vocabulary: dict[str, int] = {}
    flat = np.fromiter((vocabulary.setdefault(t, len(vocabulary)) for text in texts for t in text), dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    names = _run_names(flat)
    owner, inside = owner[: len(names)], owner[: len(names)] == owner[GRAM - 1 :]
    names, owner = names[inside], owner[inside]
    of_test = owner >= len(train)
    shared = np.intersect1d(names[~of_test], names[of_test])
    kept = np.isin(names, shared)
    tests_with: defaultdict[int, set[int]] = defaultdict(set)
    runs_of: defaultdict[int, set[int]] = defaultdict(set)
    for name, index in zip(names[kept].tolist(), owner[kept].tolist(), strict=True):
        if index < len(train):
            runs_of[index].add(name)
        else:
            tests_with[name].add(index - len(train))
    for index in range(len(train)):
        yield set().union(*(tests_with[name] for name in runs_of.get(index, ())))


def _run_names(flat: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each run of 13 tokens, equal where the runs are: pairs are named, then pairs of pairs.

    Runs of 13 are two runs of 8 that overlap, so that nothing is hashed and nothing collides.
    """
    names, length = flat, 1
    for step in (1, 2, 4, GRAM - 8):
        if len(names) <= step:
            return flat[:0]
        pairs = names[:-step] * (int(names.max()) + 1) + names[step:]
        names, length = np.unique(pairs, return_inverse=True)[1], length + step
    assert length == GRAM
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code: 0 without overlaps, 1 with some, 2 where the files cannot be compared."""
    parser = CommandParser(
        prog="python -m grouprl.data.contamination",
        description="Find test problems among training problems: equal ones, and by 13-gram and common subsequence.",
        epilog="Exit code: 0 no overlap, 1 overlap, 2 nothing was compared.",
    )
    parser.add_argument("--train", type=Path, required=True, metavar="FILE.jsonl", help="training problems")
    parser.add_argument(
        "--against", type=Path, required=True, nargs="+", metavar="FILE.jsonl", help="benchmarks, one file each"
    )
    parser.add_argument("--train-column", default="problem", help="column of the training file (%(default)s)")
    parser.add_argument("--against-column", default="problem", help="column of the benchmark files (%(default)s)")
    parser.add_argument("--show", type=int, default=3, metavar="N", help="pairs to show of a benchmark (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every overlap to this file")
    options = parser.parse_args(arguments)
    try:
        train = _column(options.train, options.train_column, "--train-column")
        names = _names(options.against)
        texts = [_column(path, options.against_column, "--against-column") for path in options.against]
        reports = check(train, dict(zip(names, texts, strict=True)))
        if options.json:
            content = {"train": options.train.name, "gram": GRAM, "ratio": RATIO}
            content["benchmarks"] = {name: report.as_dict() for name, report in reports.items()}
            write_named(options.json, json.dumps(content, indent=1) + "\n")
    except (ValueError, OSError) as error:
        print(f"grouprl.data.contamination: {error}", file=sys.stderr)
        return 2
    print(f"{len(train)} training problems of {options.train.name}\n\n{table(reports)}")
    for name, problems in zip(names, texts, strict=True):
        for hit in reports[name].overlaps[: max(0, options.show)]:
            numbers = "" if hit.same_numbers else ", other numbers"
            print(f"\ntrain {hit.train} ~ {name} {hit.test} ({hit.rule}, ratio {hit.ratio:.2f}{numbers})")
            print(f"  {_short(train[hit.train])}\n  {_short(problems[hit.test])}")
    return 1 if any(report.overlaps for report in reports.values()) else 0


def _column(path: Path, column: str, option: str) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file. Give a JSONL file, one object a line.")
    texts = []
    for number, row in read_jsonl(path):
        if not isinstance(row.get(column), str):
            known = ", ".join(map(str, row))
            raise ValueError(f"{path}, line {number}: no text in column {column!r}. Set {option} to one of: {known}.")
        texts.append(row[column])
    if not texts:
        raise ValueError(f"{path}: the file holds no problems.")
    return texts


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of the benchmark files: as short as they are distinct."""
    for name in (lambda path: path.stem, str):
        names = [name(path) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise ValueError("--against: a file is named twice.")


def _short(text: str, width: int = 110) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."


if __name__ == "__main__":
    raise SystemExit(main())
