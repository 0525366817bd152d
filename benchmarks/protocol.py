"""A reward beside random reward as grpo-decomp reports it: over seeds, and of frozen completions.

    python benchmarks/protocol.py experiments/STUDY      # a study with controls, as runs or as published

For the first arm against random reward, on each base: Student's t over the paired seeds; and of each seed's final
greedy completions, question by question, the exact McNemar p, and the bootstrap interval of the difference in pass@1.
What a seed's completions say holds for its two policies alone; the seeds say what holds for the arms.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import report

from grouprl.files import FileError
from grouprl.statistics.questions import PairedTest, mcnemar
from grouprl.statistics.seeds import SeedTest, paired_t
from grouprl.studies.outcomes import Outcome
from grouprl.studies.plan import OutcomeError, read_plan
from grouprl.studies.verdict import judge

CONTROL = "random"
RESAMPLES = 10_000


@dataclass(frozen=True)
class OfSeed:
    """Two runs of a seed, on the same questions."""

    seed: int
    greedy: PairedTest
    difference: float
    """In pass@1."""
    low: float
    high: float


def bootstrap_interval(differences: Sequence[float], draws: np.ndarray, level: float = 0.05) -> tuple[float, float]:
    """Percentile interval of a mean over questions (Efron 1979), of given draws so that others can repeat it.

    Args:
        differences: Second policy minus first, one for each question.
        draws: Questions of each resample by index, [resamples, questions].
        level: 1 minus the interval's coverage.

    Raises:
        ValueError: Draws that are no resamples of these questions.
    """
    values = np.asarray(differences, dtype=float)
    if draws.ndim != 2 or draws.shape[1] != len(values) or not len(values):
        raise ValueError(f"Draws of shape {draws.shape} for {len(values)} questions: give [resamples, questions].")
    low, high = np.quantile(values[draws].mean(axis=1), [level / 2, 1 - level / 2])
    return float(low), float(high)


def draws_of(questions: int, resamples: int = RESAMPLES) -> np.ndarray:
    """The questions of each resample by index, [resamples, questions]."""
    return np.random.default_rng(0).integers(questions, size=(resamples, questions))


def over_seeds(arm: Mapping[int, Outcome], control: Mapping[int, Outcome]) -> SeedTest:
    """The arm's final pass@1 minus the control's, over the seeds that both have."""
    shared = sorted(arm.keys() & control.keys())
    return paired_t([float(arm[s].last.correct.mean() - control[s].last.correct.mean()) for s in shared])


def of_seed(arm: Outcome, control: Outcome, draws: np.ndarray) -> OfSeed:
    """The final completions of two runs, question by question."""
    differences = arm.last.shares - control.last.shares
    low, high = bootstrap_interval(differences.tolist(), draws)
    greedy = mcnemar(control.last.greedy.tolist(), arm.last.greedy.tolist())
    return OfSeed(arm.seed, greedy, float(differences.mean()), low, high)


def lines_of(arm: Mapping[int, Outcome], control: Mapping[int, Outcome]) -> list[str]:
    """Both tables, as Markdown."""
    test = over_seeds(arm, control)
    rows = []
    for seed in sorted(arm.keys() & control.keys()):
        draws = draws_of(len(arm[seed].last.shares))
        one = of_seed(arm[seed], control[seed], draws)
        interval = f"{100 * one.difference:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
        rows.append([str(seed), f"{100 * one.greedy.difference:+.1f}", f"{one.greedy.p_value:.2g}", interval])
    return [
        f"Over {test.seeds} seeds, pass@1: {100 * test.value:+.2f} [{100 * test.low:+.2f}, {100 * test.high:+.2f}] "
        f"points, p {test.p_value:.2g}.",
        "",
        *report.table(["seed", "greedy, points", "McNemar p", "pass@1, bootstrap over questions"], rows),
    ]


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study with controls=true")
    folder = parser.parse_args().study
    try:
        plan = read_plan(folder)
        if plan is None or CONTROL not in plan.controls:
            raise SystemExit(f"{folder}: no study with controls (train.py -m ... controls=true) is here.")
        for base, arms in judge(plan, folder).outcomes.items():
            name = next(iter(plan.arms))
            if not set(arms.get(name, {})) & set(arms.get(CONTROL, {})):
                raise SystemExit(f"{folder}: {name} and {CONTROL} reward have no seed with a result on {base}.")
            lines = lines_of(arms[name], arms[CONTROL])
            print("\n".join([f"## {name} beside {CONTROL} reward, {base}", "", *lines]))
    except (FileError, OutcomeError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
