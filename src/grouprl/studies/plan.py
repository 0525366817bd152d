"""What a study asks, written down before its first run: arms, seeds, bases, the metric, and what would settle it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from grouprl.files import FileError, Shape, check_shape, read_json, write_json
from grouprl.statistics.seeds import LEVEL, smallest_visible
from grouprl.statistics.sequential import check_looks, nominal_level
from grouprl.statistics.several import pairs_of
from grouprl.training.records import portable_override

Metric = Literal["final", "area"]
"""``final``: share of right samples at the last evaluation; ``area``: its mean over the sampled tokens of training."""
METRICS: tuple[Metric, ...] = ("final", "area")
MEASURED: Mapping[Metric, str] = {"final": "pass@1 after training", "area": "pass@1, mean over the sampled tokens"}
"""Metrics in words."""
PLAN_FILE = "study.json"
REPETITION = "seed"
ONLY_BASE = "the one base"
"""Where no base is swept."""
_FEW = 6
"""Seeds below which sign flips can never decide."""
BASES = ("policy", "policy.path", "data.seed")
"""Options whose values are bases where they are swept: a verdict on one is a verdict on that one."""
_SHAPE: Shape = {
    **{"question": str, "arms": dict, "seeds": list, "bases": dict, "metric": str, "margin": (int, float)},
    **{"looks": list, "baseline": (str, type(None)), "common": list, "controls": dict, "conditions": dict},
    **{"digest": str, "seal": str, "changes": list, "later_seeds": list, "ended_after": (int, type(None))},
    **{"tuning": (dict, type(None)), "tuned": dict},
}
_LATER = ("changes", "conditions", "later_seeds", "later_arms", "later_bases", "ended_after", "tuned")
"""What is not decided before the first run."""
_AS_WRITTEN = ("question", "metric", "margin", "baseline", "conditions", "ended_after")
_SETS = ("arms", "bases", "controls", "later_arms", "later_bases")
WRITTEN_AFTER = "written after"
_OF_NO_ARM = (REPETITION, "study")
EDITED = "Put it back, or run it again: a study is judged by what its runs wrote."
_REMEDY = "Put back what was written there; without it nobody knows what was asked before the runs"


class StudyError(ValueError):
    """A folder that holds another study; the text says which."""


class OutcomeError(ValueError):
    """Runs that cannot be compared; the text says why."""


@dataclass(frozen=True)
class Tuning:
    """What every arm tries before the study."""

    option: str
    values: tuple[str, ...]
    """Rising."""
    seeds: tuple[int, ...]
    """None of the study's."""


