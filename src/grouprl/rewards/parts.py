"""Rewards made of named parts: REPO's four-part reward, and its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grouprl.answers import grading as answers
from grouprl.batch import Prompts
from grouprl.rewards import checks
from grouprl.rewards.base import Completions, Failure, Rewards
from grouprl.rewards.rules import has_box, has_notation, has_steps


@dataclass(frozen=True)
class MathReward:
    """The four-part rule-based reward: box present, step by step, mathematical notation, answer correct.

    The total is the weighted sum. Weights are refused unless correctness outweighs the style parts together, so a
    wrong answer never outscores a right one. Weights act on *ranks* through their order alone: a style part of any
    weight decides a group whose answers are all right or all wrong, unless ``style_needs_correct`` is set.
    """

    correct: float = 0.7
    box: float = 0.1
    steps: float = 0.1
    notation: float = 0.1
    style_needs_correct: bool = False
    """Score the style parts only where the answer is right."""

    def __post_init__(self) -> None:
        checks.math_reward(self.correct, self.box, self.steps, self.notation)

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        correct, failures = graded(completions, prompts.answers)
        parts = {"correct": correct, **style_parts(completions)}
        style = self.box * parts["box"] + self.steps * parts["steps"] + self.notation * parts["notation"]
        if self.style_needs_correct:
            style = style * correct
        return rewards_of(self.correct * correct + style, parts, failures)


@dataclass(frozen=True)
class CorrectReward:
    """1 where the boxed answer is right, 0 elsewhere; the style parts are logged and not rewarded."""

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        correct, failures = graded(completions, prompts.answers)
        return rewards_of(correct, {"correct": correct, **style_parts(completions)}, failures)


@dataclass(frozen=True)
class FormatReward:
    """The style parts alone, each a third: the control that shows how much of a gain is format."""

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        style = style_parts(completions)
        correct, _ = graded(completions, prompts.answers)
        total = torch.stack(list(style.values())).mean(0)
        return rewards_of(total, {"correct": correct, **style}, ())


def style_parts(completions: Completions) -> dict[str, Tensor]:
    """The style of P groups of G completions: 1 where a rule holds, [prompts, group] for each by name."""
    rules = {"box": has_box, "steps": has_steps, "notation": has_notation}
    return {
        name: torch.tensor([[float(rule(text)) for text in row] for row in completions]) for name, rule in rules.items()
    }


def graded(completions: Completions, golds: Sequence[str]) -> tuple[Tensor, tuple[Failure, ...]]:
    """1 where an answer is right; a comparison that had to be killed is a failure of its own, not a wrong answer."""
    texts = [text for row in completions for text in row]
    found = iter(answers.grade_all(texts, [gold for row, gold in zip(completions, golds, strict=True) for _ in row]))
    verdicts = [[next(found) for _ in row] for row in completions]
    failures = tuple(
        Failure(prompt, sample, "timeout", f"grading {(verdict.answer or '')[:80]!r}: {verdict.rule}")
        for prompt, row in enumerate(verdicts)
        for sample, verdict in enumerate(row)
        if verdict.status == "timeout"
    )
    return torch.tensor([[float(verdict.correct) for verdict in row] for row in verdicts]), failures


def rewards_of(values: Tensor, parts: Mapping[str, Tensor], failures: tuple[Failure, ...]) -> Rewards:
    """Rewards that leave out the completions that failed."""
    valid = torch.ones_like(values, dtype=torch.bool)
    for failure in failures:
        valid[failure.prompt, failure.sample] = False
    return Rewards(values.masked_fill(~valid, 0.0), valid, parts, failures)
