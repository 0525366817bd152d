"""What a gain is made of: training without information, the policy's own answers, and what the reward adds to them.

A difference to random reward is no measure of a reward (True Minus Random, arXiv 2606.05932): random reward moves a
policy as well. So every term is taken from the policy before training, or from the control that knows as much as the
policy does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from grouprl.statistics.seeds import SeedTest, paired_t
from grouprl.studies.outcomes import Evaluation, Outcome
from grouprl.studies.pairs import signed

CONTROLS = ("random", "format", "wrong_label", "majority")
"""Options of ``reward`` that a study with controls adds to its first arm."""
_START = "before training"
_TERMS = (
    ("null", "random", _START, "random reward, from before training: what training does without information"),
    ("format", "format", _START, "format reward, from before training: what form alone does"),
    ("wrong label", "wrong_label", _START, "a wrong answer rewarded, from before training: what any consensus does"),
    ("elicitation", "majority", _START, "the group's own vote, from before training: what the policy knew already"),
    ("reward design", None, "majority", "the arm, from the group's own vote: what its reward adds to that"),
    ("gain", None, _START, "the arm, from before training: elicitation and reward design, where both are there"),
)


@dataclass(frozen=True)
class Term:
    """A part of a gain over paired seeds."""

    name: str
    meaning: str
    test: SeedTest
    scores: tuple[float, float]
    """Mean shares that it is the difference of."""
    greedy: tuple[float, float]
    """The same of greedy accuracy; NaN where it is not known."""

    def __str__(self) -> str:
        value, *ends = (signed(x) for x in (self.test.value, self.test.low, self.test.high))
        interval = "" if math.isnan(self.test.low) else f" [{', '.join(ends)}]"
        cells = [f"{100 * of[0]:.1f} → {100 * of[1]:.1f}" for of in (self.scores, self.greedy)]
        return f"| {self.name} | {value}{interval} | {' | '.join(cells)} | {self.test.seeds} | {self.meaning} |"


def decompose(arm: Mapping[int, Outcome], controls: Mapping[str, Mapping[int, Outcome]]) -> list[Term]:
    """The terms whose runs are there.

    Args:
        arm: Runs of an arm by seed.
        controls: Those of the controls, by their option of ``reward``. A term is over the seeds that its runs share.
    """
    terms: list[Term] = []
    if not any(controls.values()):
        return terms
    for name, ours, theirs, meaning in _TERMS:
        first = arm if ours is None else controls.get(ours, {})
        second = first if theirs == _START else controls.get(theirs, {})
        seeds = sorted(first.keys() & second.keys())
        if seeds:
            runs = [(_evaluation(second[s], start=theirs == _START), _evaluation(first[s])) for s in seeds]
            shares = [(float(before.shares.mean()), float(after.shares.mean())) for before, after in runs]
            greedy = [(float(before.greedy.mean()), float(after.greedy.mean())) for before, after in runs]
            test = paired_t([after - before for before, after in shares])
            terms.append(Term(name, meaning, test, _means(shares), _means(greedy)))
    return terms


def _evaluation(outcome: Outcome, *, start: bool = False) -> Evaluation:
    return outcome.evaluations[0] if start else outcome.last


def _means(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    before, after = zip(*values, strict=True)
    return fmean(before), fmean(after)


def table(terms: Sequence[Term], arm: str) -> list[str]:
    """Lines of Markdown.

    Args:
        terms: The terms.
        arm: What the arm is called.
    """
    head = f"What {arm} and its controls gain in pass@1:"
    if {"elicitation", "reward design", "gain"} <= {term.name for term in terms}:
        head = (
            f"What {arm} gains in pass@1 is made of elicitation and reward design; the other terms are controls' own "
            "gains:"
        )
    heads = ["term", "points", "pass@1, from → to", "greedy, from → to", "seeds", "what it is"]
    return [head, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *map(str, terms)]
