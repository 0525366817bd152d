"""The first command of a study writes its plan down; later ones go on with it, and what they change is exploratory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grouprl.files import FileError
from grouprl.studies.plan import (
    PLAN_FILE,
    REPETITION,
    WRITTEN_AFTER,
    StudyError,
    StudyPlan,
    Tuning,
    identifying_options,
    read_plan,
)
from grouprl.training.records import ENDED, RESULT_FILE, read_result


def begin(plan: StudyPlan, folder: Path) -> StudyPlan:
    """Write a plan down, or go on with the one that stands: what differs from it is noted as a change.

    Returns:
        The plan that holds: that of the first command, with the changes of all later ones.

    Raises:
        StudyError: Another study stands there: its runs have other options, it has none of these arms, or it looks
            after other numbers of seeds.
    """
    first = read_plan(folder)
    if first is None or not first.compares:  # a sweep without a question has nothing to hold to
        if plan.compares and (seen := _seen_before(plan, folder)):
            some = ", ".join(seen[:3]) + ", ..." * (len(seen) > 3)
            plan = replace(plan, changes=(f"{WRITTEN_AFTER} {len(seen)} of its runs had ended ({some})",))
        plan.write(folder)
        return plan
    options = _only(first.common, plan.common), _only(plan.common, first.common)
    if any(options) or not set(first.arms) & set(plan.arms):
        ours, theirs = (" ".join(some) or "none of them" for some in options)
        said = f"; its runs have {ours}, these {theirs}" if any(options) else ""
        raise StudyError(f"{folder} holds another study ({first.question}{said}). Give this one a name: study=NAME")
    if first.tuning != plan.tuning:
        raise StudyError(f"{folder}: its study tunes {_tried(first.tuning)}. Give that command again: study=NAME")
    if first.looks != plan.looks or (first.looks and first.seeds != plan.seeds):
        looks = f"after {_shown(first.looks)} seeds" if first.looks else "once, after all its seeds"
        raise StudyError(
            f"{folder}: its study looks {looks}, which was decided before its first run. Give that command again, or "
            "this study a name: study=NAME"
        )
    new = [change for change in _changes(first, plan) if change not in first.changes]
    if new:
        seeds = [seed for seed in plan.seeds if seed not in (*first.seeds, *first.later_seeds)]
        first = replace(first, changes=(*first.changes, *new), later_seeds=(*first.later_seeds, *seeds))
        if not (first.looks or first.tuning):
            arms = {name: of for name, of in {**first.later_arms, **plan.arms}.items() if name not in first.arms}
            bases = {name: of for name, of in {**first.later_bases, **plan.bases}.items() if name not in first.bases}
            first = replace(first, later_arms=arms, later_bases=bases)
        first.write(folder)
    return first


def _seen_before(plan: StudyPlan, folder: Path) -> list[str]:
    """Runs of a plan that had ended before it was written, in its folder or in another study's beside it.

    The same options and seed give the same bits, so that what another study showed of them is known.
    """
    wanted = {
        identifying_options((*plan.common, *of_base, *of_arm))
        for of_base in plan.bases.values()
        for of_arm in plan.arms.values()
    }
    beside = [file.parent for file in sorted(folder.parent.glob(f"*/{PLAN_FILE}")) if file.parent != folder]
    found = []
    for study in (folder, *beside):
        for file in sorted(study.glob(f"*/{RESULT_FILE}")):
            try:
                result = read_result(file.parent) or {}
            except FileError:
                if study == folder:
                    raise
                continue  # another study's, whose own commands say it
            known = result.get("state") in ENDED and result.get(REPETITION) in plan.seeds
            if known and identifying_options(result.get("overrides", ())) in wanted:
                found.append(file.parent.name if study == folder else f"{study.name}/{file.parent.name}")
    return found


def _tried(tuning: Tuning | None) -> str:
    return "nothing" if tuning is None else f"{tuning.option}={','.join(tuning.values)} on seeds {tuning.seeds}"


def _only(these: Sequence[str], those: Sequence[str]) -> list[str]:
    """What of some overrides is not among others; their order and their seed do not matter."""
    return [override for override in these if override not in those and not override.startswith(f"{REPETITION}=")]


def _changes(first: StudyPlan, now: StudyPlan) -> list[str]:
    alone = first.looks or first.tuning
    other = f"was added{': it is compared by a study of its own alone' if alone else ''}"
    found = [f"arm {name} {other}" for name in now.arms if name not in first.arms]
    found += [f"base {name} {other}" for name in now.bases if name not in first.bases]
    old, new = (plan.conditions.get("package") for plan in (first, now))
    if old and new and old != new:
        found.append(f"the package was {old} before, and is {new}: runs are made anew")
    later = sorted(set(now.seeds) - set(first.seeds))
    if later:
        found.append(f"seeds {', '.join(map(str, later))} were added")
    found += [f"control {name} was added" for name in now.controls if name not in first.controls]
    for name in ("metric", "margin", "baseline"):
        old, new = getattr(first, name), getattr(now, name)
        if old != new:
            found.append(f"{name} was {_shown(old)}, and {_shown(new)} was asked for later")
    return found


def _shown(value: Any) -> str:
    return "not given" if value in (None, ()) else str(list(value) if isinstance(value, tuple) else value)
