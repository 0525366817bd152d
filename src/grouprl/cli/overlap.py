"""Whether training problems are test problems of a benchmark: checked before a run, written beside its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from grouprl.benchmarks import BenchmarkProblem
from grouprl.cli.benchmark import benchmarks_of, load_benchmark
from grouprl.cli.values import UsageError
from grouprl.contamination import Report, check, tokenize
from grouprl.data import Problem, ProblemSplits

_SAME_PROBLEMS = {"math500": "math", "math": "math500"}
"""MATH-500 is a part of MATH's test set: who allows one allows the other."""


def check_overlap(config: DictConfig, splits: ProblemSplits) -> tuple[ProblemSplits, dict[str, Any] | None]:
    """Compare training problems with the benchmarks.

    Returns the problems to train on, and for each benchmark what overlaps (None: nothing could be checked). Overlap is
    refused unless the benchmark is named in ``allow_contaminated``; with ``on_overlap=drop`` the problems are left out.
    """
    sources = _benchmark_problems(config)
    if not sources:
        return splits, None
    reports = check([row.problem for row in splits.train], {n: [p.problem for p in ps] for n, ps in sources.items()})
    hit = {name: report for name, report in reports.items() if report.overlaps}
    allowed = set(config.allow_contaminated) | {_SAME_PROBLEMS.get(name, name) for name in config.allow_contaminated}
    refused = {name: report for name, report in hit.items() if name not in allowed}
    if refused and config.on_overlap == "drop":
        dropped = {index for report in refused.values() for index in report.train_indices}
        kept = [row for index, row in enumerate(splits.train) if index not in dropped]
        if not kept:
            raise UsageError("on_overlap=drop: every training problem overlaps with a benchmark. Choose other data.")
        print(f"{len(dropped)} training problems overlap with {', '.join(refused)}: left out")
        return check_overlap(config, replace(splits, train=kept))
    if refused:
        raise UsageError(_refusal(refused, splits.train, sources))
    found = {name: report.summary() | {"indices": list(report.test_indices)} for name, report in reports.items()}
    return splits, found


def _benchmark_problems(config: DictConfig) -> dict[str, list[BenchmarkProblem]]:
    target, folder = str(config.data.get("_target_", "")), config.benchmarks_dir
    if target == "grouprl.data.tiny_problems" or not config.check_benchmarks:
        return {}
    from_hub = target == "grouprl.data.hub_problems" and not Path(str(config.data.name)).exists()
    if folder is None and not from_hub:
        print("overlap with benchmarks: not checked (set benchmarks_dir=FOLDER of benchmark files to check it)")
        return {}
    found, missing = {}, []
    for name in benchmarks_of(config.check_benchmarks):
        try:
            found[name] = load_benchmark(name).problems(folder)
        except Exception as error:  # noqa: BLE001 - a hub that cannot be reached must not stop training; it is said
            missing.append(f"{name} ({type(error).__name__})" if folder is None else name)
    if missing:
        print(f"overlap with benchmarks: not checked against {', '.join(missing)}")
    return found


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
        + "\nTo leave these problems out: on_overlap=drop. To train on them all the same, and have them reported: "
        + f"allow_contaminated=[{','.join(refused)}]."
    )
