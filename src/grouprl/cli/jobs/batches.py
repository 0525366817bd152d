"""The runs of a study, batch by batch: what is tuned, then the seeds of each look, and beside them the controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from grouprl.cli.config.folders import pinned, sweep_folders
from grouprl.cli.config.preflight import check_command
from grouprl.cli.config.study import SEED, short_names
from grouprl.studies.plan import StudyPlan, is_of_reward


@dataclass(frozen=True)
class Batch:
    """Runs that are given to a launcher together."""

    overrides: tuple[str, ...]
    jobs: tuple[DictConfig, ...]
    folders: tuple[Path, ...]
    seeds: int
    """How many seeds of the study are done after it; 0 where it tunes."""


def batches_of(plan: StudyPlan, overrides: list[str]) -> list[Batch]:
    """The batches of a command line, but for those that tune. Of a study that tunes the best values are known.

    Args:
        plan: Of the command line.
        overrides: Its options of runs, and Hydra's.
    """
    parts = _tuned_parts(plan, overrides) if plan.tuning else _parts(plan, overrides)
    shared = _fixed(plan, overrides) if plan.tuning else None
    return [_batch(plan, part, seeds, shared) for part, seeds in parts]


def tuning_batches(plan: StudyPlan, overrides: list[str]) -> list[Batch]:
    """Every arm on every base with the same values on the same seeds, which are none of the study's."""
    if plan.tuning is None:
        return []
    swept = {SEED, plan.tuning.option}
    others = [override for override in overrides if _key(override) not in swept]
    values, seeds = ",".join(plan.tuning.values), ",".join(map(str, plan.tuning.seeds))
    part = [*others, f"{plan.tuning.option}={values}", f"{SEED}={seeds}"]
    return [_batch(plan, part, 0, _fixed(plan, overrides))]


def _parts(plan: StudyPlan, overrides: list[str]) -> Iterator[tuple[list[str], int]]:
    """The overrides of each batch, and how many seeds are done after it."""
    others = [o for o in overrides if _key(o) != SEED] if plan.looks else list(overrides)
    for seeds, done in _looks(plan):
        part = [*others, *([seeds] if plan.looks else [])]
        yield part, done
        if plan.controls:
            yield _with_controls(plan, part), done


def _tuned_parts(plan: StudyPlan, overrides: list[str]) -> Iterator[tuple[list[str], int]]:
    """The same, where every arm on every base has its own best value, and so a batch of its own."""
    assert plan.tuning is not None
    fixed, (first, *_) = _fixed(plan, overrides), plan.arms
    for seeds, done in _looks(plan):
        for base, in_base in plan.bases.items():
            best = plan.tuned[base]
            for arm, in_arm in plan.arms.items():
                yield [*fixed, *in_base, *in_arm, f"{plan.tuning.option}={best[arm]}", seeds], done
            if plan.controls:
                own = [*fixed, *in_base, *plan.arms[first], f"{plan.tuning.option}={best[first]}", seeds]
                rewards = f"reward={','.join(plan.controls)}"
                yield [*(o for o in own if not is_of_reward(o)), rewards], done


def _looks(plan: StudyPlan) -> Iterator[tuple[str, int]]:
    """The seeds that are new at each look, as an override, and how many are done after it."""
    looks = plan.looks or (len(plan.seeds),)
    for before, look in zip((0, *looks), looks, strict=False):
        yield f"{SEED}={','.join(map(str, plan.seeds[before:look]))}", look


def _fixed(plan: StudyPlan, overrides: list[str]) -> list[str]:
    """What neither arms, bases and seeds set nor is tuned."""
    varied = {SEED} | {_key(o) for sets in (plan.arms, plan.bases) for of in sets.values() for o in of}
    varied |= {plan.tuning.option} if plan.tuning else set()
    return [override for override in overrides if _key(override) not in varied]


def _key(override: str) -> str:
    return override.partition("=")[0]


def _with_controls(plan: StudyPlan, overrides: list[str]) -> list[str]:
    """The overrides of the first arm's runs with the rewards of the controls."""
    (first, *_), arms = plan.controls.values(), {_key(o) for arm in plan.arms.values() for o in arm}
    shared = [o for o in overrides if _key(o) not in arms and not is_of_reward(o)]
    own = [o for o in first if not is_of_reward(o)]
    return [*shared, *own, f"reward={','.join(plan.controls)}"]


def _batch(plan: StudyPlan, part: list[str], seeds: int, shared: list[str] | None) -> Batch:
    overrides = [*part, *(short_names(part, shared) if plan.compares else [])]
    jobs = check_command("train", overrides, multirun=True, quiet=True)
    return Batch((*overrides, *pinned(jobs[0])), tuple(jobs), tuple(sweep_folders(jobs)), seeds)
