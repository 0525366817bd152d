"""Rewards: scores of groups, and what is taken for one.

A reward is any callable ``reward(completions, prompts)`` on P rows of G texts and their `Prompts`, which returns
`Rewards` or anything `as_rewards` understands: a [prompts, group] tensor or nested lists of numbers. NaN marks a
completion that could not be scored; it leaves its group's statistics and is counted. `grouprl.rewards.scoring` calls
the reward and keeps its errors from the run.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grouprl.batch import Prompts

Completions = Sequence[Sequence[str]]
_FOLDERS = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
_NOT_THEIRS = (*(f"{folder}{os.sep}" for folder in _FOLDERS), "<")
"""How names of files begin whose code is not the user's."""


FailureKind = Literal["unscorable", "error", "timeout"]


FAILURE_KINDS: tuple[FailureKind, ...] = ("unscorable", "error", "timeout")


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


def described(error: BaseException) -> str:
    """An error with its kind, and with file and line where it came up in code of one's own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"
