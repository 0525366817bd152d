"""The assay: differences of known order, and how small a one the embedded task and so many seeds can see.

    python benchmarks/assay.py run --seeds 10 --jobs 2             # takes hours, and goes on where it was stopped
    python benchmarks/assay.py table

Doses of three kinds make training worse: wrong training answers, a smaller learning rate, groups left out by lot. Each
run is `python train.py` with the dose's option, `threads=1` and 32 samples of a problem at the end. Seeds 200 and on
are the assay's: the task was tuned on others.
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grouprl.files import read_json, read_jsonl, write_parquet
from grouprl.statistics.seeds import LEVEL, Power, SeedTest, paired_t, power, sd_interval, smallest_visible
from grouprl.statistics.several import max_t
from grouprl.studies.outcomes import read_outcome
from grouprl.training.records import ENDED, METRICS_FILE

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "assay" / "results.csv"
STORED = "default.parquet"
"""Beside the results: what each run of the default arm got right, for `stored.py`."""
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
METRICS = ("pass@1", "greedy")
SEEDS, CHANCE = (6, 10), 0.8
LEAST_RUNS = 20
"""Of the default arm, to draw pairs from."""


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


def ended(runs: Path, kind: str, dose: str) -> list[Path]:
    """Runs of an arm that came to their end, the failed ones too: they count as what they scored last."""
    folders = folder_of(runs, kind, dose, 0).parent.glob("seed-*")
    ours = [folder for folder in folders if int(folder.name.removeprefix("seed-")) >= FIRST_SEED]
    states = {folder: (read_json(folder / "result.json") or {}).get("state") for folder in sorted(ours)}
    return [folder for folder, state in states.items() if state in ENDED]


def collect(runs: Path) -> list[dict[str, str]]:
    """A row for each run that came to its end.

    Raises:
        SystemExit: Runs of other versions of the package are among them.
    """
    rows = []
    for kind, dose, _ in (*arms(), *questions()):
        for folder in ended(runs, kind, dose):
            result = read_json(folder / "result.json") or {}
            outcome = read_outcome(folder)
            last = outcome.last
            rows.append(
                {
                    "kind": kind,
                    "dose": dose,
                    "seed": folder.name.removeprefix("seed-"),
                    "state": outcome.state,
                    "commit": result.get("commit") or "",
                    "package": str(outcome.conditions.get("package")),
                    "pass@1": f"{last.correct.mean():.5f}",
                    "pass@1 of 16": f"{last.correct[:, :DEFAULT_SAMPLES].mean():.5f}",
                    "three levels": f"{three_levels(folder):.4f}",
                    "greedy": f"{last.greedy.mean():.5f}",
                    "tokens": f"{outcome.tokens[-1]:.0f}",
                    "seconds": f"{result['seconds']:.0f}",
                }
            )
    if len({row["package"] for row in rows}) > 1:
        raise SystemExit(f"{runs}: runs of several versions of the package. Give --runs a folder of one.")
    return rows


def stored(runs: Path) -> list[dict[str, int]]:
    """What the runs of the default arm got right at the end, a row a problem."""
    rows = []
    for folder in ended(runs, NONE, NONE):
        last = read_outcome(folder).last
        for problem, (marks, greedy) in enumerate(zip(last.correct, last.greedy, strict=True)):
            row = {"problem": problem, "right": int(marks.sum()), "samples": len(marks), "greedy": int(greedy)}
            rows.append({"seed": int(folder.name.removeprefix("seed-"))} | row)
    return rows


def three_levels(folder: Path) -> float:
    """Mean share of groups with three or more levels in the last quarter of training; NaN of another reward's."""
    shares = [
        row.get("groups/share_three_levels", math.nan)
        for _, row in read_jsonl(folder / METRICS_FILE)
        if "reward" in row
    ]
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
    """Share of the draws of so many seeds in which the harm is called one."""
    tests = [paired_t(draw) for draw in itertools.combinations(differences, size)]
    return statistics.mean(test.p_value < LEVEL and test.value < 0 for test in tests)


