"""Word problems of one to four steps, made by rules: for small language models, which can read but hardly reckon.

A problem is a *story*: who has how many of what, and what happens to them, step by step. Its level is the number of its
steps. Stories are split into training and held-out ones by a hash of their arithmetic alone, so that no held-out
calculation is met in training under any names, things or wording.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "heldout"]

LEVELS = (1, 2, 3, 4)
"""Steps of a story."""
_HELDOUT_SHARE = 0.2
"""Of all calculations."""
_MOST = 100
"""No number of a story is larger."""
_MOST_REPEATED = 2_000
"""Stories in a row whose calculations were drawn before, after which no more are looked for."""

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
    def split(self) -> Split:
        """Which side of the split this story is on: a function of the arithmetic alone."""
        digest = hashlib.sha256(f"words/{self.key}".encode()).digest()
        return "heldout" if int.from_bytes(digest[:4], "big") < _HELDOUT_SHARE * 2**32 else "train"


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


def stories(split: Split, *, seed: int, levels: Mapping[int, float]) -> Iterator[WordProblem]:
    """Endless stream of word problems of one split, a pure function of its arguments.

    Args:
        split: ``train`` or ``heldout``.
        seed: Seed of the stream.
        levels: Weight of each level, of `LEVELS`.

    Raises:
        ValueError: Another level, a weight below 0, or no weight above 0.
    """
    if not levels or set(levels) - set(LEVELS):
        raise ValueError(f"data.levels={dict(levels)}: give weights of levels among {', '.join(map(str, LEVELS))}.")
    if min(levels.values()) < 0 or sum(levels.values()) <= 0:
        raise ValueError(f"data.levels={dict(levels)}: give weights of at least 0 that are not all 0.")
    rng = random.Random(f"words/{split}/{seed}")
    while True:
        level = rng.choices(list(levels), weights=list(levels.values()))[0]
        story = _story(rng, level)
        if story.split == split:
            yield WordProblem(_told(rng, story), story)


def distinct_stories(split: Split, count: int, *, seed: int, levels: Mapping[int, float]) -> list[WordProblem]:
    """The first ``count`` problems of a split's stream with distinct arithmetic.

    Raises:
        ValueError: The levels have not so many: none was new for a long while.
    """
    chosen: dict[str, WordProblem] = {}
    repeated = 0
    for problem in stories(split, seed=seed, levels=levels):
        if len(chosen) == count:
            break
        repeated = repeated + 1 if problem.story.key in chosen else 0
        if repeated > _MOST_REPEATED:
            raise ValueError(f"data: no more than {len(chosen)} different {split} problems of these levels were found.")
        chosen.setdefault(problem.story.key, problem)
    return list(chosen.values())


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
