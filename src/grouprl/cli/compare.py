"""Comparisons: ``python compare.py STUDY`` (the verdict), ``RUN...`` (arms over seeds), ``A B`` (two evaluations).

A study is what ``train.py -m`` wrote, runs are folders of ``train.py``, evaluations those of ``evaluate.py``; a CSV
file holds completions of any trainer, a row each (`grouprl.studies.exchange.longtable`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grouprl.checks import CommandParser
from grouprl.evaluation.comparison import ComparisonError, compare, describe, is_decided, results_in, verdicts
from grouprl.files import FileError, finite, write_named
from grouprl.studies import seeds
from grouprl.studies.exchange.longtable import Outcomes, read_table, write_table
from grouprl.studies.exchange.others import measured_in, read_arms
from grouprl.studies.outcomes import Outcome, arms_of, differing_settings, other_conditions, read_outcome
from grouprl.studies.plan import EDITED, METRICS, ONLY_BASE, PLAN_FILE, OutcomeError, StudyPlan, read_plan
from grouprl.studies.show import text as shown_as
from grouprl.studies.show.report import PAGE_FILES, write_report
from grouprl.studies.table import run_folders
from grouprl.studies.verdict import DECIDED, UNDECIDED, judge, verdict_of
from grouprl.studies.verification import edited
from grouprl.training.records import ENDED, RESULT_FILE, read_result


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``compare.py``.

    Its exit code: 0 all is decided, 3 something is not, 1 what is there cannot be compared, 2 the command line cannot
    be read.
    """
    parser = CommandParser(
        prog="compare.py",
        description="Compare arms over paired seeds (a study's folder, or runs), or two evaluations.",
        epilog="Exit status: 0 all is decided, 3 something is not, 1 it cannot be compared, 2 a mistyped command.",
    )
    parser.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="a study, runs, two evaluations, or a table"
    )
    parser.add_argument(
        "--arm",
        nargs="+",
        action="append",
        metavar="NAME FILE",
        help="an arm of lm-eval or TRL: its name, and its files or folders, one for each seed",
    )
    parser.add_argument("--correct", metavar="COLUMN", help="of --arm, which metric or reward is 0 or 1")
    parser.add_argument("--filter", help="of --arm, which filter of lm-eval counts")
    parser.add_argument("--metric", choices=METRICS, help="primary metric of runs (a study's own, or final)")
    parser.add_argument("--margin", type=float, help="points that do not matter (a study's own, or 1)")
    parser.add_argument("--baseline", help="arm that the others are compared with; without it all pairs")
    parser.add_argument("--looks", type=int, nargs="+", metavar="N", help="of a table: seeds after which was looked")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="S", help="of a table with --looks: in planned order")
    parser.add_argument(
        "--report", action="store_true", help="also write verdict, page and pictures (to the study, beside a table)"
    )
    parser.add_argument("--export", type=Path, help="also write the study's completions to this CSV file")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    if bool(options.folders) == bool(options.arm):
        parser.error("give folders (a study, runs, two evaluations), a table, or arms (--arm NAME FILE FILE)")
    if not options.arm and (options.correct or options.filter):
        parser.error("--correct and --filter belong to --arm")
    is_table = bool(options.arm) or options.folders[0].is_file()
    if options.seeds and not options.looks:
        parser.error("--seeds belongs to --looks")
    if options.looks and not is_table:
        parser.error("--looks belongs to a table or --arm: a study has its own, and runs without one looked once")
    try:
        text, numbers, code = _compared(options)
        print(text, flush=True)
        if options.json:
            write_named(options.json, json.dumps(finite(numbers), indent=2) + "\n")
        written = [_page_folder(options) / name for name in PAGE_FILES] if options.report else []
        for file in [*written, *filter(None, (options.export, options.json))]:
            print(f"written: {file}", file=sys.stderr)
        if options.export:
            print(_again(read_plan(options.folders[0]), options.export), file=sys.stderr)
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ComparisonError, OutcomeError, FileError, OSError, ValueError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    if code:
        raise SystemExit(code)


def _compared(options: argparse.Namespace) -> tuple[str, Any, int]:
    """Text, numbers and exit code."""
    plan = read_plan(options.folders[0]) if len(options.folders) == 1 and options.folders[0].is_dir() else None
    if plan is not None and plan.compares:
        return _study(plan, options.folders[0], options)
    if options.arm:
        _refuse_export(options)
        arms = _arms(options)
        return _bases(read_arms(arms, options.correct, options.filter), options, "arms", measured_in(arms))
    (first, *others) = options.folders
    lacking = [str(folder) for folder in options.folders if not folder.exists()]
    if lacking:
        raise ComparisonError(f"{lacking[0]}: there is no such folder or file. {_studies()}")
    _refuse_export(options)
    if not others and first.is_file():
        return _table(first, options)
    if options.report:
        raise ComparisonError("--report: a page is of a study, a table or --arm.")
    if files := [folder for folder in options.folders if folder.is_file()]:
        raise ComparisonError(
            f"{files[0]}: a table is compared alone. Put the arms into one, told apart by its column arm."
        )
    return _runs(options) if _run_folders(options.folders) else _evaluations(options)