def called_different(values: Sequence[float], size: int = 6, draws: int = 10_000) -> float:
    """Share of random pairings of twice so many runs of one arm that are called different."""
    rng, array = np.random.default_rng(0), np.array(values)
    found = 0
    for _ in range(draws):
        drawn = rng.permutation(array)[: 2 * size]
        found += paired_t(drawn[:size] - drawn[size:]).p_value < LEVEL
    return found / draws


@dataclass(frozen=True)
class Response:
    """What a kind of harm does over its doses, over the seeds that all of them have."""

    kind: str
    scores: Mapping[str, Sequence[float]]
    """Of each dose, `NONE` first and the largest last, one number a seed."""

    @property
    def doses(self) -> list[str]:
        """The doses, the smaller first."""
        return list(self.scores)[1:]

    def against_none(self, dose: str) -> SeedTest:
        """The paired difference of a dose."""
        return paired_t(self._differences(dose))

    def _differences(self, dose: str) -> list[float]:
        return [value - none for value, none in zip(self.scores[dose], self.scores[NONE], strict=True)]

    @property
    def trend(self) -> SeedTest:
        """Slope over the doses in their order, a step, over seeds."""
        step = np.arange(len(self.scores)) - (len(self.scores) - 1) / 2
        columns = zip(*self.scores.values(), strict=True)
        return paired_t([float(step @ np.array(column) / (step @ step)) for column in columns])

    @property
    def is_reversed(self) -> list[str]:
        """Pairs of doses of which the larger is significantly better (max-t)."""
        order = list(self.scores)
        tests = [t for t in max_t(self.scores) if t.p_value < LEVEL]
        return [
            f"{t.first} / {t.second}" for t in tests
            if (t.single.value > 0) == (order.index(t.second) > order.index(t.first))
        ]  # fmt: skip

    def chance(self, dose: str, seeds: int) -> Power:
        """That so many seeds call the harm one, were it as large as it came out."""
        test = self.against_none(dose)
        if not test.value < 0 or not test.sd > 0:
            return Power(math.nan, math.nan, math.nan)
        return power(test.value, test.sd, seeds, estimated_from=test.seeds)

    def smallest_seen(self, seeds: int) -> str | None:
        """The smallest dose from which on every dose is seen four times in five."""
        seen = [self.chance(dose, seeds).value >= CHANCE for dose in self.doses]
        first = next((place for place in range(len(seen)) if all(seen[place:])), None)
        return None if first is None else self.doses[first]

    def lines(self, metric: str) -> list[str]:
        """Dose and response as Markdown."""
        rows = [
            f"### {self.kind[0].upper()}{self.kind[1:]}, {metric}", "",
            "| dose | mean | against none | sd of that | seen by 6 seeds | by 10 |", "|---|---|---|---|---|---|",
            f"| {NONE} | {100 * statistics.mean(self.scores[NONE]):.1f} | | | | |",
        ]  # fmt: skip
        for dose in self.doses:
            test = self.against_none(dose)
            chances = [self.chance(dose, seeds) for seeds in SEEDS]
            cells = [f"{c.value:.2f} ({c.low:.2f} to {c.high:.2f})" if c.value >= 0 else "-" for c in chances]
            mean = f"{100 * statistics.mean(self.scores[dose]):.1f}"
            rows.append(f"| {' | '.join([dose, mean, points(test), f'{100 * test.sd:.2f}', *cells])} |")
        smallest = []
        for seeds in SEEDS:
            dose = self.smallest_seen(seeds)
            size = "" if dose is None else f" ({abs(100 * self.against_none(dose).value):.1f} points)"
            smallest.append(f"by {seeds} seeds {dose or 'none of them'}{size}")
        largest, count = self.doses[-1], len(self.scores[NONE])
        rows += [
            "",
            f"{count} seeds. Trend over the doses in their order: {points(self.trend)} a step. Significantly reversed "
            f"pairs (max-t): {', '.join(self.is_reversed) or 'none'}. Smallest dose that is seen with a chance of "
            f"{CHANCE}, as all larger ones are: {', '.join(smallest)}.",
        ]
        if count > SEEDS[0]:
            share = 100 * seen_in_draws(self._differences(largest), SEEDS[0])
            rows.append(f"The largest dose, {largest}, is seen in {share:.0f}% of the draws of {SEEDS[0]} seeds.")
        return [*rows, ""]


