"""The groups of an iteration: drawn and scored, and drawn anew where a group teaches nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grouprl.batch import Prompts, Rollouts
from grouprl.rewards.base import Rewards
from grouprl.runtime.checks import group_filter


@dataclass(frozen=True)
class GroupFilter:
    """Which groups an iteration trains on.

    A group whose completions all have one reward has no signal: its advantages are 0. With ``rounds`` above 1 other
    prompts are drawn in the place of such groups until all have a signal or as many rounds were drawn, and what is left
    without one stays (dynamic sampling of DAPO, arXiv 2503.14476). All that was sampled counts as sampled tokens.
    """

    rounds: int = 1
    """Draws of an iteration at most, the first included."""
    drop: float = 0.0
    """Share of the groups left out of training by lot, whatever they teach: a known loss, to see what can be seen."""

    def __post_init__(self) -> None:
        group_filter(self.rounds, self.drop)

    def kept(self, prompts: Prompts, seed: int) -> Bool[Tensor, " prompts"]:
        """Which groups are not left out by lot: a share of these prompts that is as near as can be to the one asked.

        Args:
            prompts: The prompts of an iteration on this rank.
            seed: Seed of the run.

        Raises:
            ValueError: The share of so few groups is none of them, or all.
        """
        count = round(self.drop * len(prompts))
        if self.drop and count in (0, len(prompts)):
            raise ValueError(
                f"filter.drop={self.drop:g} of the {len(prompts)} groups of a process is {count} of them. Raise "
                "prompts_per_step."
            )
        rng = random.Random(f"drop/{seed}/{prompts.iteration}/{prompts.indices[0]}")
        dropped = rng.sample(range(len(prompts)), count)
        kept = torch.ones(len(prompts), dtype=torch.bool)
        kept[dropped] = False
        return kept


@dataclass(frozen=True)
class Groups:
    """P groups of G completions with their rewards and advantages."""

    prompts: Prompts
    rollouts: Rollouts
    rewards: Rewards
    advantages: Float[Tensor, "prompts group"]
    tokens: int = 0
    """Completion tokens that were sampled for them, those of groups that were given up included."""
    replaced: int = 0
    """Groups that were given up for another one."""
    resampled: int = 0
    """Groups that were drawn to take the place of one, whether they did or not."""

    @property
    def without_signal(self) -> list[int]:
        """Rows of the groups whose advantages are all 0."""
        return (self.advantages == 0).all(-1).nonzero().flatten().tolist()


def draw_groups(draw: Callable[[Prompts], Groups], prompts: Prompts, rounds: int = 1) -> Groups:
    """Draw a group of each prompt, and of spare prompts in the place of groups without a signal.

    Args:
        draw: Samples and scores a group of each of some prompts.
        prompts: P prompts, and ``prompts.spares`` more: P for each further round.
        rounds: Draws at most (`GroupFilter.rounds`).

    Raises:
        ValueError: The prompts are not enough for the rounds, or too many: the data module was told of another number.
    """
    asked = len(prompts) - prompts.spares
    if len(prompts) != rounds * asked:
        raise ValueError(
            f"The filter draws up to {rounds} times, and the data module gives prompts for {len(prompts) / asked:g}. "
            f"Use PromptDataModule(..., rounds={rounds})."
        )
    groups = draw(prompts.take(range(asked)))
    for first in range(asked, len(prompts), asked):
        silent = groups.without_signal
        if not silent:
            break
        others = draw(prompts.take(range(first, first + len(silent))))
        speaking = [row for row in range(len(silent)) if row not in set(others.without_signal)]
        groups = replace(
            _with(groups, silent[: len(speaking)], others, speaking), resampled=groups.resampled + len(silent)
        )
    return groups


def _with(ours: Groups, rows: Sequence[int], theirs: Groups, their_rows: Sequence[int]) -> Groups:
    """Our groups with theirs in the place of some."""
    order = list(range(len(ours.prompts)))
    for row, other in zip(rows, their_rows, strict=True):
        order[row] = len(order) + other

    def chosen(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b])[torch.tensor(order, device=a.device)]

    parts = [name for name in ours.rewards.parts if name in theirs.rewards.parts]
    place = {other: row for row, other in zip(rows, their_rows, strict=True)}
    failures = [failure for failure in ours.rewards.failures if failure.prompt not in set(rows)]
    failures += [replace(f, prompt=place[f.prompt]) for f in theirs.rewards.failures if f.prompt in place]
    return Groups(
        prompts=_joined(ours.prompts, theirs.prompts).take(order),
        rollouts=_chosen_rollouts(ours.rollouts, theirs.rollouts, chosen),
        rewards=Rewards(
            chosen(ours.rewards.values, theirs.rewards.values),
            chosen(ours.rewards.valid, theirs.rewards.valid),
            {name: chosen(ours.rewards.parts[name], theirs.rewards.parts[name]) for name in parts},
            tuple(failures),
        ),
        advantages=chosen(ours.advantages, theirs.advantages),
        tokens=ours.tokens + theirs.tokens,
        replaced=ours.replaced + len(rows),
        resampled=ours.resampled,
    )


def _joined(ours: Prompts, theirs: Prompts) -> Prompts:
    fields = ("problems", "answers", "token_ids", "indices", "intermediate")
    both: dict[str, Any] = {name: getattr(ours, name) + getattr(theirs, name) for name in fields}
    return replace(ours, **both)


def _chosen_rollouts(ours: Rollouts, theirs: Rollouts, chosen: Callable[[Tensor, Tensor], Tensor]) -> Rollouts:
    """Rows of both, padded to the wider: prompts on the left, completions on the right."""
    pad = torch.nn.functional.pad

    def left(a: Tensor, b: Tensor) -> Tensor:
        width = max(a.shape[-1], b.shape[-1])
        return chosen(*(pad(x, (width - x.shape[-1], 0)) for x in (a, b)))

    def right(a: Tensor, b: Tensor) -> Tensor:
        width = max(a.shape[-1], b.shape[-1])
        return chosen(*(pad(x, (0, width - x.shape[-1])) for x in (a, b)))

    both = (*ours.completions, *theirs.completions)
    order = chosen(torch.arange(len(ours.completions)), torch.arange(len(ours.completions), len(both))).tolist()
    by_tools = ours.sampled_mask is not None or theirs.sampled_mask is not None
    return Rollouts(
        prompt_ids=left(ours.prompt_ids, theirs.prompt_ids),
        prompt_mask=left(ours.prompt_mask, theirs.prompt_mask),
        completion_ids=right(ours.completion_ids, theirs.completion_ids),
        completion_mask=right(ours.completion_mask, theirs.completion_mask),
        sampler_logprobs=right(ours.sampler_logprobs, theirs.sampler_logprobs),
        truncated=chosen(ours.truncated, theirs.truncated),
        completions=tuple(both[row] for row in order),
        sampled_mask=right(ours.drawn, theirs.drawn) if by_tools else None,
        tool_calls=ours.tool_calls + theirs.tool_calls,
    )
