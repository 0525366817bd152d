"""The verdict of a study: which arm is better on each base, by how much, whether that is noise, and what to do next."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grouprl.files import finite, write_json, write_text
from grouprl.studies import seeds
from grouprl.studies.decomposition import Term, decompose, table
from grouprl.studies.outcomes import Outcome, OutcomeError, differing_settings, read_outcome
from grouprl.studies.plan import REPETITION, StudyPlan
from grouprl.studies.seeds import StudyComparison, compare_arms
from grouprl.studies.table import run_folders
from grouprl.training.records import portable_override, read_result

DECIDED, UNDECIDED = 0, 3
"""Exit codes of commands that end in a verdict; 1 and 2 are errors."""
VERDICT_FILE = "verdict.md"
_CONTROL = "control "
_OF_NO_ARM = (REPETITION, "study")


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

    @property
    def decided(self) -> bool:
        """Whether every pair is decided on every base."""
        pairs = [pair for comparison in self.bases.values() for pair in comparison.pairs]
        return all(pair.ending != "undecided" for pair in pairs)

    @property
    def exit_code(self) -> int:
        """0 decided, 3 undecided."""
        return DECIDED if self.decided else UNDECIDED

    def lines(self) -> list[str]:
        """The verdicts alone, a line each."""
        return [line for line, _ in self.judged_lines()]

    def judged_lines(self) -> list[tuple[str, bool]]:
        """The verdicts, and whether each is one."""
        several = len(self.plan.bases) > 1
        lines = [
            (f"{base}: {pair.verdict}" if several else pair.verdict, pair.ending != "undecided")
            for base, comparison in self.bases.items()
            for pair in comparison.pairs
        ]
        return lines + ([(line, self.decided) for line in self._over_bases()] if several else [])

    def _over_bases(self) -> Iterator[str]:
        """A count, and no interval: a few bases are not a sample of bases."""
        endings: dict[tuple[str, str], Counter[str]] = {}
        for comparison in self.bases.values():
            for pair in comparison.pairs:
                endings.setdefault((pair.first, pair.second), Counter())[pair.outcome] += 1
        for (first, second), counts in endings.items():
            what, holds = counts.most_common(1)[0]
            yield f"{first} and {second}: {what} on {holds} of {len(self.bases)} bases."

    def describe(self) -> str:
        """All of it as Markdown, the verdicts first."""
        lines = [*self.lines(), ""] if self.bases else []
        for base in self.plan.bases:
            if len(self.plan.bases) > 1:
                lines += [f"### {base}", ""]
            if base in self.bases:
                lines += [seeds.details(self.bases[base]), ""]
            if base in self.terms:
                lines += [f"What {next(iter(self.plan.arms))} gains is made of:", "", *table(self.terms[base]), ""]
        lines += [f"exploratory: {change}" for change in self.plan.changes]
        return "\n".join([*lines, *self.notes]).rstrip()

    def write(self, folder: Path) -> None:
        """Write it to a study's folder, as Markdown and as JSON."""
        write_text(folder / VERDICT_FILE, f"# {self.plan.question}\n\n{self.describe()}\n")
        write_json(folder / f"{Path(VERDICT_FILE).stem}.json", finite(self.as_json()))

    def as_json(self) -> dict[str, Any]:
        """Numbers and names."""
        return {
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
    found, faults = runs_of(plan, folder)
    seeds_done = _last_look(plan, found) if plan.looks and seeds_done is None else seeds_done
    planned = plan.seeds if seeds_done is None else plan.seeds[:seeds_done]
    found = {place: {s: run for s, run in runs.items() if s in planned} for place, runs in found.items()}
    outcomes = [outcome for arm in found.values() for outcome in arm.values()]
    _refuse_unlike(outcomes)
    compared, terms, notes = {}, {}, [*faults, *_said_of_machines(outcomes)]
    for base in plan.bases:
        arms = {arm: found[base, arm] for arm in plan.arms if found.get((base, arm))}
        lacking = [
            f"{arm} on {base}: no result of {REPETITION} {', '.join(map(str, left))}"
            for arm in plan.arms
            if (left := [seed for seed in planned if seed not in found.get((base, arm), {})])
        ]
        notes += lacking
        if len(arms) > 1 and set.intersection(*(set(runs) for runs in arms.values())):
            compared[base] = compare_arms(
                arms,
                metric=plan.metric,
                margin=plan.margin / 100,
                baseline=_present(plan.baseline, arms),
                looks=plan.looks,
            )
        controls = {
            name: found[base, f"{_CONTROL}{name}"] for name in plan.controls if (base, f"{_CONTROL}{name}") in found
        }
        first = found.get((base, next(iter(plan.arms))))
        if first and (made := decompose(first, controls)):
            terms[base] = made
    if not compared and not terms:
        raise OutcomeError(f"{folder}: no two arms have a seed in common yet. {'; '.join(notes[:4])}")
    by_base = {
        base: {name.removeprefix(_CONTROL): runs for (of, name), runs in found.items() if of == base}
        for base in plan.bases
    }
    return StudyVerdict(plan, compared, terms, by_base, tuple(notes))


def _last_look(plan: StudyPlan, found: Mapping[tuple[str, str], Mapping[int, Outcome]]) -> int:
    """The last look whose seeds all arms have on all bases; of a study that has come to none, its first."""
    places = [(base, arm) for base in plan.bases for arm in plan.arms]
    done = [look for look in plan.looks if all(set(plan.seeds[:look]) <= found.get(p, {}).keys() for p in places)]
    return done[-1] if done else plan.looks[0]


def _present(baseline: str | None, arms: Mapping[str, Any]) -> str | None:
    return baseline if baseline in arms else None


def runs_of(plan: StudyPlan, folder: Path) -> tuple[dict[tuple[str, str], dict[int, Outcome]], list[str]]:
    """Outcomes of a plan's runs by base and arm, and then by seed; and what is said of runs that have none."""
    of_controls = {f"{_CONTROL}{name}": overrides for name, overrides in plan.controls.items()}
    wanted = {
        _options((*_without_reward(plan.common, in_arm), *in_base, *in_arm)): (base, arm)
        for (base, in_base), (arm, in_arm) in itertools.product(
            plan.bases.items(), [*plan.arms.items(), *of_controls.items()]
        )
    }
    found: dict[tuple[str, str], dict[int, Outcome]] = {}
    faults = []
    for run in run_folders(folder):
        result = read_result(run) or {}
        place = wanted.get(_options(result.get("overrides", ())))
        if place is None or result.get(REPETITION) not in plan.seeds or result["state"] == "not run":
            continue
        try:
            outcome = read_outcome(run)
        except OutcomeError as error:
            faults.append(f"{run.name} ({result['state']}): {error}")
            continue
        found.setdefault(place, {})[outcome.seed] = outcome
    return found, faults


def _without_reward(common: Sequence[str], in_arm: Sequence[str]) -> list[str]:
    """What all runs share, but for the reward where an arm has its own: that of a control."""
    own = any(override.startswith("reward=") for override in in_arm)
    return [override for override in common if not (own and override.startswith("reward="))]


def _options(overrides: Sequence[str]) -> frozenset[str]:
    """What of a run's overrides says to which arm and base it belongs."""
    return frozenset(portable_override(o) for o in overrides if o.partition("=")[0] not in _OF_NO_ARM)


def _refuse_unlike(outcomes: Sequence[Outcome]) -> None:
    """Runs whose difference is not that of their arms."""
    for name in ("package", "threads", "precision"):
        values = {outcome.conditions.get(name): outcome.name for outcome in outcomes}
        if len(values) > 1:
            (one, first), (other, second) = list(values.items())[:2]
            what = (
                "were made by different versions of grouprl" if name == "package" else f"have {name} {one} and {other}"
            )
            raise OutcomeError(f"{first} and {second} {what}: they cannot be compared. Give the study's command again.")
    arms: dict[frozenset[str], list[Outcome]] = {}
    for outcome in outcomes:
        arms.setdefault(_options(outcome.overrides), []).append(outcome)
    for runs in arms.values():
        if keys := differing_settings(runs):
            names = " and ".join(run.name for run in runs[:2])
            raise OutcomeError(
                f"{names} are one arm, and differ in {', '.join(keys)}: they cannot be compared. Give the study's "
                "command again."
            )


def _said_of_machines(outcomes: Sequence[Outcome]) -> list[str]:
    """Notes on runs that were made on several kinds of processor."""
    kinds: dict[str, set[int]] = {}
    for outcome in outcomes:
        kinds.setdefault(str(outcome.conditions.get("processor")), set()).add(outcome.seed)
    if len(kinds) < 2:
        return []
    each = "; ".join(f"{kind}: seeds {', '.join(map(str, sorted(of)))}" for kind, of in kinds.items())
    mixed = set.intersection(*kinds.values())
    apart = f" Arms of seeds {sorted(mixed)} ran on different ones." if mixed else ""
    return [f"note: the runs were made on several kinds of processor ({each}).{apart}"]