def responses(found: Mapping[tuple[str, str], Mapping[int, float]]) -> list[Response]:
    """Of every kind of which all doses were run."""
    made = []
    for kind, doses in DOSES.items():
        arms_of_kind = {NONE: found[NONE, NONE]} | {dose: found.get((kind, dose), {}) for dose in doses}
        shared = sorted(set.intersection(*(set(runs) for runs in arms_of_kind.values())))
        if len(shared) > 1:
            made.append(Response(kind, {dose: [runs[s] for s in shared] for dose, runs in arms_of_kind.items()}))
    return made


def sensitivity(found: Mapping[tuple[str, str], Mapping[int, float]], metric: str) -> list[str]:
    """What the task can see of any difference, beside what lies between the reward and a random one."""
    values = list(found[NONE, NONE].values())
    sd, count = statistics.stdev(values), len(values)
    ends = sd_interval(sd, count)
    said = []
    for seeds in SEEDS:
        at, low, high = (100 * smallest_visible(math.sqrt(2) * spread, seeds) for spread in (sd, *ends))
        said.append(f"{at:.2f} points ({low:.2f} to {high:.2f}) by {seeds} seeds")
    lines = [
        f"### What can be seen, {metric}",
        "",
        f"{count} runs of the default arm: {100 * statistics.mean(values):.1f}, standard deviation over seeds "
        f"{100 * sd:.2f} points ({100 * ends[0]:.2f} to {100 * ends[1]:.2f}). The smallest difference that is seen "
        f"with a chance of {CHANCE} between two arms like it, whose seeds do not correlate: {', '.join(said)}.",
    ]
    if count >= LEAST_RUNS:
        lines.append(
            f"Of 10,000 random pairings of twelve of them, {100 * called_different(values):.1f}% are called different."
            " (That says that the test fits runs that are spread like these; how often it errs: the calibration.)"
        )
    for dose in CONTROLS:
        runs = found.get((BESIDE, dose), {})
        if runs:
            distance = 100 * (statistics.mean(values) - statistics.mean(runs.values()))
            lines.append(
                f"{dose.capitalize()} ends {distance:.1f} points lower ({len(runs)} seeds); a twentieth of that is "
                f"{distance / 20:.2f} points."
            )
    return [*lines, ""]


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """The whole report, as Markdown."""
    lines = []
    for metric in METRICS:
        found = scores(rows, metric)
        for response in responses(found):
            lines += response.lines(metric)
    for metric in ("pass@1", f"pass@1 of {DEFAULT_SAMPLES}", "greedy"):
        lines += sensitivity(scores(rows, metric), metric) if metric in rows[0] else []
    found, tokens = scores(rows, "pass@1"), scores(rows, "tokens")
    if "three levels" in rows[0]:
        levels = list(scores(rows, "three levels")[NONE, NONE].values())
        lines += [
            f"Groups with three or more levels in the last quarter of training: {100 * statistics.mean(levels):.0f}% "
            f"in the mean of the default runs, {100 * min(levels):.0f}% in the lowest.",
            "",
        ]
    asked = [dose for kind, dose in found if kind == QUESTION]
    if asked:
        lines += ["### Questions", "", "| beside the default arm | seeds | pass@1, paired difference | tokens |"]
        lines.append("|---|---|---|---|")
    for dose in asked:
        runs, base = found[QUESTION, dose], found[NONE, NONE]
        shared = sorted(runs.keys() & base.keys())
        test = paired_t([runs[seed] - base[seed] for seed in shared])
        cost = statistics.mean(tokens[QUESTION, dose][s] / tokens[NONE, NONE][s] for s in shared)
        lines.append(f"| {dose} | {len(shared)} | {points(test)} | {cost:.2f} times |")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Run what is missing, or write rows and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "assay", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=10, help="of every arm")
    parser.add_argument("--more", type=int, default=14, help="seeds of the default arm beside")
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
        write_parquet(args.csv.with_name(STORED), stored(args.runs.resolve()))
    elif not args.csv.is_file():
        raise SystemExit(
            f"{args.runs}: no finished run, and no rows in {args.csv}. First: python benchmarks/assay.py run"
        )
    else:
        rows = list(csv.DictReader(args.csv.open(newline="")))
    print(table(rows))


if __name__ == "__main__":
    main()
