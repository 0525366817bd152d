"""What a gain is made of: training without information, the policy's own answers, and what the reward adds to them.

A difference to random reward is no measure of a reward (True Minus Random, arXiv 2606.05932): random reward moves a
policy as well. So every term is taken from the policy before training, or from the control that knows as much as the
policy does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grouprl.statistics.seeds import SeedTest, paired_t
from grouprl.studies.outcomes import Outcome

CONTROLS = ("random", "format", "wrong_label", "majority")
"""Options of ``reward`` that a study with controls adds to its first arm."""
_START = "before training"
_TERMS = (
    ("null", "random", _START, "random reward, from before training: what training does without information"),
    ("format", "format", _START, "format reward, from before training: what form alone does"),
    ("wrong label", "wrong_label", _START, "a wrong answer rewarded, from before training: what any consensus does"),
    ("elicitation", "majority", _START, "the group's own vote, from before training: what the policy knew already"),
    ("reward design", None, "majority", "the arm, from the group's own vote: what its reward adds to that"),
)


@dataclass(frozen=True)
class Term:
    """A part of a gain over paired seeds."""

    name: str
    meaning: str
    test: SeedTest

    def __str__(self) -> str:
        value, *ends = (f"{100 * x:+.1f}" for x in (self.test.value, self.test.low, self.test.high))
        interval = "" if math.isnan(self.test.low) else f" [{', '.join(ends)}]"
        return f"| {self.name} | {value}{interval} | {self.test.seeds} | {self.meaning} |"


def decompose(arm: Mapping[int, Outcome], controls: Mapping[str, Mapping[int, Outcome]]) -> list[Term]:
    """The terms whose runs are there.

    Args:
        arm: Runs of an arm by seed.
        controls: Those of the controls, by their option of ``reward``. A term is over the seeds that its runs share.
    """
    terms = []
    for name, ours, theirs, meaning in _TERMS:
        first = arm if ours is None else controls.get(ours, {})
        second = first if theirs == _START else controls.get(theirs, {})
        seeds = sorted(first.keys() & second.keys())
        if seeds:
            before = [_score(second[seed], start=theirs == _START) for seed in seeds]
            after = [_score(first[seed]) for seed in seeds]
            terms.append(Term(name, meaning, paired_t([b - a for a, b in zip(before, after, strict=True)])))
    return terms


def _score(outcome: Outcome, *, start: bool = False) -> float:
    return float((outcome.evaluations[0] if start else outcome.last).shares.mean())


def table(terms: Sequence[Term]) -> list[str]:
    """Lines of Markdown."""
    return ["| term | points | seeds | what it is |", "|---|---|---|---|", *map(str, terms)]