@dataclass(frozen=True)
class StudyPlan:
    """A question and how it is to be answered. Arms and bases are sets of overrides by name."""

    arms: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    bases: Mapping[str, tuple[str, ...]]
    common: tuple[str, ...] = ()
    """Overrides of all runs."""
    question: str = ""
    metric: Metric = "final"
    margin: float = 1.0
    """The largest difference that does not matter, in points."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds after which the arms are looked at; empty: once, after all of them."""
    baseline: str | None = None
    """The arm that the others are compared with; None: all pairs."""
    controls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Runs of the first arm with a reward that does not know the answer, by the option of ``reward``."""
    tuning: Tuning | None = None
    """What is tuned before; None: nothing."""
    tuned: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The best value by base and arm, once it is known."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """Threads, precision, processor, package and versions when it began."""
    changes: tuple[str, ...] = ()
    """What was changed after it began, and is exploratory."""
    later_seeds: tuple[int, ...] = ()
    """Seeds that were added after it began."""
    later_arms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    later_bases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ended_after: int | None = None
    """Of a study that looks, the seeds after which it ended."""

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric}: choose one of {', '.join(METRICS)}.")
        if not 0 < self.margin < math.inf:
            raise ValueError(f"margin={self.margin:g}: give a number of points above 0.")
        if self.looks:
            check_looks(self.looks)
        if self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(f"baseline={self.baseline}: no arm of this study. Arms: {', '.join(self.arms)}.")

    @property
    def runs(self) -> int:
        """The most that the study takes."""
        tuning = len(self.arms) * len(self.tuning.values) * len(self.tuning.seeds) if self.tuning else 0
        every = self.enlarged
        return ((len(every.arms) + len(every.controls)) * len(every.seeds) + tuning) * len(every.bases)

    @property
    def is_late(self) -> bool:
        """Whether it was written after runs of it had ended, which could be known then."""
        return any(change.startswith(WRITTEN_AFTER) for change in self.changes)

    @property
    def enlarged(self) -> StudyPlan:
        """With what was added after it began."""
        seeds, arms = (*self.seeds, *self.later_seeds), {**self.arms, **self.later_arms}
        none: Any = {"later_seeds": (), "later_arms": {}, "later_bases": {}, "changes": ()}
        return replace(self, seeds=seeds, arms=arms, bases={**self.bases, **self.later_bases}, **none)

    @property
    def swept(self) -> set[str]:
        """The options in which runs of the study differ."""
        every = self.enlarged
        sets = [*every.arms.values(), *every.bases.values(), *every.controls.values()]
        return {REPETITION} | {override.partition("=")[0] for overrides in sets for override in overrides}

    @property
    def compares(self) -> bool:
        """Whether there is anything to compare: two seeds of two arms, or of an arm and its controls."""
        return (len(self.arms) > 1 or bool(self.controls)) and len(self.seeds) > 1

    @property
    def planned_level(self) -> float:
        """Of one pair's test: that of the looks, or Bonferroni's share for all pairs."""
        if self.looks and len(self.arms) > 1:
            return nominal_level(self.looks, len(self.arms), against_baseline=self.baseline is not None)
        return LEVEL / max(1, len(pairs_of(self.arms, self.baseline)))

    @property
    def digest(self) -> str:
        """Of what was decided before the first run."""
        return _digest({k: v for k, v in asdict(self).items() if k not in _LATER})

    def write(self, folder: Path) -> None:
        """Write it to a study's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self)
        said = {"announced": self.describe(), "budget": f"{self.runs} runs"}
        write_json(folder / PLAN_FILE, content | said | {"digest": self.digest, "seal": _seal(self, said)})

    def describe(self) -> list[str]:
        """Lines that say what is asked and what can be seen."""
        lines = [f"Study: {self.question}"]
        seeds, bases = len(self.seeds), len(self.bases)
        over = f", on {bases} bases ({', '.join(self.bases)})" if bases > 1 else ""
        beside = f" and {len(self.controls)} controls" if self.controls else ""
        added = {"seeds": self.later_seeds, "arms": self.later_arms, "bases": self.later_bases}
        counted = " and ".join(f"{len(of)} {what}" for what, of in added.items() if of)
        later = f", and {counted} added later, which are exploratory" if counted else ""
        runs = f"{self.runs} runs{' at most' if self.looks else ''}"
        lines.append(f"{len(self.arms)} arms{beside}, {seeds} seeds{over}{later}: {runs}.")
        if self.compares:
            points = f"{self.margin:g} point{'s' * (self.margin != 1)}"
            seen = smallest_visible(1.0, seeds, level=self.planned_level)
            lines.append(
                f"Seen four times in five: a difference of {seen:.2f} standard deviations of the seeds' differences. "
                f"Differences within {points} do not matter."
            )
        if self.compares and seeds < _FEW and not self.looks:
            lines.append(f"{seeds} seeds most likely end undecided: give {_FEW} or more, or until=decided.")
        return lines