def _refuse_export(options: argparse.Namespace) -> None:
    if options.export:
        raise ComparisonError("--export is of a study: python compare.py STUDY.")


def _page_folder(options: argparse.Namespace) -> Path:
    """Where verdict and page are written: to a study's own folder, beside a table, or here."""
    if not options.folders:
        return Path("comparison.report")
    first = options.folders[0]
    return first if first.is_dir() else first.with_suffix(".report")


def _studies(*folders: Path) -> str:
    """What could have been meant: the studies in some folders, or those in ``runs``."""
    places = [folder for folder in folders if folder.is_dir()] or [Path("runs")]
    there = sorted(str(file.parent) for place in places for file in place.glob(f"*/{PLAN_FILE}"))
    if not there:
        return "Give a study (runs/NAME), runs, two evaluations, or a table (*.csv)."
    return f"Studies here: {', '.join(there)}."


def _study(plan: StudyPlan, folder: Path, options: argparse.Namespace) -> tuple[str, Any, int]:
    asked = {name: getattr(options, name) for name in ("metric", "margin", "baseline")}
    other = {name: value for name, value in asked.items() if value not in (None, getattr(plan, name))}
    changes = [
        f"{name} is {getattr(plan, name) or 'not given'} in the plan, and {value} here" for name, value in other.items()
    ]
    found = judge(plan, folder)
    if options.report and other:
        raise ComparisonError(f"--report: a study's page has its own settings. Leave {', '.join(other)} out.")
    if options.export and plan.metric != METRICS[0]:
        raise ComparisonError(
            f"--export: a table holds what was scored at the end; this study's metric is {plan.metric}."
        )
    if options.export and not found.settled:
        raise ComparisonError("--export: not all planned runs have come to their end. A table cannot say so.")
    if options.report:
        found.write(folder)
        write_report(found, folder)
    if options.export:
        arms = {
            base: {
                name: {s: runs[name][s] for s in plan.seeds if s in runs[name]} for name in plan.arms if name in runs
            }
            for base, runs in found.outcomes.items()
        }
        write_table(arms, options.export)
    if not other:
        return found.describe(), found.as_json(), found.exit_code
    asked_later = judge(replace(plan, **other), folder)
    heading = f"## exploratory: {'; '.join(changes)}"
    text = "\n".join([*found.lines(), "", heading, "", asked_later.describe()])
    return text, found.as_json() | {"exploratory_verdict": asked_later.as_json()}, found.exit_code


def _in_order(
    plan: StudyPlan, outcomes: Mapping[str, Mapping[str, Mapping[int, Outcome]]]
) -> dict[str, dict[str, dict[int, Outcome]]]:
    """Runs of a study's arms, the seeds in the order of the plan."""
    return {
        base: {name: {s: arms[name][s] for s in plan.seeds if s in arms[name]} for name in plan.arms if name in arms}
        for base, arms in outcomes.items()
    }


def _again(plan: StudyPlan | None, file: Path) -> str:
    """The command that says of a table what the study says; its plan is not in it."""
    words = ["python", "compare.py", str(file)]
    if plan is not None:
        words += ["--margin", f"{plan.margin:g}"]
        words += ["--baseline", plan.baseline] if plan.baseline is not None else []
        seeds = plan.seeds[: plan.ended_after] if plan.ended_after else plan.seeds
        words += ["--looks", *map(str, plan.looks), "--seeds", *map(str, seeds)] if plan.looks else []
    return f"Again: {shlex.join(words)}"


def _table(file: Path, options: argparse.Namespace) -> tuple[str, Any, int]:
    """A long table, of any trainer."""
    return _bases(read_table(file), options, "table")


def _arms(options: argparse.Namespace) -> dict[str, list[Path]]:
    """Files of lm-eval or TRL."""
    arms = {name: [Path(file) for file in files] for name, *files in options.arm}
    if len(arms) < len(options.arm) or not all(arms.values()):
        raise ComparisonError("--arm: give each arm a name of its own, and a file or folder for each seed.")
    return arms


def _bases(
    bases: Outcomes, options: argparse.Namespace, kind: str, measured: str = "the share of right samples"
) -> tuple[str, Any, int]:
    """A comparison for each base, of what was scored at the end."""
    if options.metric not in (None, METRICS[0]):
        raise ComparisonError(f"--metric {options.metric}: what is there was scored at the end alone.")
    margin = 1.0 if options.margin is None else options.margin
    if not 0 < margin < math.inf:
        raise ComparisonError(f"--margin {margin:g}: give a number of points above 0.")
    settings = {"margin": margin / 100, "baseline": options.baseline, "measured": measured}
    looks, order = options.looks, options.seeds
    found = {base: _compared_arms(arms, looks, order, settings) for base, arms in bases.items()}
    if options.report:
        folder = _page_folder(options)
        verdict = verdict_of(found, bases, margin=margin, looks=looks or (), baseline=options.baseline)
        folder.mkdir(parents=True, exist_ok=True)
        verdict.write(folder)
        write_report(verdict, folder)
    return _said(kind, found)


