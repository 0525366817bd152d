"""A reward with more than two levels: the answer, and the intermediate results on the way to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import torch

from grouprl.batch import Prompts
from grouprl.rewards import checks
from grouprl.rewards.base import Completions, Rewards
from grouprl.rewards.parts import graded, rewards_of, style_parts

_RESULT = re.compile(
    r"=[ \t$({\\]{0,4}(-?\d{1,40}(?:,\d{3}){0,12}(?:\.\d{1,40})?)"
    r"(?=[ \t]{0,4}(?:$|[=$;:)}\n]|[.,](?!\d)|\\(?:text|mathrm|[^a-zA-Z]|$)))"
)
"""What a statement says to be the result: a number after an equals sign that no operation follows."""
_COST = 0.5
"""Of a statement that is no intermediate result, in shares of one that is."""


@dataclass(frozen=True)
class GradedReward:
    """Correctness, and the share of right intermediate results; more levels than two for ranks to tell apart.

    The total is ``correct`` for a right answer, and the rest of 1 times the share of the problem's intermediate results
    that the completion states, see `share_of_results`. A wrong answer never outscores a right one. The style parts are
    logged and not rewarded.
    """

    correct: float = 0.7

    def __post_init__(self) -> None:
        checks.graded_reward(self.correct)

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        """Score P groups of G completions.

        Raises:
            ValueError: The problems come without intermediate results.
        """
        if not any(prompts.intermediate):
            raise ValueError(
                "reward=graded: the problems have no intermediate results. Use data=tiny or data=words, or name a "
                "column of them (data.columns.intermediate), or use reward=math or reward=correct."
            )
        right, failures = graded(completions, prompts.answers)
        shares = torch.tensor(
            [
                [share_of_results(text, results, answer) if results else float(is_right) for text, is_right in group]
                for results, answer, group in zip(
                    prompts.intermediate,
                    prompts.answers,
                    (zip(row, marks, strict=True) for row, marks in zip(completions, right.tolist(), strict=True)),
                    strict=True,
                )
            ]
        )
        total = self.correct * right + (1 - self.correct) * shares
        return rewards_of(total, {"correct": right, "intermediate": shares, **style_parts(completions)}, failures)


def share_of_results(text: str, results: Sequence[str], answer: str) -> float:
    """Share of a problem's intermediate results that a text states, 0 to 1.

    A statement is an equals sign and a number after it with which the expression ends. Statements are read in their
    order, and so are the results: one that is stated counts once, and a result that comes after it cannot be stated
    before it. Every other statement, but for a repetition and the answer after all results, costs half of what a result
    is worth, and is the attempt at the next one, which cannot be stated any more. So a text which lists numbers gets
    nothing, and two guesses at a result are worth less than the first of them.

    Args:
        text: A completion.
        results: The intermediate results in order, without the answer; at least one.
        answer: The gold answer.
    """
    wanted, final = [_number(result) for result in results], _number(answer)
    place, met, others = 0, 0, 0
    for match in _RESULT.finditer(text):
        stated = _number(match.group(1))
        is_next = place < len(wanted) and stated == wanted[place]
        if not is_next and stated in wanted[:place]:
            continue
        if stated in wanted[place:]:
            place, met = wanted.index(stated, place) + 1, met + 1
        elif not (stated == final and place == len(wanted)):
            place, others = min(place + 1, len(wanted)), others + 1
    return max(0.0, met - _COST * others) / len(wanted)


def _number(text: str) -> Decimal | str:
    """A number without its separators of thousands; a text that is none stays one, which no statement equals."""
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return text
