"""Arms of a study compared over paired seeds: differences with intervals, what they rest on, and what to do next."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from grouprl.statistics.crossed import (
    Purchase,
    VarianceSplit,
    crossed,
    next_hour,
    sampling_variance,
    variance_split,
)
from grouprl.statistics.proportions import pass_at_k
from grouprl.statistics.saturation import Saturation, compare_saturation, fit_saturation
from grouprl.statistics.seeds import LEVEL, correlation, differences_of, equivalence, paired_t, sign_flip, welch
from grouprl.statistics.sequential import look
from grouprl.statistics.several import PairTest, max_t
from grouprl.studies.outcomes import Outcome, horizon
from grouprl.studies.pairs import PairComparison
from grouprl.studies.plan import MEASURED, Metric, OutcomeError

COVERAGE = 8
"""Samples of which one has to be right for a problem to count as covered."""
MANY = 100
"""Samples on which no two runs agree by chance."""
UNCORRELATED = 0.2
"""Correlation of paired seeds below which the unpaired test is set beside."""


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
    marks: np.ndarray | None
    """Right or wrong, [seeds, problems, samples], where the metric is their mean; else None."""
    curves: tuple[Saturation | None, ...]
    """Of each seed, where its evaluations identify one."""
    trained: tuple[str | None, ...]
    """Digest of each seed's trained weights, None where it is not known."""
    samples: int
    """Of a problem, as many as all runs of the comparison have: those of coverage and of the variance's split."""
    seconds: float
    """Mean of a run."""
    seconds_of_sample: float
    """To draw one sample more of every problem, mean over the runs; NaN where that is not known."""

    @property
    def scores(self) -> np.ndarray:
        """The metric, [seeds]."""
        return self.shares.mean(axis=1)


