"""Paired comparison of two evaluations: ``python compare.py A B``, folders that ``evaluate.py`` wrote."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grouprl.cli.benchmark import read_results
from grouprl.statistics import Difference, PairedTest, holm, mcnemar, paired_bootstrap

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
    results = [_results(folder) for folder in (a, b)]
    shared = [key for key in results[0]["measured"] if key in results[1]["measured"]]
    if not shared:
        raise ComparisonError(f"{a} and {b} have no benchmark and mode in common.")
    found = []
    for key in shared:
        protocols = [result["measured"][key]["protocol"] for result in results]
        differing = [name for name in _SAME if protocols[0].get(name) != protocols[1].get(name)]
        if differing:
            pairs = ", ".join(f"{n} {protocols[0].get(n)} and {protocols[1].get(n)}" for n in differing)
            raise ComparisonError(f"{key}: the two were asked differently ({pairs}). Evaluate both in the same way.")
        found.append(_pair(key, *(_scores(folder, key) for folder in (a, b))))
    return found


def _results(folder: Path) -> dict[str, Any]:
    results = read_results(folder)
    if results is None or "measured" not in results:
        raise ComparisonError(f"{folder}: no evaluation is here (results.json). Give a folder that evaluate.py wrote.")
    return results


def _scores(folder: Path, key: str) -> dict[tuple[int, str], list[float]]:
    from grouprl.benchmarking import read_rows

    scores: dict[tuple[int, str], list[float]] = {}
    for row in read_rows(folder / f"{key.replace('/', '-')}.parquet"):
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
    difference = paired_bootstrap([a for a, _ in pairs], [b for _, b in pairs])
    mean_a, mean_b = (sum(sum(s) / len(s) for s in side.values()) / len(pairs) for side in (first, second))
    return Comparison(key, len(pairs), mean_a, mean_b, test, difference, test.p_value if test else difference.p_value)


def describe(comparisons: Sequence[Comparison], names: Sequence[str]) -> str:
    """A Markdown table and a verdict for each line, with p-values adjusted for their number (Holm)."""
    adjusted = holm({c.key: c.p_value for c in comparisons})
    lines = [
        f"A = {names[0]}, B = {names[1]}",
        "",
        "| benchmark | questions | A | B | B - A [95%] | p | p, Holm | verdict |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for c in comparisons:
        d, p = c.difference, adjusted[c.key]
        clear = p < 0.05
        verdict = ("B is better" if d.value > 0 else "A is better") if clear else "not distinguishable"
        lines.append(
            f"| {c.key} | {c.questions} | {100 * c.first:.1f} | {100 * c.second:.1f} | "
            f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}] | {c.p_value:.3g} | {p:.3g} | {verdict} |"
        )
    how = "exact McNemar" if all(c.test for c in comparisons) else "paired bootstrap over questions"
    lines += [
        "",
        f"p: {how}; intervals: paired bootstrap over questions. One run of each: seeds of training not counted.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``compare.py``."""
    parser = argparse.ArgumentParser(prog="compare.py", description="Compare two evaluations question by question.")
    parser.add_argument("a", type=Path, help="folder that evaluate.py wrote")
    parser.add_argument("b", type=Path, help="another one")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    try:
        comparisons = compare(options.a, options.b)
    except (ComparisonError, OSError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    names = [str(_results(folder).get("policy", folder.name)) for folder in (options.a, options.b)]
    print(describe(comparisons, names))
    if options.json:
        rows = [
            {"key": c.key, "a": c.first, "b": c.second, **c.difference.__dict__, "p": c.p_value} for c in comparisons
        ]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
