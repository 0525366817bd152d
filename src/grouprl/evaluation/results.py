"""Results of benchmarks: from the rows of all samples to accuracies with intervals, and the files that hold them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grouprl.answers.grading import compare_answers
from grouprl.files import Row, Shape, check_shape, read_json, write_json
from grouprl.statistics.proportions import Estimate, clustered_ratio, pass_at_k, wilson
from grouprl.statistics.votes import equivalence_classes, majority

RESULTS_FILE = "results.json"
GREEDY = -1
"""Number of the greedy completion among a problem's samples."""
_SUMMARY: Shape = {
    **{"accuracy": dict, "questions": int, "samples": int, "settings": dict, "contamination": dict, "limited": bool},
    **dict.fromkeys(("truncated", "mean_tokens", "unparsable", "timeout"), (int, float)),
}


def summarize(rows: Sequence[Row], without: Sequence[int] = ()) -> dict[str, Any]:
    """Accuracy with its interval and all that qualifies it.

    Args:
        rows: All samples of one benchmark in one mode.
        without: Indices of problems to leave out (those that were trained on).
    """
    questions: dict[int, list[Row]] = {}
    for row in rows:
        if row["index"] not in without:
            questions.setdefault(row["index"], []).append(row)
    samples = max((len(group) for group in questions.values()), default=0)
    right = [sum(row["correct"] for row in group) for group in questions.values()]
    counts = [len(group) for group in questions.values()]
    kept = [row for group in questions.values() for row in group]
    accuracy = wilson(sum(right), len(right)) if samples <= 1 else clustered_ratio(right, counts)
    summary: dict[str, Any] = {"accuracy": _estimate(accuracy), "samples": samples, "questions": len(questions)}
    if samples > 1:
        chances = [pass_at_k(n, c, min(samples, n)) for n, c in zip(counts, right, strict=True)]
        votes = [_vote(group) for group in questions.values()]
        ones = [1.0] * len(chances)
        summary[f"avg@{samples}"] = summary["accuracy"]
        summary[f"pass@{samples}"] = _estimate(clustered_ratio(chances, ones))
        summary[f"maj@{samples}"] = _estimate(clustered_ratio(votes, ones))
    total = max(1, len(kept))
    for status in ("unparsable", "timeout", "overlong"):
        summary[status] = sum(row["status"] == status for row in kept)
    summary["truncated"] = sum(row["truncated"] for row in kept) / total
    summary["mean_tokens"] = sum(row["tokens"] for row in kept) / total
    summary["tool_rounds"] = sum(row["tool_rounds"] for row in kept) / total
    summary["shots"] = [min((r["shots"] for r in kept), default=0), max((r["shots"] for r in kept), default=0)]
    return summary


def _vote(group: Sequence[Row]) -> float:
    compared = [row["answer"] if row["status"] != "timeout" else None for row in group]  # what hangs would hang again
    answers = [group[0]["gold"], *(answer or None for answer in compared)]
    labels = equivalence_classes(answers, lambda a, b: compare_answers(str(a), str(b))[0] == "correct")
    return majority(labels[1:]).score(labels[0])


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def digest(values: Mapping[str, Any]) -> str:
    """Short hash of a description."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]


def markdown(measured: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """A table of what was measured, one row for each benchmark and mode."""
    lines = [
        "| benchmark | mode | accuracy | questions | truncated | tokens | unparsable | timeouts | contamination |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, summary in measured.items():
        name, _, mode = key.partition("/")
        extra = "".join(
            f", {n} {_percent(summary[n])}"
            for n in summary
            if n.startswith(("pass@", "maj@")) and summary["samples"] > 1
        )
        contamination = summary["contamination"]["verdict"]
        if "without_overlap" in summary["contamination"]:
            contamination += f"; without them {_percent(summary['contamination']['without_overlap']['accuracy'])}"
        lines.append(
            f"| {titles.get(name, name)} | {mode} | {_percent(summary['accuracy'])}{extra} | {summary['questions']}"
            f"{' (limited)' if summary['limited'] else ''} | {100 * summary['truncated']:.1f} % | "
            f"{summary['mean_tokens']:.0f} | {summary['unparsable']} | {summary['timeout']} | {contamination} |"
        )
    return "\n".join(lines)


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['value']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def verdict_of(rows: Sequence[Row], trained_on: Mapping[str, Sequence[int]] | None, benchmark: str) -> dict[str, Any]:
    """What is known of a benchmark's problems among the training problems, and the accuracy without them.

    Args:
        rows: All samples of the benchmark in one mode.
        trained_on: Indices of problems that were trained on, by benchmark; None: that was not checked.
        benchmark: Its name.
    """
    if trained_on is None or benchmark not in trained_on:
        return {"verdict": "not checked"}
    hit = set(trained_on[benchmark])
    if not hit:
        return {"verdict": "no overlap with the training problems"}
    return {
        "verdict": f"trained on {len(hit)} of its problems",
        "indices": sorted(hit),
        "without_overlap": summarize(rows, without=sorted(hit)),
    }


def read_results(out: Path) -> dict[str, Any] | None:
    """What an evaluation folder holds, or None.

    Raises:
        FileError: The file holds something else.
    """
    file, remedy = out / RESULTS_FILE, "Remove it, and evaluate with the same command again"
    results = read_json(file, {"policy": str, "measured": dict}, remedy=remedy)
    for key, summary in (results or {"measured": {}})["measured"].items():
        check_shape(summary, _SUMMARY, f"{file}, {key}", remedy=remedy)
        check_shape(summary["accuracy"], dict.fromkeys(("value", "low", "high"), (int, float)), f"{file}, {key}")
        check_shape(summary["contamination"], {"verdict": str}, f"{file}, {key}", remedy=remedy)
    return results


def write_results(out: Path, results: Mapping[str, Any]) -> None:
    """Write the results of an evaluation in one step."""
    write_json(out / RESULTS_FILE, results)
