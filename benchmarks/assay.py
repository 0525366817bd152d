"""The assay: differences of known order, and how small a one the embedded task and so many seeds can see.

    python benchmarks/assay.py run --seeds 10 --jobs 2             # takes hours, and goes on where it was stopped
    python benchmarks/assay.py table

Doses of three kinds make training worse: wrong training answers, a smaller learning rate, groups left out by lot. Each
run is `python train.py` with the dose's option, `threads=1` and 32 samples of a problem at the end. Seeds 200 and on are the assay's: the task was tuned on
others.
More seeds of the default arm say how often runs that do not differ are called different.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from grouprl.files import read_json, read_jsonl
from grouprl.statistics.seeds import LEVEL, SeedTest, paired_t, power, smallest_visible
from grouprl.statistics.several import max_t
from grouprl.studies.outcomes import read_outcome
from grouprl.training.callbacks import METRICS_FILE

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "assay" / "results.csv"
FIRST_SEED = 200
LR = 2e-4
"""Of the default arm."""
SAMPLES, DEFAULT_SAMPLES = 32, 16
"""Of a problem at the end: here, and where the option is left alone."""
ALL = ("threads=1", "checkpoint_every=40", f"final_eval_samples={SAMPLES}")
"""Options of every run."""
NONE = "none"
DOSES: dict[str, dict[str, list[str]]] = {
    "wrong answers": {f"{share:.0%}": [f"data.wrong_share={share}"] for share in (0.05, 0.1, 0.2, 0.4)},
    "learning rate": {f"1/{by}": [f"lr={LR / by:g}"] for by in (2, 4, 8)},
    "groups dropped": {f"{share:.0%}": [f"filter.drop={share}"] for share in (0.25, 0.5, 0.75)},
}
"""Options of each dose by kind, the smaller dose first."""
CONTROLS: dict[str, list[str]] = {"random reward": ["reward=random"], "format reward": ["reward=format"]}
"""Not doses: what the smallest visible difference is set against."""
CONTROL_SEEDS = 3
"""Of a control, which ends tens of points lower."""
QUESTIONS: dict[str, list[str]] = {
    "random ties": ["advantage=rank_random"],
    "no clip": ["loss/gate=none"],
    "groups of 2": ["group_size=2", "prompts_per_step=64"],
}
"""Whose order is not known: each beside the default arm. Groups of 2 are as many completions as those of 8."""
BESIDE, QUESTION = "beside", "question"


def arms() -> Iterator[tuple[str, str, list[str]]]:
    """Kind, dose and options of every arm."""
    yield NONE, NONE, []
    for kind, doses in (DOSES | {BESIDE: CONTROLS}).items():
        for dose, options in doses.items():
            yield kind, dose, options


def questions() -> Iterator[tuple[str, str, list[str]]]:
    """Kind, name and options of what is asked beside."""
    return ((QUESTION, name, options) for name, options in QUESTIONS.items())


def folder_of(runs: Path, kind: str, dose: str, seed: int) -> Path:
    """Where a run lies."""
    return runs / f"{kind} {dose}".replace(" ", "_").replace("/", "_").replace("%", "") / f"seed-{seed}"


def run(runs: Path, seeds: int, more: int, jobs: int, common: Sequence[str]) -> None:
    """Do what is missing, seed by seed, so that a stop leaves whole seeds."""
    wanted = [
        (kind, dose, options, seed)
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
        for kind, dose, options in arms()
        if kind != BESIDE or seed < FIRST_SEED + CONTROL_SEEDS
    ]
    wanted += [(NONE, NONE, [], seed) for seed in range(FIRST_SEED + seeds, FIRST_SEED + seeds + more)]
    wanted += [(*question, seed) for seed in range(FIRST_SEED, FIRST_SEED + seeds) for question in questions()]

    def one(job: tuple[str, str, list[str], int]) -> None:
        kind, dose, options, seed = job
        folder = folder_of(runs, kind, dose, seed)
        state = (read_json(folder / "result.json") or {}).get("state")
        if state == "finished":
            return
        own = [f"resume={folder}"] if state else [f"hydra.run.dir={folder}", f"seed={seed}", *ALL, *options, *common]
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *own], check=False, capture_output=True, text=True
        )
        print(f"{kind} {dose} seed {seed}: {'done' if done.returncode == 0 else done.stderr[-400:]}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, wanted))


def collect(runs: Path) -> list[dict[str, str]]:
    """A row for each finished run."""
    rows = []
    for kind, dose, _ in (*arms(), *questions()):
        for folder in sorted(folder_of(runs, kind, dose, 0).parent.glob("seed-*")):
            result = read_json(folder / "result.json") or {}
            if result.get("state") != "finished":
                continue
            outcome = read_outcome(folder)
            last = outcome.last
            rows.append(
                {
                    "kind": kind,
                    "dose": dose,
                    "seed": folder.name.removeprefix("seed-"),
                    "pass@1": f"{last.correct.mean():.5f}",
                    "pass@1 of 16": f"{last.correct[:, :DEFAULT_SAMPLES].mean():.5f}",
                    "three levels": f"{three_levels(folder):.4f}",
                    "greedy": f"{last.greedy.mean():.5f}",
                    "tokens": f"{outcome.tokens[-1]:.0f}",
                    "seconds": f"{result['seconds']:.0f}",
                }
            )
    return rows


def three_levels(folder: Path) -> float:
    """Mean share of groups with three or more levels in the last quarter of training."""
    shares = [row["groups/share_three_levels"] for _, row in read_jsonl(folder / METRICS_FILE) if "reward" in row]
    return statistics.mean(shares[-len(shares) // 4 :])


def scores(rows: Sequence[Mapping[str, str]], metric: str) -> dict[tuple[str, str], dict[int, float]]:
    """The metric of each arm by seed."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        found.setdefault((row["kind"], row["dose"]), {})[int(row["seed"])] = float(row[metric])
    return found


