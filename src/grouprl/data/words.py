"""Word problems of one to four steps, made by rules: for small language models, which can read but hardly reckon.

A problem is a *story*: who has how many of what, and what happens to them, step by step. Its level is the number of its
steps. Single calculations (``8 + 5``, which is ``5 + 8``) are divided by a hash: a training problem has none of those
held out, and a held-out problem has one at least, whatever the names, things and words.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "heldout"]

LEVELS = (1, 2, 3, 4)
"""Steps of a story."""
_HELDOUT_SHARE = 0.2
"""Of all single calculations."""
_MOST = 100
"""No number of a story is larger."""
_MOST_REPEATED = 20_000
"""Stories of a level that are drawn for a new one of a split."""

_NAMES = ("Amir", "Clara", "Dina", "Felix", "Hana", "Jonas", "Lena", "Marta", "Nico", "Olga", "Pablo", "Rosa", "Sven")
_THINGS = ("apples", "beads", "books", "buttons", "marbles", "pears", "pencils", "postcards", "shells", "stamps")
_GAINS = (
    "{who} buys {n} more.",
    "{who} finds another {n}.",
    "{other} gives {who} {n} more.",
    "{who} gets {n} more as a present.",
)
_LOSSES = (
    "{who} gives {n} of them to {other}.",
    "{who} sells {n} of them.",
    "{who} loses {n} of them.",
    "{other} borrows {n} of them from {who}.",
)
_MULTIPLES = ("{other} has {n} times as many {things} as {who}.",)
_SHARES = ("{who} puts them into {n} boxes, the same number in each.", "{who} packs them into {n} equal bags.")


@dataclass(frozen=True)
class Story:
    """A start value, and steps ``(operator, operand)`` applied to it one after the other."""

    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def values(self) -> tuple[int, ...]:
        """The value after each step."""
        found, value = [], self.start
        for operator, operand in self.steps:
            value = _applied(value, operator, operand)
            found.append(value)
        return tuple(found)

    @property
    def key(self) -> str:
        """The arithmetic as text."""
        return f"{self.start}" + "".join(f"{operator}{operand}" for operator, operand in self.steps)

    @property
    def calculations(self) -> tuple[str, ...]:
        """Each step as text, the same for ``8+5`` and ``5+8``."""
        befores = (self.start, *self.values[:-1])
        found = []
        for before, (operator, operand) in zip(befores, self.steps, strict=True):
            first, second = sorted((before, operand)) if operator in "+*" else (before, operand)
            found.append(f"{first}{operator}{second}")
        return tuple(found)

    @property
    def split(self) -> Split:
        """Which side of the split this story is on: a function of its calculations alone."""
        return "heldout" if any(map(_is_held_out, self.calculations)) else "train"


@dataclass(frozen=True)
class WordProblem:
    """A story in words."""

    text: str
    story: Story

    @property
    def level(self) -> int:
        """Number of steps."""
        return len(self.story.steps)

    @property
    def answer(self) -> str:
        """The value after the last step."""
        return str(self.story.values[-1])

    @property
    def intermediate(self) -> tuple[str, ...]:
        """The values after the steps before it."""
        return tuple(map(str, self.story.values[:-1]))


def distinct_stories(split: Split, count: int, *, seed: int, levels: Sequence[float]) -> list[WordProblem]:
    """Word problems with distinct arithmetic, a pure function of the arguments; fewer are the first of more.

    Args:
        split: ``train`` or ``heldout``.
        count: How many.
        seed: Seed of the stream.
        levels: Weight of each number of steps, of `LEVELS` in their order.

    Raises:
        ValueError: The levels have not so many: none was new for a long while.
    """
    rng, chosen = random.Random(f"words/{split}/{seed}"), dict[str, WordProblem]()
    while len(chosen) < count:
        level = rng.choices(LEVELS, weights=levels)[0]
        for _ in range(_MOST_REPEATED):
            story = _story(rng, level)
            if story.split == split and story.key not in chosen:
                break
        else:
            raise ValueError(
                f"data: no more than {len(chosen)} different {split} problems were found, and none of {level} steps "
                "beside them. Ask for fewer, or for more of other levels (data.levels)."
            )
        chosen[story.key] = WordProblem(_told(rng, story), story)
    return list(chosen.values())


def _is_held_out(calculation: str) -> bool:
    digest = hashlib.sha256(f"words/{calculation}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < _HELDOUT_SHARE * 2**32


def _applied(value: int, operator: str, operand: int) -> int:
    if operator == "+":
        return value + operand
    if operator == "-":
        return value - operand
    return value * operand if operator == "*" else value // operand


def _story(rng: random.Random, level: int) -> Story:
    """Numbers for so many steps; sharing is the last step alone, and leaves no remainder."""
    while True:
        start, steps = rng.randint(3, 60), list[tuple[str, int]]()
        value = start
        for number in range(1, level + 1):
            operators = "++--*/" if number == level else "++--*"
            operator = rng.choice(operators)
            operand = rng.randint(2, 6) if operator in "*/" else rng.randint(2, 40)
            if operator == "/" and value % operand:
                break
            value = _applied(value, operator, operand)
            if not 1 <= value <= _MOST:
                break
            steps.append((operator, operand))
        if len(steps) == level:
            return Story(start, tuple(steps))


def _told(rng: random.Random, story: Story) -> str:
    """A story in words. Who has times as many is asked for from then on."""
    names = rng.sample(_NAMES, 2 + sum(operator == "*" for operator, _ in story.steps))
    who, things = names.pop(), rng.choice(_THINGS)
    sentences = [f"{who} has {story.start} {things}."]
    for operator, operand in story.steps:
        phrases = {"+": _GAINS, "-": _LOSSES, "*": _MULTIPLES, "/": _SHARES}[operator]
        other = names.pop() if operator == "*" else names[0]
        sentences.append(rng.choice(phrases).format(who=who, other=other, n=operand, things=things))
        if operator == "*":
            who = other
    if story.steps[-1][0] == "/":
        container = "box" if "boxes" in sentences[-1] else "bag"
        return " ".join([*sentences, f"How many {things} are in each {container}?"])
    return " ".join([*sentences, f"How many {things} does {who} have now?"])
