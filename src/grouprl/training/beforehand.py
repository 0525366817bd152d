"""What is sampled of the starting policy before training: how often it solves problems, and its wrong answers.

Both are kept beside the run, so that one that is taken up again does not sample them again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L
from lightning.pytorch.plugins.precision import MixedPrecision

from grouprl.batch import Prompts, Rollouts
from grouprl.files import FileError, read_json, write_json
from grouprl.module import GroupRLModule
from grouprl.progress import SILENCE_S, watched
from grouprl.rewards.controls import WrongLabelReward
from grouprl.rewards.rules import are_correct

SOLVED_FILE = "prefilter.json"
LABELS_FILE = "wrong_labels.json"
_SOLVED_SEED, _LABELS_SEED = 2**32, 2**33
"""Draws of their own: neither training's nor the held-out evaluation's, nor each other's."""
_SOLVED_REMEDY = "Remove it, and the problems are sampled anew"
_LABELS_REMEDY = "Remove it, and the labels are looked for anew"

Draw = Callable[[Prompts, int], Rollouts]
"""Samples some prompts of the policy before training, by a seed."""


def drawing(module: GroupRLModule, trainer: L.Trainer, samples: int) -> Draw:
    """What draws so many samples of each prompt where training will, on its device and in its mixed precision."""
    sampler = replace(module.sampler, group_size=samples)
    plugin = trainer.precision_plugin

    def draw(part: Prompts, seed: int) -> Rollouts:
        module.to(trainer.strategy.root_device)
        with plugin.forward_context() if isinstance(plugin, MixedPrecision) else contextlib.nullcontext():
            return module.memory.sample(sampler, part, lambda sampler: sampler(module.policy, part, seed=seed))

    return draw


def count_solved(draw: Draw, prompts: Prompts, *, seed: int, block: int = 64) -> list[int]:
    """How many of the samples that ``draw`` draws of each prompt are right.

    Args:
        draw: Samples some prompts.
        prompts: All training prompts.
        seed: Seed of the run.
        block: Prompts sampled at once.
    """
    counts: list[int] = []
    for part in _blocks(prompts, block, "prefilter"):
        counts += map(sum, are_correct(draw(part, seed + _SOLVED_SEED).completions, part.answers))
    return counts


def solved_before(folder: Path, problems: int, asked: str) -> list[int] | None:
    """Counts of an earlier sitting of the same run, or None.

    Args:
        folder: The run's.
        problems: How many there are.
        asked: Digest of what was sampled of which policy.

    Raises:
        FileError: The file is damaged.
    """
    saved = read_json(folder / SOLVED_FILE, {"asked?": str, "solved": list}, remedy=_SOLVED_REMEDY)
    if saved is None or saved.get("asked") != asked:
        return None
    if len(saved["solved"]) != problems or not all(isinstance(count, int) for count in saved["solved"]):
        raise FileError(f"{folder / SOLVED_FILE}: it has no count for each problem. {_SOLVED_REMEDY}.")
    return saved["solved"]


def keep_solved(folder: Path, counts: Sequence[int], asked: str) -> None:
    """Keep the counts beside the run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SOLVED_FILE, {"asked": asked, "solved": list(counts)})


def find_labels(reward: WrongLabelReward, draw: Draw, prompts: Prompts, *, seed: int, block: int = 64) -> None:
    """Let a reward find the label of each prompt's problem.

    Args:
        reward: It notes them.
        draw: Samples some prompts, ``reward.samples`` completions each.
        prompts: All that training will draw.
        seed: Seed of the run.
        block: Prompts sampled at once.
    """
    for part in _blocks(prompts, block, "wrong labels"):
        reward.find(draw(part, seed + _LABELS_SEED).completions, part)


def labels_before(folder: Path, asked: str) -> Mapping[str, str | None] | None:
    """Labels of an earlier sitting of the same run, or None.

    Args:
        folder: The run's.
        asked: Digest of what was sampled of which policy.
    """
    saved = read_json(folder / LABELS_FILE, {"asked?": str, "labels": dict}, remedy=_LABELS_REMEDY)
    return saved["labels"] if saved is not None and saved.get("asked") == asked else None


def keep_labels(folder: Path, labels: Mapping[str, str | None], asked: str) -> None:
    """Keep the labels beside the run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LABELS_FILE, {"asked": asked, "labels": dict(labels)})


def _blocks(prompts: Prompts, size: int, name: str) -> Iterator[Prompts]:
    """So many prompts at a time; every few seconds it is said how far that is."""
    done, tokens, started = 0, 0, time.perf_counter()
    said = started

    def goes_on(_: str, more: int) -> None:
        nonlocal said, tokens
        now, tokens = time.perf_counter(), tokens + more
        if now - said >= SILENCE_S:
            said = now
            print(
                f"  {name}: {done} of {len(prompts)} problems, {tokens:,} tokens in {now - started:.0f} s", flush=True
            )

    with watched(goes_on):
        for done in range(0, len(prompts), size):
            yield prompts.take(range(done, min(done + size, len(prompts))))
