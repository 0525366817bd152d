"""The verdict of a study: which arm is better on each base, by how much, whether that is noise, and what to do next."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from grouprl.files import finite, write_json, write_text
from grouprl.statistics.sequential import Ending
from grouprl.statistics.several import pairs_of
from grouprl.studies import tuning
from grouprl.studies.decomposition import Term, decompose, table
from grouprl.studies.outcomes import Outcome, differing_settings, mixed_seeds, other_conditions, said_of_machines
from grouprl.studies.plan import (
    EDITED,
    REPETITION,
    OutcomeError,
    StudyPlan,
    identifying_options,
    is_of_reward,
    question_of,
)
from grouprl.studies.records import records_in
from grouprl.studies.seeds import StudyComparison, compare_arms, compare_at_looks
from grouprl.studies.show import step, text
from grouprl.studies.tuning import Tried
from grouprl.training.records import ENDED

DECIDED, UNDECIDED = 0, 3
"""Exit codes of commands that end in a verdict; 1 and 2 are errors."""
VERDICT_FILE, VERDICT_JSON = "verdict.md", "verdict.json"
_NOT_YET = "Not all planned runs have come to their end: nothing is decided yet."
_MIXED = "Runs of one seed were made on several kinds of processor: a difference may be theirs. Nothing is decided."
_CONTROL = "control "
_ENDINGS = get_args(Ending)
"""In the order in which they are said."""
_FEW = 3
"""Pairs that are read at a glance."""


@dataclass(frozen=True)
class StudyVerdict:
    """A study's comparisons, base by base."""

    plan: StudyPlan
    bases: Mapping[str, StudyComparison]
    """Of each base that has two arms with a seed in common."""
    terms: Mapping[str, Sequence[Term]]
    """Of each base what the first arm's gain is made of, where there are controls."""
    outcomes: Mapping[str, Mapping[str, Mapping[int, Outcome]]]
    """Runs of each base by arm or control, and then by seed."""
    notes: tuple[str, ...]
    """What the plan names and the folder does not hold, and what the runs were made on, one line each."""
    complete: bool = True
    """Whether every planned run has come to its end. Before, nothing is decided."""
    attempts: tuple[Tried, ...] = ()
    """What was tried with each arm before, where the study tunes."""
    exploratory: StudyVerdict | None = None
    """The same with the seeds, arms and bases that were added after the study began."""
    name: str = "study"
    """What the study's folder is called."""
    mixed: bool = False
    """Whether runs of one seed were made on several kinds of processor, which an arm's difference may be due to."""

    @property
    def decided(self) -> bool:
        """Whether all planned runs have ended, and every planned pair is decided on every base."""
        pairs = [pair for comparison in self.bases.values() for pair in comparison.pairs]
        known = bool(pairs) and not self.not_compared
        planned = self.settled and not self.plan.is_late
        return planned and known and all(pair.ending != "undecided" for pair in pairs)

    @property
    def settled(self) -> bool:
        """Whether there is anything that could be decided: all runs have ended, and seeds are comparable."""
        return self.complete and not self.mixed

    @property
    def not_compared(self) -> list[tuple[str, str, str]]:
        """Base and arms of the planned pairs whose runs came to no result that could be compared."""
        found = []
        for base, (first, second) in itertools.product(self.plan.bases, pairs_of(self.plan.arms, self.plan.baseline)):
            pairs = self.bases[base].pairs if base in self.bases else ()
            if not any({pair.first, pair.second} == {first, second} for pair in pairs):
                found.append((base, first, second))
        return found

    @property
    def exit_code(self) -> int:
        """0 where all is decided, or nothing was to be; 3 else."""
        return DECIDED if self.decided or (self.complete and len(self.plan.arms) == 1) else UNDECIDED

    @property
    def next_step(self) -> str:
        """What to do about it, in one line."""
        if not self.complete:
            return "Next: give the study's command again, which goes on where it stopped."
        if self.plan.is_late:
            return "Next: the same on other seeds, whose plan is there before its runs (study=NAME)."
        if self.mixed:
            return "Next: run it on one kind of processor, in a study of its own (study=NAME)."
        if self.decided:
            bases = "this base" if len(self.plan.bases) == 1 else "these bases"
            return (
                f"Next: nothing, on these problems and {bases}. A study that sweeps policy= tells whether it holds on "
                "another base; verify.py STUDY n=2 makes two of its runs again, bit for bit."
            )
        pairs = [pair for comparison in self.bases.values() for pair in comparison.pairs]
        purchases = next((comparison.purchases for comparison in self.bases.values() if comparison.purchases), ())
        return step.next_study(self.plan, pairs, self.name, purchases)

    def lines(self) -> list[str]:
        """The verdicts alone, a line each."""
        return [line for line, _ in self.judged_lines()]

    def judged_lines(self) -> list[tuple[str, bool]]:
        """The verdicts, and whether each is one: those first that are."""
        several = len(self.plan.bases) > 1
        said = f"{'exploratory, ' if self.plan.is_late else ''}{'' if self.settled else 'so far, '}"
        binds = self.settled and not self.plan.is_late
        lines = [] if self.complete else [(_NOT_YET, False)]
        lines += [(_MIXED, False)] if self.mixed else []
        lines += [
            (
                f"{said}{f'{base}: ' if several else ''}{pair.verdict}",
                binds and pair.ending != "undecided",
            )
            for base, comparison in self.bases.items()
            for pair in sorted(comparison.pairs, key=lambda pair: _ENDINGS.index(pair.ending))
        ]
        lines += [
            (
                f"{f'{base}: ' if several else ''}{first} and {second}: not compared, they have no seed with a result.",
                False,
            )
            for base, first, second in (self.not_compared if self.complete else ())
        ]
        return lines + ([(f"{said}{line}", self.decided) for line in self._over_bases()] if several else [])

    @property
    def summary(self) -> str:
        """How many pairs of a study that ended came to what, where there are many; else nothing."""
        counts = Counter(pair.ending for comparison in self.bases.values() for pair in comparison.pairs)
        if counts.total() <= _FEW or not self.settled or self.plan.is_late:
            return ""
        said = f"Of {counts.total()} pairs: {', '.join(f'{counts[e]} {e}' for e in _ENDINGS if counts[e])}."
        if len(self.bases) > 1:
            return said
        arms = sorted(next(iter(self.bases.values())).arms, key=lambda arm: -arm.scores.mean())
        return f"{said} Means: {', '.join(f'{100 * arm.scores.mean():.1f} ({arm.name})' for arm in arms)}."

    def _over_bases(self) -> Iterator[str]:
        """A count, and no interval: a few bases are not a sample of bases."""
        endings: dict[tuple[str, str], Counter[str]] = {}
        for comparison in self.bases.values():
            for pair in comparison.pairs:
                endings.setdefault((pair.first, pair.second), Counter())[pair.outcome] += 1
        for (first, second), counts in endings.items():
            bases, several = len(self.plan.bases), counts.most_common()
            said = ", ".join(f"{what} on {holds}" for what, holds in several)
            yield f"{first} and {second}: {said} of {bases} bases."

    def describe(self) -> str:
        """All of it as Markdown, the verdicts first."""
        said = [line for line in (*self.lines(), self.summary, self.next_step) if line]
        lines = [*said, ""] if self.bases else []
        for base in self.plan.bases:
            if len(self.plan.bases) > 1:
                lines += [f"### {base}", ""]
            if base in self.bases:
                lines += [text.details(self.bases[base]), ""]
            if base in self.terms:
                name = next(iter(self.plan.arms))
                what = name if len(self.plan.arms) > 1 else "the arm"
                lines += [*table(self.terms[base], what), ""]
        lines += tuning.table(self.plan, self.attempts)
        lines += [f"exploratory: {change}" for change in self.plan.changes]
        if self.exploratory is not None:
            lines += [f"exploratory, with what was added later: {line}" for line in self.exploratory.lines()]
        return "\n".join([*lines, *self.notes]).rstrip()

    def write(self, folder: Path) -> None:
        """Write it to a study's folder, as Markdown and as JSON."""
        write_text(folder / VERDICT_FILE, self.page())
        write_json(folder / VERDICT_JSON, _rounded(finite(self.as_json())))

    def page(self) -> str:
        """What is written as Markdown."""
        return f"# {self.plan.question}\n\n{self.describe()}\n"

    def as_json(self) -> dict[str, Any]:
        """Numbers and names."""
        return {
            "kind": "study",
            "question": self.plan.question,
            "plan": self.plan.digest,
            "margin": self.plan.margin,
            "decided": self.decided,
            "verdicts": self.lines(),
            "bases": {base: comparison.as_json() for base, comparison in self.bases.items()},
            "terms": {base: [asdict(term) for term in terms] for base, terms in self.terms.items()},
            "exploratory": list(self.plan.changes),
            "notes": list(self.notes),
        }


