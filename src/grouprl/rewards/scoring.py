"""Calling a reward whose failures are its own: what raises, hangs or returns NaN is counted, never a silent 0."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import torch

from grouprl.batch import Prompts
from grouprl.checks import choice, say_once
from grouprl.rewards import checks
from grouprl.rewards.base import Completions, Failure, FailureKind, Reward, Rewards, as_rewards, described

OnUnscorable = Literal["drop_sample", "drop_group", "stop"]


class RewardTimeoutError(TimeoutError):
    """A reward that did not return in time."""


class ScoringError(RuntimeError):
    """Rewards with which training must not go on, and the failures that it is for."""

    def __init__(self, text: str, failures: tuple[Failure, ...] = ()) -> None:
        super().__init__(text)
        self.failures = failures


class Scorer:
    """Scores groups with a reward that may fail.

    The reward is called once on the whole batch. If that fails, it is called prompt by prompt, and where that fails
    completion by completion, so that one bad completion costs itself alone. A batch in which nothing could be scored
    raises.
    """

    def __init__(
        self, reward: Reward, *, on_unscorable: OnUnscorable = "drop_sample", patience_s: float = 60.0
    ) -> None:
        """Wrap a reward.

        Args:
            reward: Any callable ``reward(completions, prompts)``.
            on_unscorable: What a sample without a reward costs: itself, its whole group, or the run.
            patience_s: Seconds that the search for the failing completions of a batch may take; what has not been
                tried by then counts as failed, too.
        """
        choice("on_unscorable", on_unscorable, checks.ON_UNSCORABLE)
        self.reward, self.on_unscorable, self.patience_s = reward, on_unscorable, patience_s
        self._failed_as_one = ""

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        """Rewards of P groups of G completions; raises `ScoringError` where the policy for failures says so."""
        self._failed_as_one = ""
        rewards = self._score(completions, prompts, deadline=None)
        if self._failed_as_one and rewards.valid.any():
            say_once(
                "The reward failed on a whole batch, and is called prompt by prompt and text by text: "
                f"{self._failed_as_one[:300]}. One that compares the texts of a group gives other numbers so."
            )
        if not rewards.failures:
            return rewards
        first = rewards.failures[0]
        shown = completions[first.prompt][first.sample]
        what = f"{first.kind}: {first.reason}\nCompletion: {shown[:300]!r}"
        if not rewards.valid.any():
            raise ScoringError(f"No completion of this iteration could be scored. The first: {what}", rewards.failures)
        if self.on_unscorable == "stop":
            raise ScoringError(f"A completion could not be scored, and on_unscorable=stop. {what}", rewards.failures)
        if self.on_unscorable == "drop_group":
            whole = rewards.valid.all(-1, keepdim=True)
            rewards = replace(rewards, valid=rewards.valid & whole)
        return rewards

    def close(self) -> None:
        """End the reward's workers, if it has any."""
        if hasattr(self.reward, "close"):
            self.reward.close()

    def _score(self, completions: Completions, prompts: Prompts, deadline: float | None) -> Rewards:
        rows, group = len(completions), len(completions[0])
        try:
            if deadline is not None and time.monotonic() > deadline:
                raise RewardTimeoutError("not tried: the reward failed too slowly before")
            return _checked(as_rewards(self.reward(completions, prompts), completions), rows, group)
        except Exception as error:  # noqa: BLE001 - any error of a user's reward is counted and shown
            if rows * group == 1:
                kind: FailureKind = "timeout" if isinstance(error, RewardTimeoutError) else "error"
                return _failed(Failure(0, 0, kind, described(error)[:500]))
            self._failed_as_one = self._failed_as_one or described(error)
        deadline = deadline or time.monotonic() + self.patience_s
        if rows > 1:
            parts = [self._score([completions[i]], prompts.take([i]), deadline) for i in range(rows)]
            return _joined(parts, dim=0)
        return _joined([self._score([[text]], prompts, deadline) for text in completions[0]], dim=1)


def _checked(rewards: Rewards, rows: int, group: int) -> Rewards:
    for name, tensor in {"values": rewards.values, "valid": rewards.valid, **rewards.parts}.items():
        if tuple(tensor.shape) != (rows, group):
            raise ValueError(f"Rewards.{name} has shape {list(tensor.shape)} for [prompts, group] = {[rows, group]}.")
    broken = rewards.valid & ~rewards.values.isfinite()
    if broken.any():
        failures = tuple(
            Failure(row, sample, "unscorable", f"the reward is {float(rewards.values[row, sample])}")
            for row, sample in broken.nonzero().tolist()
        )
        rewards = replace(
            rewards,
            values=rewards.values.masked_fill(broken, 0.0),
            valid=rewards.valid & ~broken,
            failures=(*rewards.failures, *failures),
        )
    return rewards


def _failed(failure: Failure) -> Rewards:
    return Rewards(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool), failures=(failure,))


def _joined(pieces: list[Rewards], dim: int) -> Rewards:
    names = dict.fromkeys(name for piece in pieces for name in piece.parts)
    return Rewards(
        values=torch.cat([piece.values for piece in pieces], dim),
        valid=torch.cat([piece.valid for piece in pieces], dim),
        parts={
            name: torch.cat([piece.parts.get(name, torch.zeros_like(piece.values)) for piece in pieces], dim)
            for name in names
        },
        failures=tuple(_shifted(pieces, dim)),
    )


def _shifted(pieces: list[Rewards], dim: int) -> Iterable[Failure]:
    for offset, piece in enumerate(pieces):
        for failure in piece.failures:
            if dim == 0:
                yield replace(failure, prompt=failure.prompt + offset)
            else:
                yield replace(failure, sample=failure.sample + offset)
