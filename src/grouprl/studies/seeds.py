"""Arms of a study compared over paired seeds: differences with intervals, what they rest on, and what to do next."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grouprl.statistics.crossed import Purchase, VarianceSplit, crossed, next_hour, variance_split
from grouprl.statistics.proportions import pass_at_k
from grouprl.statistics.seeds import (
    LEVEL,
    SeedTest,
    correlation,
    equivalence,
    paired_t,
    sd_interval,
    seeds_needed,
    sign_flip,
    welch,
)
from grouprl.statistics.sequential import Ending, ending_of, nominal_level
from grouprl.statistics.several import PairTest, max_t
from grouprl.studies.outcomes import Outcome, OutcomeError
from grouprl.studies.plan import Metric

COVERAGE = 8
"""Samples of which one has to be right for a problem to count as covered."""
UNCORRELATED = 0.2
"""Correlation of paired seeds below which the unpaired test is set beside."""

_MANY = 5000
"""Seeds that nobody runs: what is needed is said as "at least"."""


@dataclass(frozen=True)
class Arm:
    """An arm over its seeds."""

    name: str
    seeds: tuple[int, ...]
    shares: np.ndarray
    """The metric for each problem, [seeds, problems]."""
    greedy: np.ndarray
    """Greedy accuracy, [seeds]; NaN where it is not known."""
    coverage: np.ndarray
    """pass@8 for each problem, [seeds, problems]; of fewer samples pass@k of all k."""
    samples: int
    seconds: float
    """Mean of a run."""
    seconds_of_sample: float
    """To draw one sample more of every problem, mean over the runs; NaN where that is not known."""

    @property
    def scores(self) -> np.ndarray:
        """The metric, [seeds]."""
        return self.shares.mean(axis=1)


@dataclass(frozen=True)
class PairComparison:
    """Two arms over the seeds that both have: ``second`` minus ``first``, as shares."""

    first: str
    second: str
    test: PairTest
    """Student's t on these problems, alone and together with the other pairs."""
    flips: float
    """Exact p-value of sign flips."""
    general: SeedTest
    """On problems like these."""
    unpaired: SeedTest | None
    """Welch's t, where paired seeds hardly correlate."""
    greedy: SeedTest | None
    """None where it is not known."""
    coverage: SeedTest
    """Of pass@8."""
    solved: int
    """Problems that more than half of the second arm's runs solve at least once, and of the first arm's none."""
    lost: int
    """The other way."""
    equivalence_p: float
    """Of two one-sided tests; not used where there are several looks."""
    correlation: float
    margin: float
    level: float = LEVEL
    """What the p-value of all pairs together is compared with."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds that the study looks after; empty: it looks once."""
    same: bool = False
    """Whether every problem has the same score in both arms, for every seed."""
    pairs: int = 1
    """How many are compared together."""

    @property
    def ending(self) -> Ending:
        """What the study says of the pair. With several looks one interval says all of it."""
        if self.same:
            return "identical"
        if self.test.single.sd == 0 and self.test.single.value == 0:
            return "equivalent"  # the same scores, and not the same completions
        if self.looks:
            return ending_of(self.test.single, self.level, self.margin)
        if self.test.p_value < self.level:
            return "better"
        return "equivalent" if self.equivalence_p < LEVEL else "undecided"

    @property
    def better(self) -> str | None:
        """The better arm, where one is."""
        if self.ending != "better":
            return None
        return self.second if self.test.single.value > 0 else self.first

    @property
    def outcome(self) -> str:
        """The ending in words that are the same on every base."""
        return self.ending if self.better is None else f"{self.better} better"

    @property
    def more_seeds(self) -> tuple[int, int] | None:
        """How many more would show a difference as large as the margin four times in five: a range, as the sd is one.

        None where no number of seeds is known, or no more are needed.
        """
        seeds, sd = self.test.single.seeds, self.test.single.sd
        if not sd > 0:
            return None
        low, high = (seeds_needed(self.margin, spread, level=self.planned_level) for spread in sd_interval(sd, seeds))
        return (max(1, low - seeds), high - seeds) if high > seeds else None

    @property
    def planned_level(self) -> float:
        """Of one test: that of the looks, or Bonferroni's share for all pairs."""
        return self.level if self.looks else self.level / self.pairs

    @property
    def verdict(self) -> str:
        """One sentence."""
        points, test = 100 * self.test.single.value, self.test
        interval = f"[{100 * test.low:+.1f}, {100 * test.high:+.1f}]"
        margin = f"{100 * self.margin:g} point{'s' if self.margin != 0.01 else ''}"
        if self.ending == "identical":
            return f"{self.first} and {self.second} are identical on every seed."
        if self.better is not None:
            worse = self.first if self.better == self.second else self.second
            low, high = sorted((abs(100 * test.low), abs(100 * test.high)))
            return f"{self.better} is better than {worse} by {abs(points):.1f} points [{low:.1f}, {high:.1f}]."
        if self.ending == "equivalent":
            return f"{self.first} and {self.second} are equivalent within {margin}: {points:+.1f} {interval}."
        if test.single.seeds == 1:
            return f"{self.first} against {self.second}: one seed decides nothing."
        if math.isnan(test.p_value):
            return (
                f"{self.second} against {self.first}: every seed differs by {points:+.1f} points: no test is possible."
            )
        said = f"{self.second} against {self.first} is undecided: {points:+.1f} points {interval}"
        if self.more_seeds is None:
            return f"{said}; a difference of {margin} would most likely have been seen."
        low, high = self.more_seeds
        more = f"between {low} and {high}" if high < _MANY else f"at least {low}"
        return f"{said}; {more} more seeds would show a difference of {margin} four times in five."