def _rounded(value: Any) -> Any:
    """Numbers to nine digits, which are the same on every processor."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def judge(plan: StudyPlan, folder: Path, *, seeds_done: int | None = None) -> StudyVerdict:
    """The verdict over the runs of a study that are in its folder.

    Args:
        plan: What was planned.
        folder: The study's.
        seeds_done: Only so many of the planned seeds, at a look; None: all, or those of the last look that is done.

    Raises:
        OutcomeError: Runs of one arm differ in more than their seeds, or there are no two arms to compare.
        FileError: A file of a run is damaged.
    """
    found, ended = runs_of(plan, folder)
    if plan.looks and seeds_done is None:
        seeds_done = plan.ended_after or _last_look(plan, found, ended)
    planned = plan.seeds if seeds_done is None else plan.seeds[:seeds_done]
    found = {place: {s: run for s, run in runs.items() if s in planned} for place, runs in found.items()}
    if plan.baseline is not None and not any(found.get((base, plan.baseline)) for base in plan.bases):
        raise OutcomeError(f"{folder}: {plan.baseline}, which the others are compared with, has no result yet.")
    compared, terms, notes, complete = {}, {}, [], True
    mixed: list[int] = []
    for base in plan.bases:
        arms = {arm: found[base, arm] for arm in plan.arms if found.get((base, arm))}
        of_base = [outcome for (place, _), runs in found.items() if place == base for outcome in runs.values()]
        _refuse_unlike(of_base, plan)
        notes += said_of_machines(base, of_base)
        mixed += mixed_seeds(of_base)
        for arm in plan.arms:
            left = [seed for seed in planned if seed not in found.get((base, arm), {})]
            why = {seed: ended.get((base, arm, seed)) for seed in left}
            complete = complete and all(why.values())
            notes += [f"{arm} on {base}, seed {seed}: {reason}" for seed, reason in why.items() if reason]
            waiting = ", ".join(str(seed) for seed, reason in why.items() if not reason)
            notes += [f"{arm} on {base}: no result of {REPETITION} {waiting}"] if waiting else []
        comparable = len(arms) > 1 and plan.baseline in (None, *arms)
        if comparable and set.intersection(*(set(runs) for runs in arms.values())):
            settings: dict[str, Any] = {"metric": plan.metric, "margin": plan.margin / 100, "baseline": plan.baseline}
            compared[base] = (
                compare_at_looks(arms, planned, plan.looks, **settings)
                if plan.looks
                else compare_arms(arms, **settings)
            )
        controls = {name: found.get((base, f"{_CONTROL}{name}"), {}) for name in plan.controls}
        first = found.get((base, next(iter(plan.arms))))
        for name, runs in controls.items():
            left = [seed for seed in planned if seed not in runs]
            missing = [str(seed) for seed in left if (base, f"{_CONTROL}{name}", seed) not in ended]
            complete = complete and not missing
            notes += [f"{name} reward on {base}: no result of {REPETITION} {', '.join(missing)}"] if missing else []
        if first and (made := decompose(first, controls)):
            terms[base] = made
    if not compared and not terms:
        raise OutcomeError(f"{folder}: no two arms have a seed in common yet. {'; '.join(notes[:4])}")
    by_base = {
        base: {
            name.removeprefix(_CONTROL): found[base, name]
            for name in (*plan.arms, *(f"{_CONTROL}{control}" for control in plan.controls))
            if (base, name) in found
        }
        for base in plan.bases
    }
    more = None
    if (plan.later_seeds or plan.later_arms or plan.later_bases) and not plan.looks:
        try:
            more = judge(plan.enlarged, folder)
        except OutcomeError as error:
            notes.append(f"exploratory, with what was added later: {error}")
    attempts = tuple(tuning.tried(plan, folder))
    return StudyVerdict(
        plan, compared, terms, by_base, tuple(notes), complete, attempts, more, folder.resolve().name, bool(mixed)
    )


def verdict_of(
    found: Mapping[str, StudyComparison],
    outcomes: Mapping[str, Mapping[str, Mapping[int, Outcome]]],
    *,
    margin: float,
    looks: Sequence[int] = (),
    baseline: str | None = None,
) -> StudyVerdict:
    """The verdict over comparisons of runs that no plan of ours is of, as those of another trainer.

    Args:
        found: By base.
        outcomes: The runs by base, arm and seed.
        margin: In points.
        looks: As for `grouprl.studies.seeds.compare_arms`.
        baseline: As there.
    """
    arms: dict[str, tuple[str, ...]] = {name: () for of_base in outcomes.values() for name in of_base}
    seeds = dict.fromkeys(seed for of_base in outcomes.values() for runs in of_base.values() for seed in runs)
    plan = StudyPlan(
        arms=arms,
        seeds=tuple(seeds),
        bases=dict.fromkeys(outcomes, ()),
        question=question_of(arms),
        margin=margin,
        looks=tuple(looks),
        baseline=baseline,
    )
    return StudyVerdict(plan, found, {}, outcomes, ())


def _last_look(
    plan: StudyPlan,
    found: Mapping[tuple[str, str], Mapping[int, Outcome]],
    ended: Collection[tuple[str, str, int]],
) -> int:
    """The last look whose seeds have all come to an end on all bases; of a study that has come to none, its first."""
    places = [(base, arm) for base in plan.bases for arm in plan.arms]

    def is_done(look: int) -> bool:
        return all(s in found.get(p, {}) or (*p, s) in ended for p in places for s in plan.seeds[:look])

    done = [look for look in plan.looks if is_done(look)]
    return done[-1] if done else plan.looks[0]


def runs_of(
    plan: StudyPlan, folder: Path
) -> tuple[dict[tuple[str, str], dict[int, Outcome]], dict[tuple[str, str, int], str]]:
    """Outcomes of a plan's ended runs by base and arm, and then by seed; and why others that ended have none.

    Raises:
        OutcomeError: Two runs are the same one, or one is not what was written.
    """
    of_controls = {f"{_CONTROL}{name}": overrides for name, overrides in plan.controls.items()}
    arms = [*plan.arms.items(), *of_controls.items()]
    wanted = {}
    for (base, in_base), (arm, in_arm) in itertools.product(plan.bases.items(), arms):
        overrides = (*_without_reward(plan.common, in_arm), *in_base, *in_arm, *_tuned(plan, base, arm))
        wanted[identifying_options(overrides)] = base, arm
    found: dict[tuple[str, str], dict[int, Outcome]] = {}
    without: dict[tuple[str, str, int], str] = {}
    for record in records_in(folder):
        result, run = record.result, record.place
        place, seed = wanted.get(identifying_options(result.get("overrides", ()))), result.get(REPETITION)
        if place is None or seed not in plan.seeds or result["state"] not in ENDED:
            continue
        if seed in found.get(place, {}) or (*place, seed) in without:
            raise OutcomeError(f"{run} and another folder hold the same run: {place[1]}, {REPETITION} {seed}.")
        if faults := record.edited(weights=False):
            raise OutcomeError(f"{run}: its {' and '.join(faults)} is not what was written. {EDITED}")
        try:
            found.setdefault(place, {})[seed] = record.outcome()
        except OutcomeError as error:
            without[(*place, seed)] = f"{result['state']}: {error}"
    return found, without


def _without_reward(common: Sequence[str], in_arm: Sequence[str]) -> list[str]:
    """What all runs share, but for the reward where an arm has its own: that of a control."""
    own = any(override.startswith("reward=") for override in in_arm)
    return [override for override in common if not (own and is_of_reward(override))]


def _tuned(plan: StudyPlan, base: str, arm: str) -> list[str]:
    """The tuned option of an arm's runs; a control has the first arm's."""
    best = plan.tuned.get(base, {})
    value = best.get(arm, best.get(next(iter(plan.arms))))
    return [f"{plan.tuning.option}={value}"] if plan.tuning is not None and value is not None else []


def _refuse_unlike(outcomes: Sequence[Outcome], plan: StudyPlan) -> None:
    """Runs of one base whose difference is not that of their arms."""
    if len({outcome.heldout for outcome in outcomes}) > 1:
        raise OutcomeError("Runs of one base were measured on different held-out problems: they cannot be compared.")
    swept = {override.partition("=")[0] for arm in plan.arms.values() for override in arm}
    if said := other_conditions(outcomes, asked=swept):
        raise OutcomeError(f"{said}. They cannot be compared; give the study's command again.")
    arms: dict[frozenset[str], list[Outcome]] = {}
    for outcome in outcomes:
        arms.setdefault(identifying_options(outcome.overrides), []).append(outcome)
    for runs in arms.values():
        if keys := differing_settings(runs):
            names = " and ".join(run.name for run in runs[:2])
            raise OutcomeError(
                f"{names} are one arm, and differ in {', '.join(keys)}: they cannot be compared. Give the study's "
                "command again."
            )
