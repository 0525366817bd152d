"""The embedded task: short arithmetic chains as expressions, word problems and linear equations.

A problem is a *chain* (a start value and three to five operations, evaluated left to right) and a wording.
The split into training and held-out problems is made by a hash of the chain alone, so that no held-out chain
is met in training under any wording or problem family. Single equations (``7 + 5 = 12``) do recur between the
splits: the held-out set tests composition, not new addition facts.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "heldout"]
Family = Literal["expression", "word", "equation"]

FAMILIES: tuple[Family, ...] = ("expression", "word", "equation")
LEVELS = (1, 2, 3)
HELDOUT_BUCKETS = 2
"""Chains whose hash falls into the first 2 of 10 buckets are held out."""

_SYMBOLS = {"+": "+", "-": "-", "*": r"\times", "/": r"\div"}
_UNDO = {"+": "-", "-": "+", "*": "/", "/": "*"}
_PLAIN_SYMBOLS = {"+": "+", "-": "-", "*": "x", "/": ":"}
_MOST_REPEATED = 2_000
WARM_START_STREAMS = frozenset((1, 2, 4))
"""Streams of training problems that the shipped policies were taught with."""
"""Problems in a row whose chains were drawn before, after which no more are looked for."""
_LENGTH = {1: 3, 2: 4, 3: 5}
"""Operations of a chain by level."""
_MAX_VALUE = {1: 99, 2: 120, 3: 250}
_MAX_TERM = {1: 20, 2: 25, 3: 60}


@dataclass(frozen=True)
class Chain:
    """A start value and operations ``(operator, operand)`` applied to it from left to right."""

    start: int
    operations: tuple[tuple[str, int], ...]

    @property
    def key(self) -> str:
        """Canonical text of the arithmetic, the same for every wording and for ``8*5-18``: ``"5*8-18"``."""
        start, ((op, operand), *rest) = self.start, self.operations
        if op in "+*":
            start, operand = sorted((start, operand))
        return f"{start}{op}{operand}" + "".join(f"{op}{operand}" for op, operand in rest)

    @property
    def split(self) -> Split:
        """Which side of the split this chain is on: a function of the arithmetic alone."""
        digest = hashlib.sha256(self.key.encode()).digest()
        return "heldout" if digest[0] * 256 + digest[1] < 65536 * HELDOUT_BUCKETS // 10 else "train"

    def values(self) -> list[int]:
        """Value after each operation."""
        values, value = [], self.start
        for op, operand in self.operations:
            value = apply(value, op, operand)
            values.append(value)
        return values

    @property
    def answer(self) -> int:
        """Value after the last operation."""
        return self.values()[-1]


@dataclass(frozen=True)
class TinyProblem:
    """One problem of the embedded task: its wording, its chain, and where it comes from."""

    text: str
    chain: Chain
    family: Family
    level: int

    @property
    def answer(self) -> str:
        """The gold answer as text."""
        return str(self.chain.answer)

    @property
    def intermediate(self) -> tuple[str, ...]:
        """The values on the way to it as texts."""
        return tuple(map(str, self.chain.values()[:-1]))


def solution(
    problem: TinyProblem,
    *,
    steps: bool = True,
    box: bool = True,
    notation: bool = True,
    slips: Mapping[int, int] | None = None,
) -> str:
    """Write the solution of a problem in one of eight styles.

    Args:
        problem: The problem to solve.
        steps: Show the intermediate steps.
        box: Put the answer into ``\\boxed{}``.
        notation: Write steps as LaTeX mathematics (``$7 \\times 8 = 56$``), not as plain text.
        slips: Arithmetic slips: step number (from 1) to the error of its result, from which the solution goes on.
    """
    symbols = _SYMBOLS if notation else _PLAIN_SYMBOLS
    lines, before = [], problem.chain.start
    for number, (op, operand) in enumerate(problem.chain.operations, start=1):
        value = apply(before, op, operand) + (slips or {}).get(number, 0)
        equation = f"{before} {symbols[op]} {operand} = {value}"
        lines.append(f"Step {number}: ${equation}$." if notation else f"Step {number}: {equation}.")
        before = value
    if not steps:
        lines.clear()
    answer = rf"\boxed{{{before}}}" if box else str(before)
    lines.append(f"The answer is {answer}.")
    return "\n".join(lines)


def problems(split: Split, *, seed: int, levels: dict[int, float] | None = None) -> Iterator[TinyProblem]:
    """Endless stream of problems of one split, a pure function of its arguments.

    Args:
        split: ``"train"`` or ``"heldout"``.
        seed: Seed of the stream.
        levels: Weight of each level, all equal by default. Levels outside 1 to 3 are refused.
    """
    levels = levels or dict.fromkeys(LEVELS, 1.0)
    if not levels or set(levels) - set(LEVELS):
        raise ValueError(f"data.levels must name levels among {LEVELS}, got {sorted(levels)}")
    if min(levels.values()) < 0 or sum(levels.values()) <= 0:
        raise ValueError(f"data.levels must be weights of at least 0 that are not all 0, got {levels}")
    rng = random.Random(f"{split}/{seed}")
    while True:
        level = rng.choices(list(levels), weights=list(levels.values()))[0]
        family = rng.choice(FAMILIES)
        chain = _equation_chain(rng, level) if family == "equation" else _chain(rng, level)
        if chain.split == split:
            yield TinyProblem(_WORDINGS[family](rng, chain), chain, family, level)


def hard_problems(split: Split, count: int, *, seed: int = 0) -> list[TinyProblem]:
    """Expressions with numbers of two and three digits, beyond what the embedded policy can work out in its head.

    For tools: the expression is easy to write as a program (level 4; the split is by chain as elsewhere).
    """
    rng, chosen = random.Random(f"hard/{split}/{seed}"), dict[str, TinyProblem]()
    while len(chosen) < count:
        operations = ((rng.choice("+-*"), rng.randint(12, 99)), (rng.choice("+-"), rng.randint(101, 999)))
        chain = Chain(rng.randint(101, 999), operations)
        if chain.split == split and min(chain.values()) > 0:
            chosen.setdefault(chain.key, TinyProblem(_expression(rng, chain), chain, "expression", 4))
    return list(chosen.values())


def program(chain: Chain) -> str:
    """A Python expression for a chain."""
    text, additive = str(chain.start), False
    for op, operand in chain.operations:
        text = f"({text}) {op} {operand}" if op in "*/" and additive else f"{text} {op} {operand}"
        additive = op in "+-"
    return text.replace(" / ", " // ")


def unseen_stream(seed: int) -> int:
    """The stream of training problems for a seed: the warm starts were trained on some of the others.

    Args:
        seed: At least 0; each has a stream of its own, and 0 has stream 0.
    """
    for seen in sorted(WARM_START_STREAMS):
        seed += seed >= seen
    return seed


def distinct_problems(
    split: Split, count: int, *, seed: int = 0, levels: dict[int, float] | None = None
) -> list[TinyProblem]:
    """The first ``count`` problems of a split's stream with distinct chains.

    Raises:
        ValueError: The levels have not so many: none was new for a long while.
    """
    chosen: dict[str, TinyProblem] = {}
    repeated = 0
    for problem in problems(split, seed=seed, levels=levels):
        if len(chosen) == count:
            break
        repeated = repeated + 1 if problem.chain.key in chosen else 0
        if repeated > _MOST_REPEATED:
            raise ValueError(f"data: no more than {len(chosen)} different {split} problems of these levels were found.")
        chosen.setdefault(problem.chain.key, problem)
    return list(chosen.values())


def apply(value: int, op: str, operand: int) -> int:
    """Value of one operation; a remainder, which is left after a slip alone, is dropped."""
    if op == "+":
        return value + operand
    if op == "-":
        return value - operand
    if op == "*":
        return value * operand
    return value // operand


def _chain(rng: random.Random, level: int) -> Chain:
    """A chain of sums, differences and products whose values stay positive and bounded."""
    while True:
        start = rng.randint(2, 9) if rng.random() < 0.5 else rng.randint(2, _MAX_TERM[level])
        operations = []
        for _ in range(_LENGTH[level]):
            op = rng.choice("+-*")
            operations.append((op, rng.randint(2, 9) if op == "*" else rng.randint(2, _MAX_TERM[level])))
        chain = Chain(start, tuple(operations))
        if all(0 < value <= _MAX_VALUE[level] for value in chain.values()):
            return chain


def _equation_chain(rng: random.Random, level: int) -> Chain:
    """The steps that solve ``a (x + b) + d = c``, ``(a (x + b) + d) / e = c`` or ``(a (x + b) + d) / e + f = c``."""
    while True:
        x, factor = rng.randint(2, _MAX_TERM[level]), rng.randint(2, 9)
        forward = [(rng.choice("+-"), rng.randint(2, _MAX_TERM[level])), ("*", factor)]
        forward.append((rng.choice("+-"), rng.randint(2, _MAX_TERM[level])))
        if level > 1:
            forward.append(("/", rng.randint(2, 9)))
        if level > 2:
            forward.append((rng.choice("+-"), rng.randint(2, _MAX_TERM[level])))
        if _leaves_remainder(x, forward):
            continue
        values = Chain(x, tuple(forward)).values()
        chain = Chain(values[-1], tuple((_UNDO[op], operand) for op, operand in reversed(forward)))
        if all(0 < value <= _MAX_VALUE[level] for value in values):
            return chain


def _leaves_remainder(start: int, operations: Sequence[tuple[str, int]]) -> bool:
    for place, (op, operand) in enumerate(operations):
        if op == "/" and ([start, *Chain(start, tuple(operations[:place])).values()][-1]) % operand:
            return True
    return False


def _expression(rng: random.Random, chain: Chain) -> str:
    text, additive = str(chain.start), False
    for op, operand in chain.operations:
        if op in "*/" and additive:
            text = f"({text})"
        text = f"{text} {_SYMBOLS[op]} {operand}"
        additive = op in "+-"
    return rng.choice(("Compute ${}$.", "What is ${}$?", "Find the value of ${}$.")).format(text)


def _equation(rng: random.Random, chain: Chain) -> str:
    (inner, shift), (_, factor), *rest = [(_UNDO[op], operand) for op, operand in reversed(chain.operations)]
    left = f"{factor}(x {inner} {shift})"
    for op, operand in rest:
        left = f"({left})" if op == "/" else left
        left = f"{left} {_SYMBOLS[op]} {operand}"
    equation = f"${left} = {chain.start}$"
    return rng.choice(("Solve {} for x.", "Find x if {}.")).format(equation)


_THINGS = ("apples", "books", "coins", "pens", "cards", "eggs")
_NAMES = ("Ann", "Ben", "Eva", "Leo", "Mia", "Tom")
_EVENTS = {
    "+": ("{name} gets {n} more.", "Then {n} are added."),
    "-": ("{name} gives away {n}.", "Then {n} are lost."),
    "*": ("The number grows {n} times.", "{name} trades each for {n}."),
}


def _word(rng: random.Random, chain: Chain) -> str:
    name, things = rng.choice(_NAMES), rng.choice(_THINGS)
    events = " ".join(rng.choice(_EVENTS[op]).format(name=name, n=n) for op, n in chain.operations)
    return f"{name} has {chain.start} {things}. {events} How many {things} are there now?"


_WORDINGS = {"expression": _expression, "word": _word, "equation": _equation}