@dataclass(frozen=True)
class StudyComparison:
    """All arms and pairs."""

    metric: Metric
    arms: tuple[Arm, ...]
    pairs: tuple[PairComparison, ...]
    split: VarianceSplit | None
    """Of the first pair's difference."""
    purchases: tuple[Purchase, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Numbers and names."""
        return {
            "metric": self.metric,
            "arms": [
                {"name": a.name, "seeds": list(a.seeds), "scores": a.scores.tolist(), "greedy": a.greedy.tolist()}
                for a in self.arms
            ],
            "pairs": [
                asdict(pair)
                | {"verdict": pair.verdict, "ending": pair.ending, "better": pair.better, "more_seeds": pair.more_seeds}
                for pair in self.pairs
            ],
            "split": None if self.split is None else asdict(self.split),
            "next_hour": [asdict(purchase) for purchase in self.purchases],
            "notes": list(self.notes),
        }


def compare_arms(
    arms: Mapping[str, Mapping[int, Outcome]],
    *,
    metric: Metric = "final",
    margin: float = 0.01,
    baseline: str | None = None,
    looks: Sequence[int] = (),
) -> StudyComparison:
    """Compare arms over the seeds that all of them have.

    Args:
        arms: Runs by arm and seed (`grouprl.studies.outcomes.arms_of`).
        metric: The primary metric, named before the runs.
        margin: The largest difference that does not matter, as a share, named before the runs.
        baseline: The arm that the others are compared with; None: all pairs.
        looks: Numbers of seeds that the study looks after, of which this is one; empty: it looks once.

    Raises:
        OutcomeError: Fewer than two arms, or no seed that all have.
    """
    if len(arms) < 2:
        raise OutcomeError("The runs differ in nothing but their seeds: a comparison takes two arms.")
    shared = sorted(set.intersection(*(set(runs) for runs in arms.values())))
    if not shared:
        raise OutcomeError("The arms have no seed in common: run them with the same seeds.")
    left = {name: sorted(set(runs) - set(shared)) for name, runs in arms.items() if set(runs) - set(shared)}
    notes = [f"{name}: left out, since another arm lacks them: seeds {seeds}" for name, seeds in left.items()]
    notes += [
        f"{outcome.name}: {outcome.state}, counted with its last evaluation, after {outcome.last.iteration} iterations"
        for runs in arms.values()
        for outcome in runs.values()
        if outcome.state != "finished"
    ]
    taken = {name: [runs[seed] for seed in shared] for name, runs in arms.items()}
    every = [outcome for runs in taken.values() for outcome in runs]
    problems = {outcome.last.correct.shape[0] for outcome in every}
    if len(problems) > 1:
        raise OutcomeError(f"The runs were measured on {' and '.join(map(str, sorted(problems)))} held-out problems.")
    tokens = min((float(outcome.tokens[-1]) for outcome in every if outcome.tokens[-1]), default=0.0)
    size = min(COVERAGE, *(outcome.last.correct.shape[1] for outcome in every))
    made = tuple(_arm(name, runs, metric, tokens, size) for name, runs in taken.items())
    by_name = {arm.name: arm for arm in made}
    tests, level = _tests({arm.name: arm.scores.tolist() for arm in made}, baseline, looks)
    pairs = tuple(
        _pair(by_name[test.first], by_name[test.second], test, margin, level, tuple(looks), len(tests))
        for test in tests
    )
    first, second = by_name[tests[0].first], by_name[tests[0].second]
    split = None
    of_samples = metric == "final" and first.samples == second.samples
    if len(shared) > 1 and of_samples and first.shares.shape[1] > 1:
        split = variance_split(first.shares, first.samples, second.shares)
    return StudyComparison(metric, made, pairs, split, _purchases(split, first), tuple(notes))


def _tests(
    scores: Mapping[str, Sequence[float]], baseline: str | None, looks: Sequence[int]
) -> tuple[list[PairTest], float]:
    """Tests of all pairs, and the level that their p-values are compared with."""
    if not looks:
        return max_t(scores, baseline), LEVEL
    level = nominal_level(tuple(looks), len(scores), against_baseline=baseline is not None)
    pairs = itertools.combinations(scores, 2) if baseline is None else ((baseline, n) for n in scores if n != baseline)
    tests = []
    for first, second in pairs:
        test = paired_t([b - a for a, b in zip(scores[first], scores[second], strict=True)], level)
        tests.append(PairTest(first, second, test, test.low, test.high, test.p_value))
    return tests, level


def _arm(name: str, runs: Sequence[Outcome], metric: Metric, tokens: float, size: int) -> Arm:
    samples = min(run.last.correct.shape[1] for run in runs)
    covered = [
        [pass_at_k(len(marks), int(marks.sum()), size) for marks in run.last.correct[:, :samples]] for run in runs
    ]
    return Arm(
        name=name,
        seeds=tuple(run.seed for run in runs),
        shares=np.stack([run.scores(metric, tokens) for run in runs]),
        greedy=np.array([run.last.greedy.mean() if run.last.greedy.size else math.nan for run in runs]),
        coverage=np.array(covered),
        samples=samples,
        seconds=float(np.mean([run.seconds for run in runs])),
        seconds_of_sample=float(np.mean([run.seconds_of_sample for run in runs])),
    )


def _pair(
    first: Arm, second: Arm, test: PairTest, margin: float, level: float, looks: tuple[int, ...], pairs: int
) -> PairComparison:
    differences = (second.scores - first.scores).tolist()
    related = correlation(first.scores.tolist(), second.scores.tolist())
    several, greedy = len(differences) > 1, second.greedy - first.greedy
    solved = [(arm.coverage > 0).mean(axis=0) for arm in (first, second)]
    return PairComparison(
        first=first.name,
        second=second.name,
        test=test,
        flips=sign_flip(differences) if several else math.nan,
        general=crossed(second.shares - first.shares),
        unpaired=welch(first.scores.tolist(), second.scores.tolist()) if several and related < UNCORRELATED else None,
        greedy=None if np.isnan(greedy).any() else paired_t(greedy.tolist()),
        coverage=paired_t((second.coverage.mean(axis=1) - first.coverage.mean(axis=1)).tolist()),
        solved=int(((solved[1] > 0.5) & (solved[0] == 0)).sum()),
        lost=int(((solved[0] > 0.5) & (solved[1] == 0)).sum()),
        equivalence_p=equivalence(differences, margin),
        correlation=related,
        margin=margin,
        level=level,
        looks=looks,
        same=np.array_equal(first.shares, second.shares)
        and np.array_equal(first.greedy, second.greedy, equal_nan=True),
        pairs=pairs,
    )


def _purchases(split: VarianceSplit | None, arm: Arm) -> tuple[Purchase, ...]:
    if split is None or not (arm.seconds > 0 and arm.seconds_of_sample > 0):
        return ()
    return tuple(next_hour(split, seconds_of_run=arm.seconds, seconds_of_sample=arm.seconds_of_sample))