def read_plan(folder: Path) -> StudyPlan | None:
    """The plan in a study's folder, or None where there is none.

    Raises:
        FileError: The file holds something else, or was changed after it was written.
    """
    file = folder / PLAN_FILE
    content = read_json(file, _SHAPE, remedy=_REMEDY)
    if content is None:
        return None
    for name in _SETS:
        content.setdefault(name, {})  # an earlier version noted alone what came later
        check_shape(content[name], dict.fromkeys(content[name], list), f"{file}, {name}", remedy=_REMEDY)
    sets: dict[str, Any] = {name: {key: tuple(of) for key, of in content[name].items()} for name in _SETS}
    try:
        plan = StudyPlan(
            **sets,
            seeds=tuple(content["seeds"]),
            looks=tuple(content["looks"]),
            common=tuple(content["common"]),
            changes=tuple(content["changes"]),
            later_seeds=tuple(content["later_seeds"]),
            tuning=_tuning(content["tuning"]),
            tuned=content["tuned"],
            **{name: content[name] for name in _AS_WRITTEN},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{file}: {error} {_REMEDY}.") from error
    said = {name: content.get(name) for name in ("announced", "budget")}
    if plan.digest != content["digest"] or content["seal"] not in (_seal(plan, said), _seal(plan)):
        raise FileError(f"{file}: it was changed after it was written (its digest is another one). {_REMEDY}.")
    return plan


def _tuning(content: Mapping[str, Any] | None) -> Tuning | None:
    if content is None:
        return None
    return Tuning(str(content["option"]), tuple(map(str, content["values"])), tuple(map(int, content["seeds"])))


def identifying_options(overrides: Sequence[str]) -> frozenset[str]:
    """What of a run's overrides says to which arm and base it belongs."""
    return frozenset(portable_override(o) for o in overrides if o.partition("=")[0] not in _OF_NO_ARM)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _seal(plan: StudyPlan, said: Mapping[str, Any] | None = None) -> str:
    """Digest of all of a plan, with what it announced: an earlier version left that out, and had no later arms."""
    content = {k: v for k, v in asdict(plan).items() if v or k not in ("later_arms", "later_bases")}
    return _digest({**content, **(said or {})})


def plan_of(
    swept: Mapping[str, Sequence[str]],
    common: Sequence[str],
    *,
    arm_keys: Sequence[str] = (),
    question: str = "",
    controls: Sequence[str] = (),
    **settings: Any,
) -> StudyPlan:
    """The plan of a sweep.

    Args:
        swept: Values of each swept option, in the order of the command line.
        common: Overrides of all runs.
        arm_keys: Swept options that are arms though they are bases by their name.
        question: What is asked, in words; empty: made of the arms.
        controls: Options of ``reward`` that the first arm is run with beside its own.
        settings: Of `StudyPlan`: metric, margin, looks, baseline, conditions.

    Raises:
        ValueError: A setting that cannot be, or ``arms`` names an option that is not swept.
    """
    unknown = [key for key in arm_keys if key not in swept]
    if unknown:
        raise ValueError(f"arms=[{','.join(arm_keys)}]: {unknown[0]} is not swept. Swept: {', '.join(swept)}.")
    bases = [key for key in swept if key in BASES and key not in arm_keys]
    arms = [key for key in swept if key not in bases and (key != REPETITION or key in arm_keys)]
    seeds = [int(value) for value in swept.get(REPETITION, ())] if REPETITION not in arms else []
    named = _crossed({key: swept[key] for key in arms}) or {"all runs": ()}
    if controls and any(is_of_reward(key) for key in swept):
        raise ValueError("controls=true: it adds rewards, and the reward is swept already. Leave one of them out.")
    first = list(next(iter(named.values())))
    own = next((o.partition("=")[2] for o in common if o.startswith("reward=")), None)
    if own in controls:
        raise ValueError(f"controls=true: reward={own} is one of the controls already. Give the arms another reward.")
    return StudyPlan(
        arms=named,
        controls={name: (*first, f"reward={name}") for name in controls},
        seeds=tuple(seeds) or (_seed_of(common),),
        bases=_crossed({key: swept[key] for key in bases}) or {ONLY_BASE: ()},
        common=tuple(common),
        question=question or question_of(named),
        **settings,
    )


def is_of_reward(override: str) -> bool:
    """Whether an override, or its key, chooses the reward or sets an option of it."""
    key = override.lstrip("+~").partition("=")[0]
    return key == "reward" or key.startswith("reward.")


def _crossed(values: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Names and overrides of every combination; none of nothing."""
    found: dict[str, tuple[str, ...]] = {"": ()} if values else {}
    for key, options in values.items():
        found = {
            ", ".join(filter(None, (name, f"{key}={value}"))): (*overrides, f"{key}={value}")
            for name, overrides in found.items()
            for value in options
        }
    return found


def _seed_of(common: Sequence[str]) -> int:
    given = [override.partition("=")[2] for override in common if override.startswith(f"{REPETITION}=")]
    return int(given[-1]) if given else 0


def question_of(arms: Mapping[str, Any]) -> str:
    """What a study of some arms asks, where nobody says."""
    names = list(arms)
    if len(names) == 1:
        return f"what does {names[0]} end with?"
    best, what = "better" if len(names) == 2 else "best", ""
    keys = {name.partition("=")[0] for name in names}
    if len(keys) == 1 and all(name.count("=") == 1 for name in names):
        what, names = f" {keys.pop()}", [name.partition("=")[2] for name in names]
    between = "; " if any(", " in name for name in names) else ", "
    return f"which{what} is {best}: {between.join(names[:-1])} or {names[-1]}?"
