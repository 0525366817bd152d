"""Which problems are trained on: none that is a benchmark's test problem, and those that the policy solves sometimes.

Groups that are all right or all wrong have nothing to teach, so that the problems a policy always or never solves can
be left out before training.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from grouprl.data.contamination import Report, check, tokenize
from grouprl.data.problems import ProblemSplits
from grouprl.data.rows import Problem
from grouprl.evaluation.benchmarks import BenchmarkProblem, benchmarks_of, load_benchmark, with_same_problems

_log = logging.getLogger(__name__)


def check_overlap(
    splits: ProblemSplits,
    sources: Mapping[str, Sequence[BenchmarkProblem]],
    *,
    allow: Collection[str] = (),
    drop: bool = False,
) -> tuple[ProblemSplits, dict[str, Any] | None]:
    """Compare training problems with benchmarks.

    Args:
        splits: Problems to train on.
        sources: Problems of each benchmark by its name.
        allow: Benchmarks that may be trained on, and those that share their problems.
        drop: Leave overlapping problems out, and do not refuse them.

    Returns:
        The problems to train on, and for each benchmark what overlaps; None where there was nothing to compare with.

    Raises:
        ValueError: Problems overlap with a benchmark that may not be trained on, or none would be left.
    """
    if not sources:
        return splits, None
    reports = check([row.problem for row in splits.train], {n: [p.problem for p in ps] for n, ps in sources.items()})
    hit = {name: report for name, report in reports.items() if report.overlaps}
    allowed = with_same_problems(allow)
    refused = {name: report for name, report in hit.items() if name not in allowed}
    if refused and drop:
        dropped = {index for report in refused.values() for index in report.train_indices}
        kept = [row for index, row in enumerate(splits.train) if index not in dropped]
        if not kept:
            raise ValueError(
                "overlap.action=drop: every training problem overlaps with a benchmark. Choose other data."
            )
        _log.warning("%d training problems overlap with %s: left out", len(dropped), ", ".join(refused))
        return check_overlap(replace(splits, train=kept), sources, allow=allow, drop=drop)
    if refused:
        raise ValueError(_refusal(refused, splits.train, sources))
    found = {name: report.summary() | {"indices": list(report.test_indices)} for name, report in reports.items()}
    return splits, found


def benchmark_problems(names: str | Collection[str], folder: str | None) -> dict[str, list[BenchmarkProblem]]:
    """Problems of benchmarks by name; those that cannot be had are left out, and named in a warning.

    Args:
        names: Benchmarks, see `grouprl.evaluation.benchmarks.benchmarks_of`.
        folder: Folder of their JSONL files; None: the hub.
    """
    found, missing = {}, []
    for name in benchmarks_of(names):
        try:
            found[name] = load_benchmark(name).problems(folder)
        except Exception as error:  # noqa: BLE001 - a hub that cannot be reached must not stop training; it is said
            missing.append(f"{name} ({type(error).__name__})" if folder is None else name)
    if missing:
        _log.warning("overlap with benchmarks: not checked against %s", ", ".join(missing))
    return found


def solved_sometimes(counts: Sequence[int], least: int, most: int) -> list[int]:
    """Indices of the problems that were solved at least and at most so many times."""
    return [index for index, count in enumerate(counts) if least <= count <= most]


def _refusal(
    refused: Mapping[str, Report], train: Sequence[Problem], sources: Mapping[str, Sequence[BenchmarkProblem]]
) -> str:
    lines = []
    for name, report in refused.items():
        lines.append(f"  {name}: {len(report.test_indices)} of its {report.test} problems, such as")
        for overlap in report.overlaps[:2]:
            ours, theirs = train[overlap.train].problem, sources[name][overlap.test].problem
            same = "the same" if tokenize(ours) == tokenize(theirs) else f"close ({overlap.ratio:.2f}) to"
            lines.append(f"    {' '.join(ours.split())[:70]!r}: {same} {' '.join(theirs.split())[:50]!r}")
    return (
        "data: training problems are test problems of benchmarks; a policy trained on them cannot be measured there.\n"
        + "\n".join(lines[:12])
        + "\nTo leave these problems out: overlap.action=drop. To train on them all the same, and have them reported: "
        + f"overlap.allow=[{','.join(refused)}]."
    )