def points(test: SeedTest) -> str:
    """A difference in points."""
    return f"{100 * test.value:+.1f} [{100 * test.low:+.1f}, {100 * test.high:+.1f}]"


def seen_in_draws(differences: Sequence[float], size: int) -> float:
    """Share of the draws of so many seeds in which a difference is called one."""
    draws = list(itertools.combinations(differences, size))
    return statistics.mean(paired_t(draw).p_value < LEVEL for draw in draws)


def called_different(values: Sequence[float], size: int = 6, draws: int = 10_000) -> float:
    """Share of random pairings of twice so many runs of one arm that are called different."""
    rng, array = np.random.default_rng(0), np.array(values)
    found = 0
    for _ in range(draws):
        drawn = rng.permutation(array)[: 2 * size]
        found += paired_t(drawn[:size] - drawn[size:]).p_value < LEVEL
    return found / draws


def dose_lines(name: str, doses: Mapping[str, Mapping[int, float]], base: Mapping[int, float]) -> list[str]:
    """Dose and response of a kind."""
    shared = sorted(set(base).intersection(*doses.values()))
    table = {NONE: [base[s] for s in shared]} | {dose: [runs[s] for s in shared] for dose, runs in doses.items()}
    head = ["| dose | pass@1 | against none | seen by 6 seeds | by 10 |", "|---|---|---|---|---|"]
    lines = [f"### {name[0].upper()}{name[1:]}", "", *head]
    smallest = {6: "none of them", 10: "none of them"}
    for dose, values in table.items():
        mean = f"{100 * statistics.mean(values):.1f}"
        if dose == NONE:
            lines.append(f"| {dose} | {mean} | | | |")
            continue
        test = paired_t([value - none for value, none in zip(values, table[NONE], strict=True)])
        chances = {n: power(test.value, test.sd, n, estimated_from=len(shared)) for n in (6, 10)}
        for n, chance in chances.items():
            if chance.value >= 0.8 and smallest[n] == "none of them":
                smallest[n] = f"{dose} ({abs(100 * test.value):.1f} points)"
        cells = " | ".join(f"{c.value:.2f} ({c.low:.2f} to {c.high:.2f})" for c in chances.values())
        lines.append(f"| {dose} | {mean} | {points(test)} | {cells} |")
    step = np.arange(len(table)) - (len(table) - 1) / 2
    slopes = [float(step @ np.array(column) / (step @ step)) for column in zip(*table.values(), strict=True)]
    pairs = max_t(table)
    order = list(table)
    reversed_pairs = [
        f"{p.first} / {p.second}" for p in pairs
        if p.p_value < LEVEL and (p.single.value > 0) == (order.index(p.second) > order.index(p.first))
    ]  # fmt: skip
    strongest = [table[order[-1]][i] - table[NONE][i] for i in range(len(shared))]
    lines += [
        "",
        f"{len(shared)} seeds. Trend over the doses in their order: {points(paired_t(slopes))} a step. "
        f"Significantly reversed pairs (max-t): {', '.join(reversed_pairs) or 'none'}. Smallest dose "
        f"seen with a chance of 0.8: by six seeds {smallest[6]}, by ten {smallest[10]}.",
    ]
    if len(shared) > 6:
        lines.append(f"The largest dose is seen in {100 * seen_in_draws(strongest, 6):.0f}% of the draws of six seeds.")
    return [*lines, ""]