@dataclass(frozen=True)
class StudyComparison:
    """All arms and pairs."""

    metric: Metric
    arms: tuple[Arm, ...]
    pairs: tuple[PairComparison, ...]
    purchases: tuple[Purchase, ...]
    """For the first pair that is undecided; of none where all are decided."""
    notes: tuple[str, ...]
    baseline: str | None = None
    """The arm that the others were compared with; None: all pairs."""
    measured: str = MEASURED["final"]
    """The metric in words."""

    @property
    def shown(self) -> list[PairComparison]:
        """The pairs as they are written down: what is better minus what is worse, or each arm minus the baseline."""
        keep = self.baseline is not None
        return [pair if keep or pair.better != pair.first else pair.turned() for pair in self.pairs]

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
    measured: str = "",
) -> StudyComparison:
    """Compare arms over the seeds that all of them have.

    Args:
        arms: Runs by arm and seed (`grouprl.studies.outcomes.arms_of`).
        metric: The primary metric, named before the runs.
        margin: The largest difference that does not matter, as a share, named before the runs.
        baseline: The arm that the others are compared with; None: all pairs.
        looks: Numbers of seeds that the study looks after, of which this is one; empty: it looks once.
        measured: What was measured, in words; empty: the metric's own.

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
    taken = {name: [runs[seed] for seed in shared] for name, runs in arms.items()}
    every = [outcome for runs in taken.values() for outcome in runs]
    notes += [
        f"{outcome.name}: {outcome.state}, counted with its last evaluation, after {outcome.last.iteration} iterations"
        for outcome in every
        if outcome.state != "finished"
    ]
    problems = {outcome.last.correct.shape[0] for outcome in every}
    if len(problems) > 1:
        raise OutcomeError(f"The runs were measured on {' and '.join(map(str, sorted(problems)))} held-out problems.")
    notes += _twice(taken)
    tokens = horizon(taken.values())
    sizes = [outcome.last.correct.shape[1] for outcome in every]
    samples = min(sizes)
    if samples < max(sizes):
        notes.append(
            f"The runs have {samples} to {max(sizes)} samples of a problem: coverage and problems solved by one alone "
            f"are of the first {samples}."
        )
    made = tuple(_arm(name, runs, metric, tokens, samples) for name, runs in taken.items())
    by_name = {arm.name: arm for arm in made}
    scores = {arm.name: arm.scores.tolist() for arm in made}
    tests, level = look(scores, looks, baseline) if looks else (max_t(scores, baseline), LEVEL)
    pairs = tuple(
        _pair(by_name[test.first], by_name[test.second], test, margin, level, tuple(looks), len(tests))
        for test in tests
    )
    undecided = next((pair for pair in pairs if pair.ending == "undecided"), None)
    purchases = () if undecided is None else _purchases(undecided, by_name[undecided.first])
    return StudyComparison(metric, made, pairs, purchases, tuple(notes), baseline, measured or MEASURED[metric])


def compare_at_looks(
    arms: Mapping[str, Mapping[int, Outcome]], seeds: Sequence[int], looks: Sequence[int], **settings: Any
) -> StudyComparison:
    """Compare arms at the last look that their seeds have come to.

    A pair that was decided at an earlier one keeps what was found there: repeated confidence intervals hold at all
    looks together, so that nothing is spent by it.

    Args:
        arms: Runs by arm and seed.
        seeds: Those that have been run, in the order of the plan.
        looks: All looks of the study, those to come included.
        settings: Of `grouprl.studies.seeds.compare_arms`.

    Raises:
        OutcomeError: See `compare_arms`.
    """
    earlier = None
    for after in [count for count in looks if count < len(seeds)]:
        at_look = {name: {s: run for s, run in runs.items() if s in seeds[:after]} for name, runs in arms.items()}
        try:
            earlier = keep_decided(compare_arms(at_look, looks=looks, **settings), earlier, after)
        except OutcomeError:
            continue  # its seeds came to nothing
    kept = {name: {s: run for s, run in runs.items() if s in seeds} for name, runs in arms.items()}
    return keep_decided(compare_arms(kept, looks=looks, **settings), earlier)


def keep_decided(found: StudyComparison, earlier: StudyComparison | None, after: int | None = None) -> StudyComparison:
    """A comparison with the pairs that an earlier look had decided.

    Args:
        found: Of all seeds so far.
        earlier: Of the look before; None: this is the first.
        after: Seeds that ``found`` is of, where later looks follow; None: it is the last.
    """
    before = {} if earlier is None else {(p.first, p.second): p for p in earlier.pairs if p.ending != "undecided"}
    pairs = [before.get((pair.first, pair.second), pair) for pair in found.pairs]
    if after is not None:
        pairs = [
            pair if pair.decided_after or pair.ending == "undecided" else replace(pair, decided_after=after)
            for pair in pairs
        ]
    undecided = any(pair.ending == "undecided" for pair in pairs)
    return replace(found, pairs=tuple(pairs), purchases=found.purchases if undecided else ())


def _twice(arms: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """Notes on seeds of one arm that are alike on every sample, as only one run can be whose samples are many.

    Raises:
        OutcomeError: They are one run: it did the same at every step.
    """
    notes = []
    for name, runs in arms.items():
        for one, other in itertools.combinations(runs, 2):
            did, also = ([run.digests.get(name) for name in ("metrics", "heldout")] for run in (one, other))
            a, b = one.last.correct, other.last.correct
            if len(np.unique(a)) < 2 or not np.array_equal(a, b):
                continue
            if all(did) and did == also:
                raise OutcomeError(f"{one.name} and {other.name} did the same at every step: they are one run, twice.")
            if a.size >= MANY:
                notes.append(
                    f"note: {name}: seeds {one.seed} and {other.seed} are alike on every sample of every problem. If "
                    "they are one run, written down twice, the verdict counts it twice."
                )
    return notes


def _arm(name: str, runs: Sequence[Outcome], metric: Metric, tokens: float, samples: int) -> Arm:
    marks = np.stack([run.last.correct[:, :samples] for run in runs])
    size = min(COVERAGE, samples)
    covered = np.array([pass_at_k(samples, count, size) for count in range(samples + 1)])[marks.sum(axis=2)]
    return Arm(
        name=name,
        seeds=tuple(run.seed for run in runs),
        shares=np.stack([run.scores(metric, tokens) for run in runs]),
        greedy=np.array([run.last.greedy.mean() if run.last.greedy.size else math.nan for run in runs]),
        coverage=covered,
        marks=marks if metric == "final" and all(run.last.correct.shape[1] == samples for run in runs) else None,
        curves=tuple(_curve(run) for run in runs),
        trained=tuple(run.digests.get("weights") for run in runs),
        samples=samples,
        seconds=float(np.mean([run.seconds for run in runs])),
        seconds_of_sample=float(np.mean([run.seconds_of_sample for run in runs])),
    )


def _pair(
    first: Arm, second: Arm, test: PairTest, margin: float, level: float, looks: tuple[int, ...], pairs: int
) -> PairComparison:
    differences = differences_of(first.scores, second.scores)
    related = correlation(first.scores.tolist(), second.scores.tolist())
    several, greedy = len(differences) > 1, second.greedy - first.greedy
    same = np.array_equal(first.shares, second.shares) and np.array_equal(first.greedy, second.greedy, equal_nan=True)
    solved = [(arm.coverage > 0).mean(axis=0) for arm in (first, second)]
    return PairComparison(
        first=first.name,
        second=second.name,
        test=test,
        flips=sign_flip(differences) if several else math.nan,
        general=crossed(np.round(second.shares - first.shares, 12), level),
        unpaired=welch(first.scores.tolist(), second.scores.tolist(), level)
        if several and related < UNCORRELATED
        else None,
        greedy=None if np.isnan(greedy).any() else paired_t(differences_of(first.greedy, second.greedy), level),
        coverage=paired_t(differences_of(first.coverage.mean(axis=1), second.coverage.mean(axis=1)), level),
        solved=int(((solved[1] > 0.5) & (solved[0] == 0)).sum()),
        lost=int(((solved[0] > 0.5) & (solved[1] == 0)).sum()),
        equivalence_p=equivalence(differences, margin),
        correlation=related,
        margin=margin,
        level=level,
        looks=looks,
        same=same,
        other_weights=any(a != b for a, b in zip(first.trained, second.trained, strict=True) if a and b),
        all_alike=_all_alike(first) if same else None,
        pairs=pairs,
        split=None if same else _split(first, second),
        saturation=None if same else compare_saturation(first.curves, second.curves),
    )


def _all_alike(arm: Arm) -> bool | None:
    """Right or wrong, where every completion of every run is; a missing greedy one says nothing."""
    marks = np.concatenate([arm.shares.ravel(), arm.greedy[~np.isnan(arm.greedy)]])
    return None if marks.min() != marks.max() or marks.max() not in (0.0, 1.0) else bool(marks.max())


def _curve(run: Outcome) -> Saturation | None:
    return fit_saturation(run.tokens.tolist(), [float(evaluation.shares.mean()) for evaluation in run.evaluations])


def _split(first: Arm, second: Arm) -> VarianceSplit | None:
    """Of the difference; None where one has not the samples."""
    a, b = first.marks, second.marks
    if a is None or b is None or a.shape != b.shape or min(a.shape) < 2:
        return None
    return variance_split(first.shares, first.samples, second.shares, sample=sampling_variance(a, b))


def _purchases(pair: PairComparison, arm: Arm) -> tuple[Purchase, ...]:
    """What an hour more buys, in proportion to the standard error that was seen: the split's parts are rough."""
    if pair.split is None or not (arm.seconds > 0 and arm.seconds_of_sample > 0):
        return ()
    found = next_hour(pair.split, seconds_of_run=arm.seconds, seconds_of_sample=arm.seconds_of_sample)
    now = next(purchase.standard_error for purchase in found if not purchase.amount)
    seen = pair.test.single.sd / math.sqrt(pair.test.single.seeds)
    return tuple(replace(one, standard_error=one.standard_error * seen / now) for one in found) if now else ()