def _compared_arms(
    arms: Mapping[str, Mapping[int, Outcome]],
    looks: Sequence[int] | None,
    order: Sequence[int] | None,
    settings: Mapping[str, Any],
) -> seeds.StudyComparison:
    """Arms of a table, at one look or at several: after seeds as they were planned, or as the table has them."""
    if not looks:
        return seeds.compare_arms(arms, **settings)
    there = order or list(dict.fromkeys(seed for runs in arms.values() for seed in runs))
    if len(there) not in looks:
        raise ComparisonError(
            f"--looks {' '.join(map(str, looks))}: {len(there)} seeds are there, and no look is after so many. Give "
            "those that were planned up to a look, in their order, the lost ones among them: --seeds."
        )
    return seeds.compare_at_looks(arms, there, tuple(looks), **settings)


def _said(kind: str, found: Mapping[str, seeds.StudyComparison]) -> tuple[str, Any, int]:
    """Text, numbers and exit code of a comparison on each base."""
    texts = [f"### {base}\n\n{shown_as.describe(of)}" if len(found) > 1 else shown_as.describe(of)
             for base, of in found.items()]  # fmt: skip
    decided = all(pair.ending != "undecided" for of in found.values() for pair in of.pairs)
    verdicts = [pair.verdict for of in found.values() for pair in of.pairs]
    numbers = {base: of.as_json() for base, of in found.items()}
    code = DECIDED if decided else UNDECIDED
    return "\n\n".join(texts), {"kind": kind, "decided": decided, "verdicts": verdicts, "bases": numbers}, code


def _run_folders(folders: Sequence[Path]) -> list[Path]:
    """The run folders among some folders, and in them."""
    found = []
    for folder in folders:
        found += [folder] if (folder / RESULT_FILE).is_file() else run_folders(folder)
    return found


def _runs(options: argparse.Namespace) -> tuple[str, Any, int]:
    folders = _run_folders(options.folders)
    outcomes = [read_outcome(folder) for folder in folders]
    for folder, outcome in zip(folders, outcomes, strict=True):
        if outcome.state not in ENDED:
            raise OutcomeError(f"{outcome.name}: it is {outcome.state}. Let it come to its end, or leave it out.")
        if faults := edited(folder, read_result(folder) or {}, weights=False):
            raise OutcomeError(f"{folder}: its {' and '.join(faults)} is not what was written. {EDITED}")
    if said := other_conditions(outcomes, asked=differing_settings(outcomes)):
        raise OutcomeError(f"{said}. They cannot be compared.")
    arms = arms_of(outcomes)
    margin = 1.0 if options.margin is None else options.margin
    metric = options.metric or METRICS[0]
    found = seeds.compare_arms(arms, metric=metric, margin=margin / 100, baseline=options.baseline)
    text, numbers, code = _said("runs", {ONLY_BASE: found})
    studies = {folder.parent for folder in folders if (folder.parent / PLAN_FILE).is_file()}
    planned = [study for study in sorted(studies) if (plan := read_plan(study)) is not None and plan.compares]
    if planned:  # some of its runs, at one look, whatever its plan says
        said = f"exploratory: these are runs of a study. Its verdict: python compare.py {shlex.quote(str(planned[0]))}"
        return f"{said}\n{text}", numbers | {"decided": False, "exploratory": said}, UNDECIDED
    return text, numbers, code


def _evaluations(options: argparse.Namespace) -> tuple[str, Any, int]:
    folders = options.folders
    unread = [f"--{name}" for name in ("metric", "margin", "baseline") if getattr(options, name) is not None]
    if unread:
        raise ComparisonError(f"{unread[0]} is of runs and studies: two evaluations are compared as they are.")
    if len(folders) != 2:
        count = f"{len(folders)} folder{'s' * (len(folders) != 1)}, and no runs"
        raise ComparisonError(f"{count} among them: give runs, a study, or two evaluations. {_studies(*folders)}")
    comparisons = compare(*folders)
    names = [str(results_in(folder).get("policy", folder.name)) for folder in folders]
    rows = [
        {
            **{"key": c.key, "a": c.first, "b": c.second, **c.difference.__dict__},
            "mcnemar_p": c.test.p_value if c.test else None,
        }
        for c in comparisons
    ]
    decided = is_decided(comparisons)
    numbers = {"kind": "evaluations", "decided": decided, "verdicts": verdicts(comparisons), "benchmarks": rows}
    return describe(comparisons, names), numbers, DECIDED if decided else UNDECIDED


if __name__ == "__main__":
    main()
