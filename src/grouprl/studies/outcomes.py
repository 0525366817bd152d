"""What runs scored on the held-out problems, and which of them are repetitions of one arm."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import trapezoid

from grouprl.evaluation.results import GREEDY
from grouprl.files import read_parquet, read_yaml
from grouprl.studies.plan import Metric, OutcomeError
from grouprl.training.records import CONFIG_FILE, HELDOUT_FOLDER, evaluations_in, flat, read_metrics, read_result

HELDOUT_COLUMNS = ("problem", "sample", "correct", "tokens")
_TIMES = ("time/sampling", "time/scoring", "time/training")
_OF_A_REPETITION = frozenset({"seed", "study", "resume", "resume_fall_back", "accept_changed"})


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the held-out problems."""

    iteration: int
    correct: np.ndarray
    """Right or wrong, [problems, samples]."""
    greedy: np.ndarray
    """Of the greedy completions, [problems]."""
    tokens: int
    """Of all completions together."""

    @property
    def shares(self) -> np.ndarray:
        """Share of right samples, [problems]."""
        return self.correct.mean(axis=1)


@dataclass(frozen=True)
class Outcome:
    """What one run scored, whatever became of it."""

    name: str
    seed: int
    state: str
    settings: Mapping[str, Any]
    """Its options, flat, and the chosen option of each group."""
    heldout: str
    """Digest of the held-out problems."""
    evaluations: tuple[Evaluation, ...]
    """In the order of training, the last one last."""
    tokens: np.ndarray
    """Sampled tokens before each evaluation."""
    seconds: float
    """Of the whole run."""
    seconds_of_token: float
    """To sample one token in training; NaN where nothing was sampled."""
    folder: Path = Path()
    overrides: tuple[str, ...] = ()
    """What its command line set."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """Digests of the package and of the user's files, threads, precision, processor, versions of torch."""
    seconds_at: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Seconds of sampling, scoring and training before each evaluation."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of the trained ``weights``, the ``metrics`` of training and the ``heldout`` completions, where they are known."""
    texts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Of the last evaluation, the greedy completion of each problem with its question, where it was kept."""

    @property
    def seconds_of_sample(self) -> float:
        """To draw one more sample of every held-out problem, from what tokens cost in training."""
        return self.seconds_of_token * self.last.tokens / (self.last.correct.shape[1] + 1)

    @property
    def made_on(self) -> str:
        """The kind of machine: processor, the instructions that decide how it computes, GPU."""
        conditions = self.conditions
        instructions = conditions.get("instructions") or ()
        parts = [conditions.get("processor"), f"({', '.join(instructions)})" if instructions else None]
        return " ".join(str(part) for part in (*parts, conditions.get("gpu")) if part)

    @property
    def last(self) -> Evaluation:
        """The last evaluation."""
        return self.evaluations[-1]

    def scores(self, metric: Metric, tokens: float | None = None) -> np.ndarray:
        """The metric for each problem.

        Args:
            metric: Which one, named before the runs.
            tokens: Of ``area``, up to how many sampled tokens; None: all of this run's. A run that came to fewer
                holds its last score up to there.
        """
        if metric == "final":
            return self.last.shares
        if not self.tokens[-1]:
            return self.last.shares  # it never came to train
        end = float(self.tokens[-1]) if tokens is None else tokens
        if not end > 0:
            raise OutcomeError(f"{self.name}: no area over {end:.0f} tokens.")
        shares = np.stack([evaluation.shares for evaluation in self.evaluations])
        at = np.append(self.tokens[self.tokens < end], end)
        values = np.stack([np.interp(at, self.tokens, column) for column in shares.T], axis=1)
        return trapezoid(values, at, axis=0) / end


def horizon(arms: Iterable[Iterable[Outcome]]) -> float:
    """Sampled tokens over which the area of several arms is taken: the fewest that half of an arm's runs come to.

    One run that collapsed to short completions does not cut what all others are measured over.
    """
    return min(float(np.median([run.tokens[-1] for run in runs])) for runs in map(list, arms) if runs)


def read_outcome(folder: Path) -> Outcome:
    """What the run in a folder scored.

    Raises:
        OutcomeError: There is no run, or it has no evaluation with all its samples.
        FileError: A file of it is damaged.
    """
    result, config = read_result(folder), read_yaml(folder / CONFIG_FILE)
    if result is None or config is None:
        raise OutcomeError(f"{folder}: no run is here (result.json and config.yaml).")
    files = evaluations_in(folder)
    if not files:
        raise OutcomeError(
            f"{folder}: the run has kept no held-out results ({HELDOUT_FOLDER}/*.parquet). Run it again, with "
            "data.heldout_size above 0."
        )
    rows = {iteration: read_parquet(file, HELDOUT_COLUMNS, remedy="Run it again") for iteration, file in files.items()}
    return outcome_of(
        result,
        rows,
        settings=flat(config) | {f"{group}": choice for group, choice in result.get("choices", {}).items()},
        tokens=_tokens(folder, config, list(files)),
        seconds_at=_seconds_at(folder, list(files)),
        seconds_of_token=_seconds_of_token(folder, config),
        folder=folder,
    )


def outcome_of(
    result: Mapping[str, Any], rows: Mapping[int, Sequence[Mapping[str, Any]]], *, folder: Path, **measured: Any
) -> Outcome:
    """What a run scored.

    Args:
        result: Its ``result.json``.
        rows: Its held-out completions by iteration; at least one evaluation.
        folder: Where they lie, for errors.
        measured: Further fields of `Outcome`.

    Raises:
        OutcomeError: An evaluation has not all its samples.
    """
    evaluations = tuple(_evaluation(iteration, rows[iteration], folder) for iteration in sorted(rows))
    identity, loaded = result.get("identity", {}), result.get("loaded", {})
    greedy = [row for row in rows[max(rows)] if row["sample"] == GREEDY and row.get("text") is not None]
    return Outcome(
        name=str(result["run"]),
        seed=int(result.get("seed", 0)),
        state=result["state"],
        heldout=loaded.get("heldout", ""),
        evaluations=evaluations,
        seconds=float(result.get("seconds", 0.0)),
        folder=folder,
        overrides=tuple(result.get("overrides", ())),
        conditions=result.get("machine", {})
        | {"package": identity.get("package"), "inputs": identity.get("inputs"), "weights": loaded.get("weights")},
        digests=result.get("digests") or {},
        texts={row["problem"]: row for row in greedy},
        **measured,
    )


def _evaluation(iteration: int, rows: Sequence[Mapping[str, Any]], folder: Path) -> Evaluation:
    samples: dict[int, dict[int, bool]] = defaultdict(dict)
    for row in rows:
        samples[row["problem"]][row["sample"]] = row["correct"]
    sizes = {len(found) for found in samples.values()}
    if len(sizes) != 1 or any(GREEDY not in found for found in samples.values()) or min(sizes) < 2:
        raise OutcomeError(
            f"{folder}: in the evaluation after iteration {iteration} not every problem has a greedy completion and as "
            "many samples. Run it again."
        )
    ordered = [samples[problem] for problem in sorted(samples)]
    correct = np.array([[found[n] for n in sorted(found) if n != GREEDY] for found in ordered], dtype=bool)
    greedy = np.array([found[GREEDY] for found in ordered], dtype=bool)
    return Evaluation(iteration, correct, greedy, sum(row["tokens"] for row in rows))


def _tokens(folder: Path, config: Mapping[str, Any], iterations: Sequence[int]) -> np.ndarray:
    drawn = dict(_drawn(folder, config))
    return np.array([sum(n for at, n in drawn.items() if at <= iteration) for iteration in iterations], dtype=float)


def _drawn(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    """Iterations and the tokens that were sampled in each."""
    completions = config["prompts_per_step"] * config["group_size"]
    for row in read_metrics(folder):
        if "completion/length" in row:
            # A run of an earlier version did not say what it sampled; it gave up no group.
            yield row["iteration"], row.get("tokens/sampled", row["completion/length"] * completions)


def _seconds_at(folder: Path, iterations: Sequence[int]) -> np.ndarray:
    spent = [
        (row["iteration"], sum(row.get(name) or 0.0 for name in _TIMES))
        for row in read_metrics(folder)
        if "completion/length" in row
    ]
    return np.array([sum(seconds for at, seconds in spent if at <= iteration) for iteration in iterations])


def _seconds_of_token(folder: Path, config: Mapping[str, Any]) -> float:
    seconds = sum(row.get("time/sampling", 0.0) for row in read_metrics(folder))
    tokens = sum(count for _, count in _drawn(folder, config))
    return seconds / tokens if seconds and tokens else math.nan


_OF_A_TRAINER = ("threads", "precision", "deterministic", "gpu")
_OF_A_POLICY = ("policy", "adapter")
_CONDITIONS = {
    "package": "other versions of grouprl",
    "torch": "other versions of torch",
    "weights": "other weights before training",
    **{name: f"other {name}" for name in _OF_A_TRAINER},
}
"""What runs have to share, where it is not what is asked."""


def other_conditions(outcomes: Sequence[Outcome], *, asked: Collection[str]) -> str:
    """What two of the runs were made under that differs, in words; empty where they can be compared.

    Args:
        outcomes: The runs.
        asked: Options that the runs are to differ in, whose conditions may differ.
    """
    contents: dict[str, tuple[str, str]] = {}
    for outcome in outcomes:
        for file, content in (outcome.conditions.get("inputs") or {}).items():
            before, run = contents.setdefault(file, (content, outcome.name))
            if before != content:
                return f"{run} and {outcome.name} have another {file} of yours"
    for name, what in _CONDITIONS.items():
        groups = _OF_A_POLICY if name == "weights" else ()
        group = ["trainer"] if name in _OF_A_TRAINER else []
        if {name, f"trainer.{name}", *group} & set(asked) or {key.partition(".")[0] for key in asked} & set(groups):
            continue
        values = {json.dumps(outcome.conditions.get(name), sort_keys=True): outcome.name for outcome in outcomes}
        if len(values) > 1:
            (one, first), (other, second) = list(values.items())[:2]
            return f"{first} and {second} have {what}: {one} and {other}"
    return ""


def said_of_machines(base: str, outcomes: Sequence[Outcome]) -> list[str]:
    """Notes on runs of a base that were made on several kinds of processor."""
    kinds: dict[str, set[int]] = {}
    for outcome in outcomes:
        kinds.setdefault(outcome.made_on, set()).add(outcome.seed)
    if len(kinds) < 2:
        return []
    each = "; ".join(f"{kind}: seeds {', '.join(map(str, sorted(of)))}" for kind, of in kinds.items())
    mixed = mixed_seeds(outcomes)
    apart = f" Runs of seeds {', '.join(map(str, mixed))} were made on different ones." if mixed else ""
    return [f"note: the runs on {base} were made on several kinds of processor ({each}).{apart}"]


def mixed_seeds(outcomes: Sequence[Outcome]) -> list[int]:
    """Seeds whose runs were made on several kinds of processor."""
    kinds: dict[int, set[str]] = {}
    for outcome in outcomes:
        kinds.setdefault(outcome.seed, set()).add(outcome.made_on)
    return sorted(seed for seed, of_seed in kinds.items() if len(of_seed) > 1)


def arms_of(outcomes: Sequence[Outcome]) -> dict[str, dict[int, Outcome]]:
    """Runs by arm and seed; an arm is named after the options in which the runs differ.

    Raises:
        OutcomeError: Two runs of an arm have one seed, or runs were measured on different held-out problems.
    """
    problems = {outcome.heldout for outcome in outcomes}
    if len(problems) > 1:
        raise OutcomeError("The runs were measured on different held-out problems: they cannot be paired.")
    keys = differing_settings(outcomes)
    arms: dict[str, dict[int, Outcome]] = defaultdict(dict)
    for outcome in outcomes:
        name = ", ".join(f"{key}={outcome.settings.get(key)}" for key in keys) or "all runs"
        if outcome.seed in arms[name]:
            other = arms[name][outcome.seed].name
            raise OutcomeError(f"{other} and {outcome.name}: the same options and the same seed.")
        arms[name][outcome.seed] = outcome
    return dict(arms)


def differing_settings(outcomes: Sequence[Outcome]) -> list[str]:
    """Options in which runs differ, the choice of a group in place of what it brings along."""
    every = dict.fromkeys(key for outcome in outcomes for key in outcome.settings)
    varied = []
    for key in every:
        values = [outcome.settings.get(key) for outcome in outcomes]
        follows_the_seed = all(value == outcome.seed for value, outcome in zip(values, outcomes, strict=True))
        if key.partition(".")[0] not in _OF_A_REPETITION and not follows_the_seed and len({str(v) for v in values}) > 1:
            varied.append(key)
    groups = {key: f"{key.replace('/', '.')}." for key in varied}
    brought = {other for inside in groups.values() for other in varied if other.startswith(inside)}
    return [key for key in varied if key not in brought]
