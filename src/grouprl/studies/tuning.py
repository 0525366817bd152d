"""Equal tuning: every arm tries the same values on the same seeds, and goes into the study with its own best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from grouprl.studies.outcomes import Outcome, horizon
from grouprl.studies.plan import EDITED, REPETITION, OutcomeError, StudyPlan, identifying_options
from grouprl.studies.records import records_in
from grouprl.training.records import ENDED


@dataclass(frozen=True)
class Tried:
    """What an arm scored on a base with each value."""

    base: str
    arm: str
    scores: Mapping[str, Sequence[float]]
    """The metric of each run by value, in the order of the grid; of a value whose runs scored nothing none."""
    runs: int = 0
    """Of each value. One that lost a run is not taken where another lost fewer: it may be lost again."""

    @property
    def best(self) -> str:
        """The value with the highest mean."""
        most = max(len(scores) for scores in self.scores.values())
        means = {
            value: float(np.mean(scores)) for value, scores in self.scores.items() if scores and len(scores) == most
        }
        if not means:
            raise OutcomeError(f"{self.arm} on {self.base}: no run of the tuning scored anything.")
        return max(means, key=means.__getitem__)

    @property
    def is_tuned(self) -> bool:
        """Whether the best value lies inside of the grid: at its edge a better one may lie beyond."""
        return self.best not in (next(iter(self.scores)), list(self.scores)[-1])


def tried(plan: StudyPlan, folder: Path) -> list[Tried]:
    """What the runs of the tuning scored, in the order of bases and arms; nothing where nothing was tuned."""
    if plan.tuning is None:
        return []
    outcomes: dict[tuple[frozenset[str], object], Outcome] = {}
    for record in records_in(folder):
        if record.result.get(REPETITION) not in plan.tuning.seeds or record.result["state"] not in ENDED:
            continue
        if faults := record.edited(weights=False):
            raise OutcomeError(f"{record.place}: its {' and '.join(faults)} is not what was written. {EDITED}")
        try:
            outcome = record.outcome()
        except OutcomeError:
            continue  # it failed before its first evaluation
        outcomes[identifying_options(record.result.get("overrides", ())), record.result[REPETITION]] = outcome
    tokens = horizon([outcomes.values()]) if outcomes else 0.0
    found = {run: float(outcome.scores(plan.metric, tokens).mean()) for run, outcome in outcomes.items()}
    made = []
    for base, in_base in plan.bases.items():
        for arm, in_arm in plan.arms.items():
            scores = {}
            for value in plan.tuning.values:
                options = identifying_options((*plan.common, *in_base, *in_arm, f"{plan.tuning.option}={value}"))
                runs = [found.get((options, seed)) for seed in plan.tuning.seeds]
                scores[value] = [score for score in runs if score is not None]
            made.append(Tried(base, arm, scores, len(plan.tuning.seeds)))
    return made


def tuned(plan: StudyPlan, folder: Path) -> StudyPlan:
    """The plan with the best value of each arm on each base.

    Raises:
        OutcomeError: An arm scored nothing.
    """
    best: dict[str, dict[str, str]] = {base: {} for base in plan.bases}
    for one in tried(plan, folder):
        best[one.base][one.arm] = one.best
    return replace(plan, tuned=best)


def _lost(scored: int, runs: int) -> str:
    """How many runs of a value came to a score, where not all did."""
    return f" ({scored} of {runs} runs)" if scored < runs else ""


def table(plan: StudyPlan, attempts: Sequence[Tried]) -> list[str]:
    """Each arm's curve as Markdown, and which arms are not tuned."""
    if plan.tuning is None or not attempts:
        return []
    seeds = ", ".join(map(str, plan.tuning.seeds))
    lines = [
        f"Tuned before the study: {plan.tuning.option}, the same values for every arm, seeds {seeds}. In percent.",
        "",
    ]
    lines[0] += " Scored on the study's own held-out problems, which is kinder to an arm with more to choose from."
    lines.append(f"| arm | {' | '.join(plan.tuning.values)} | taken |")
    lines.append("|" + "---|" * (len(plan.tuning.values) + 2))
    for one in attempts:
        cells = [
            (f"{100 * float(np.mean(scores)):.1f}" if scores else "-") + _lost(len(scores), one.runs)
            for scores in one.scores.values()
        ]
        name = one.arm if len(plan.bases) == 1 else f"{one.arm} on {one.base}"
        lines.append(f"| {name} | {' | '.join(cells)} | {one.best}{'' if one.is_tuned else ', not tuned'} |")
    lines.append("")
    for one in attempts:
        if not one.is_tuned:
            lines.append(
                f"not tuned: the best {plan.tuning.option} of {one.arm} on {one.base}, {one.best}, is at the edge of "
                "the grid; a better one may lie beyond (tune_grid)."
            )
    return [*lines, ""]
