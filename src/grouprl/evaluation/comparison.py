"""Two evaluations of benchmarks compared question by question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grouprl.evaluation.results import read_results
from grouprl.files import read_parquet
from grouprl.statistics.questions import Difference, PairedTest, holm, mcnemar, paired_difference
from grouprl.statistics.seeds import LEVEL

_SAME = ("grader", "limit", "extraction", "samples", "max_new_tokens", "shots", "temperature")


class ComparisonError(ValueError):
    """Two evaluations that cannot be paired; the text says why."""


@dataclass(frozen=True)
class Comparison:
    """One benchmark in one mode, A against B."""

    key: str
    questions: int
    first: float
    second: float
    test: PairedTest | None
    """Exact McNemar, of greedy answers."""
    difference: Difference
    p_value: float


def compare(a: Path, b: Path) -> list[Comparison]:
    """Pair what both folders measured, by question."""
    results = [results_in(folder) for folder in (a, b)]
    shared = [key for key in results[0]["measured"] if key in results[1]["measured"]]
    if not shared:
        raise ComparisonError(f"{a} and {b} have no benchmark and mode in common.")
    found = []
    for key in shared:
        settings = [result["measured"][key]["settings"] for result in results]
        differing = [name for name in _SAME if settings[0].get(name) != settings[1].get(name)]
        if differing == ["grader"]:
            versions = " and ".join(str(setting.get("grader")) for setting in settings)
            raise ComparisonError(
                f"{key}: the two were graded by versions {versions} of the grader. Grade what is stored anew, without "
                f"sampling, and compare then: python -m grouprl.evaluation.regrade {a} {b}"
            )
        if differing:
            pairs = ", ".join(f"{n} {settings[0].get(n)} and {settings[1].get(n)}" for n in differing)
            raise ComparisonError(f"{key}: the two were asked differently ({pairs}). Evaluate both in the same way.")
        found.append(_pair(key, *(_scores(folder, key) for folder in (a, b))))
    return found


def results_in(folder: Path) -> dict[str, Any]:
    """The results of an evaluation folder; a `ComparisonError` where there are none."""
    results = read_results(folder)
    if results is None:
        raise ComparisonError(f"{folder}: no evaluation is here (results.json). Give a folder that evaluate.py wrote.")
    return results


def _scores(folder: Path, key: str) -> dict[tuple[int, str], list[float]]:
    scores: dict[tuple[int, str], list[float]] = {}
    file, remedy = folder / f"{key.replace('/', '-')}.parquet", "Evaluate with the same command again"
    for row in read_parquet(file, ("index", "problem", "correct"), remedy=remedy):
        scores.setdefault((row["index"], row["problem"]), []).append(float(row["correct"]))
    return scores


def _pair(
    key: str, first: Mapping[tuple[int, str], Sequence[float]], second: Mapping[tuple[int, str], Sequence[float]]
) -> Comparison:
    if first.keys() != second.keys():
        raise ComparisonError(f"{key}: the two did not answer the same questions.")
    pairs = [(first[question], second[question]) for question in sorted(first)]
    one_each = all(len(a) == len(b) == 1 for a, b in pairs)
    test = mcnemar([a[0] > 0 for a, _ in pairs], [b[0] > 0 for _, b in pairs]) if one_each else None
    difference = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    mean_a, mean_b = (sum(sum(s) / len(s) for s in side.values()) / len(pairs) for side in (first, second))
    return Comparison(key, len(pairs), mean_a, mean_b, test, difference, difference.p_value)


def is_decided(comparisons: Sequence[Comparison]) -> bool:
    """Whether A and B can be told apart on every benchmark, adjusted for their number."""
    adjusted = _adjusted(comparisons)
    return all(adjusted.get(c.key, math.nan) < LEVEL for c in comparisons)


def _adjusted(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Holm's p-values; a benchmark of one question has none."""
    return holm({c.key: c.p_value for c in comparisons if not math.isnan(c.p_value)})


def _verdict(c: Comparison, adjusted: Mapping[str, float]) -> str:
    clear = adjusted.get(c.key, math.nan) < LEVEL
    return ("B is better" if c.difference.value > 0 else "A is better") if clear else "not distinguishable"


def verdicts(comparisons: Sequence[Comparison]) -> list[str]:
    """A line for each benchmark."""
    adjusted = _adjusted(comparisons)
    return [f"{c.key}: {_verdict(c, adjusted)}" for c in comparisons]


def describe(comparisons: Sequence[Comparison], names: Sequence[str]) -> str:
    """A Markdown table and a verdict for each line, with p-values adjusted for their number (Holm)."""
    adjusted = _adjusted(comparisons)
    lines = [
        f"A = {names[0]}, B = {names[1]}",
        "",
        "| benchmark | questions | A | B | B - A [95%] | p | p, Holm | verdict |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for c in comparisons:
        d, p, verdict = c.difference, adjusted.get(c.key, math.nan), _verdict(c, adjusted)
        lines.append(
            f"| {c.key} | {c.questions} | {100 * c.first:.1f} | {100 * c.second:.1f} | "
            f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}] | {c.p_value:.3g} | {p:.3g} | {verdict} |"
        )
    lines += ["", "p and intervals: t over questions, paired. One run of each: seeds of training not counted."]
    if all(c.test for c in comparisons):
        exact = ", ".join(f"{c.key} {c.test.p_value:.3g}" for c in comparisons if c.test)
        lines.append(f"Exact McNemar p beside: {exact}.")
    return "\n".join(lines)
