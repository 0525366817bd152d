"""Problems that a policy solves sometimes: groups that are all right or all wrong have nothing to teach."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from grouprl.batch import Prompts, Rollouts
from grouprl.policy import Policy
from grouprl.rewards import is_correct

FILE = "prefilter.json"
_SEED = 2**32
"""Draws of their own: neither training's nor the held-out evaluation's."""


def count_solved(
    policy: Policy, sampler: Callable[..., Rollouts], prompts: Prompts, *, seed: int, block: int = 64
) -> list[int]:
    """How many of the samples that ``sampler`` draws of each prompt are right.

    Args:
        policy: The policy before training.
        sampler: Draws the samples, as a `grouprl.sampling.Sampler` is called.
        prompts: All training prompts.
        seed: Seed of the run.
        block: Prompts sampled at once.
    """
    counts: list[int] = []
    for start in range(0, len(prompts), block):
        part = prompts.take(range(start, min(start + block, len(prompts))))
        rollouts = sampler(policy, part, seed=seed + _SEED)
        counts += [
            sum(is_correct(text, gold) for text in texts)
            for texts, gold in zip(rollouts.completions, part.answers, strict=True)
        ]
    return counts


def solved_sometimes(counts: Sequence[int], least: int, most: int) -> list[int]:
    """Indices of the problems that were solved at least and at most so many times."""
    return [index for index, count in enumerate(counts) if least <= count <= most]


def remembered(folder: Path, problems: Sequence[str]) -> list[int] | None:
    """Counts of an earlier sitting of the same run, or None."""
    try:
        saved = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return None
    return saved["solved"] if saved.get("problems") == len(problems) else None


def remember(folder: Path, counts: Sequence[int], samples: int) -> None:
    """Keep the counts beside the run, in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}"
    temporary.write_text(json.dumps({"problems": len(counts), "samples": samples, "solved": list(counts)}) + "\n")
    temporary.replace(folder / FILE)