def table(rows: Sequence[Mapping[str, str]], metric: str = "pass@1") -> str:
    """The whole report, as Markdown."""
    found = scores(rows, metric)
    base, lines = found[NONE, NONE], []
    for kind, doses in DOSES.items():
        of_kind = {dose: found[kind, dose] for dose in doses if (kind, dose) in found}
        if of_kind:
            lines += dose_lines(kind, of_kind, base)
    values = list(base.values())
    sd = statistics.stdev(values) * math.sqrt(2)
    visible = {n: 100 * smallest_visible(sd, n) for n in (6, 10)}
    lines += [
        "### What can be seen",
        "",
        f"{len(values)} runs of the default arm: {100 * statistics.mean(values):.1f}, standard deviation over seeds "
        f"{100 * statistics.stdev(values):.2f} points. The smallest difference that is seen with a chance of 0.8, arms "
        f"unpaired in what their seeds do: {visible[6]:.1f} points by six seeds, {visible[10]:.1f} by ten.",
    ]
    if len(values) >= 12:
        lines.append(
            f"Of 10,000 random pairings of twelve of them, {100 * called_different(values):.1f}% are called different."
        )
    for dose in CONTROLS:
        runs = found.get((BESIDE, dose), {})
        if runs:
            distance = 100 * (statistics.mean(values) - statistics.mean(runs.values()))
            lines.append(f"{dose.capitalize()} ends {distance:.1f} points lower ({len(runs)} seeds).")
    asked = [dose for kind, dose in found if kind == QUESTION]
    if asked:
        lines += ["", "### Questions", "", "| beside the default arm | seeds | pass@1, paired difference | tokens |"]
        lines.append("|---|---|---|---|")
    tokens = scores(rows, "tokens")
    for dose in asked:
        runs = found[QUESTION, dose]
        shared = sorted(runs.keys() & base.keys())
        test = paired_t([runs[seed] - base[seed] for seed in shared])
        cost = statistics.mean(tokens[QUESTION, dose][s] / tokens[NONE, NONE][s] for s in shared)
        lines.append(f"| {dose} | {len(shared)} | {points(test)} | {cost:.2f} times |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, or write rows and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "assay", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=10, help="of every arm")
    parser.add_argument("--more", type=int, default=10, help="seeds of the default arm beside")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=RESULTS, help="rows, written where there are runs and read else")
    parser.add_argument("options", nargs="*", help="further options of all runs")
    args = parser.parse_intermixed_args()
    if args.what == "run":
        run(args.runs.resolve(), args.seeds, args.more, args.jobs, args.options)
        return
    rows: list[dict[str, str]] = collect(args.runs.resolve()) if args.runs.is_dir() else []
    if rows:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif not args.csv.is_file():
        raise SystemExit(
            f"{args.runs}: no finished run, and no rows in {args.csv}. First: python benchmarks/assay.py run"
        )
    else:
        rows = list(csv.DictReader(args.csv.open(newline="")))
    print(table(rows))


if __name__ == "__main__":
    main()
