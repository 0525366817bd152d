"""Wrong answers of the starting policy, for the reward that pays for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from grouprl.batch import Prompts, Rollouts
from grouprl.files import read_json, write_json
from grouprl.rewards.controls import WrongLabelReward

LABELS_FILE = "wrong_labels.json"
_SEED = 2**33
"""Draws of their own: neither training's, nor the held-out evaluation's, nor the prefilter's."""
_REMEDY = "Remove it, and the labels are looked for anew"


def find_labels(
    reward: WrongLabelReward, draw: Callable[[Prompts, int], Rollouts], prompts: Prompts, *, seed: int, block: int = 64
) -> None:
    """Let a reward find the label of each prompt's problem.

    Args:
        reward: It notes them.
        draw: Samples some prompts by a seed, ``reward.samples`` completions each.
        prompts: All that training will draw.
        seed: Seed of the run.
        block: Prompts sampled at once.
    """
    for start in range(0, len(prompts), block):
        part = prompts.take(range(start, min(start + block, len(prompts))))
        reward.find(draw(part, seed + _SEED).completions, part)


def remembered(folder: Path, asked: str) -> Mapping[str, str | None] | None:
    """Labels of an earlier sitting of the same run, or None.

    Args:
        folder: The run's.
        asked: Digest of what was sampled of which policy.
    """
    saved = read_json(folder / LABELS_FILE, {"asked?": str, "labels": dict}, remedy=_REMEDY)
    return saved["labels"] if saved is not None and saved.get("asked") == asked else None


def remember(folder: Path, labels: Mapping[str, str | None], asked: str) -> None:
    """Keep the labels beside the run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LABELS_FILE, {"asked": asked, "labels": dict(labels)})
