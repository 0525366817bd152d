"""Rewards: completions of a group scored by rules, each part named and logged.

A reward is any callable ``reward(completions, prompts)`` on P rows of G texts and their `Prompts`, which returns
`Rewards` or anything `as_rewards` understands: a [P, G] tensor or nested lists of numbers. NaN marks a completion
that could not be scored; it leaves its group's statistics and is counted. `grouprl.scoring` calls the reward and keeps
its errors from the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grouprl import answers, checks
from grouprl.batch import Prompts

Completions = Sequence[Sequence[str]]
FailureKind = Literal["unscorable", "error", "timeout"]
FAILURE_KINDS: tuple[FailureKind, ...] = ("unscorable", "error", "timeout")

_STEP = re.compile(
    r"^\W*(?:step\s*\d+|\d+\s*[.)]\s|(?:first|second|third|next|then|after that|therefore|thus|finally)\b)|"
    r"\b(?:first|next|then|therefore|finally),|第[一二三四五六七八九十\d]+步",
    re.IGNORECASE | re.MULTILINE,
)
_NOTATION = re.compile(
    r"\$[^$\n]*[=+\-*/^\\<>][^$\n]*\$|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(?:align|equation)", re.DOTALL
)


@dataclass(frozen=True)
class Rewards:
    """Scores of P groups of G completions."""

    values: Float[Tensor, "prompts group"]
    """The total that advantages are made from; 0 where not valid."""
    valid: Bool[Tensor, "prompts group"]
    """False where a completion could not be scored."""
    parts: Mapping[str, Float[Tensor, "prompts group"]] = field(default_factory=dict)
    """Named parts before weighting."""
    failures: tuple[Failure, ...] = ()
    """Why samples are not valid."""

    def to(self, device: torch.device) -> Rewards:
        """The same rewards on a device."""
        parts = {name: part.to(device) for name, part in self.parts.items()}
        return Rewards(self.values.to(device), self.valid.to(device), parts, self.failures)


@dataclass(frozen=True)
class Failure:
    """A completion that has no reward."""

    prompt: int
    sample: int
    kind: FailureKind
    reason: str


Reward = Callable[[Completions, Prompts], Any]


def as_rewards(output: Any, completions: Completions) -> Rewards:
    """What a user's reward returned, as `Rewards`; an output of the wrong shape is refused with both shapes."""
    if isinstance(output, Rewards):
        return output
    shape = (len(completions), len(completions[0]))
    try:
        values = torch.as_tensor(output, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The reward must return a [prompts, group] tensor or nested lists of numbers: {error}"
        ) from error
    if tuple(values.shape) != shape:
        raise ValueError(
            f"The reward returned shape {list(values.shape)} for completions [prompts, group] = {list(shape)}."
        )
    valid = values.isfinite()
    failures = tuple(
        Failure(row, sample, "unscorable", f"the reward is {float(values[row, sample])}")
        for row, sample in (~valid).nonzero().tolist()
    )
    return Rewards(values.masked_fill(~valid, 0.0), valid, failures=failures)


def has_box(text: str) -> bool:
    r"""Whether the text holds a non-empty ``\boxed{...}``."""
    return bool(answers.extract(text))


def has_steps(text: str) -> bool:
    """Whether the text goes step by step: at least two step markers or ordering words."""
    return len(_STEP.findall(text)) >= 2


def has_notation(text: str) -> bool:
    r"""Whether the text writes mathematics as such: an equation or operation between LaTeX delimiters."""
    return bool(_NOTATION.search(text))


def is_correct(text: str, gold: str) -> bool:
    """Whether the last box of the text holds the gold answer."""
    return answers.grade(text, gold).correct


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
        correct, failures = _graded(completions, prompts.answers)
        parts = {"correct": correct, **_style_parts(completions)}
        style = self.box * parts["box"] + self.steps * parts["steps"] + self.notation * parts["notation"]
        if self.style_needs_correct:
            style = style * correct
        return _rewards(self.correct * correct + style, parts, failures)


@dataclass(frozen=True)
class CorrectReward:
    """1 where the boxed answer is right, 0 elsewhere; the style parts are logged and not rewarded."""

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        correct, failures = _graded(completions, prompts.answers)
        return _rewards(correct, {"correct": correct, **_style_parts(completions)}, failures)


@dataclass(frozen=True)
class FormatReward:
    """The style parts alone, each a third: the control that shows how much of a gain is format."""

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        style = _style_parts(completions)
        correct, _ = _graded(completions, prompts.answers)
        total = torch.stack(list(style.values())).mean(0)
        return _rewards(total, {"correct": correct, **style}, ())


def _style_parts(completions: Completions) -> dict[str, Tensor]:
    rules = {"box": has_box, "steps": has_steps, "notation": has_notation}
    return {
        name: torch.tensor([[float(rule(text)) for text in row] for row in completions]) for name, rule in rules.items()
    }


def _graded(completions: Completions, golds: Sequence[str]) -> tuple[Tensor, tuple[Failure, ...]]:
    """1 where an answer is right; a comparison that had to be killed is a failure of its own, not a wrong answer."""
    verdicts = [[answers.grade(text, gold) for text in row] for row, gold in zip(completions, golds, strict=True)]
    failures = tuple(
        Failure(prompt, sample, "timeout", f"grading {(verdict.answer or '')[:80]!r}: {verdict.rule}")
        for prompt, row in enumerate(verdicts)
        for sample, verdict in enumerate(row)
        if verdict.status == "timeout"
    )
    return torch.tensor([[float(verdict.correct) for verdict in row] for row in verdicts]), failures


def _rewards(values: Tensor, parts: Mapping[str, Tensor], failures: tuple[Failure, ...]) -> Rewards:
    valid = torch.ones_like(values, dtype=torch.bool)
    for failure in failures:
        valid[failure.prompt, failure.sample] = False
    return Rewards(values.masked_fill(~valid, 0.0), valid, parts, failures)
