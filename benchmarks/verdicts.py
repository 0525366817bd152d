"""How often verdicts are wrong: simulated studies that are judged as a sweep's are, with one look and with several.

    python benchmarks/verdicts.py --studies 10000        # after calibration.py --from, whose structure it takes

Runs are drawn as in `calibration.py`. A study's arms are compared by `grouprl.studies.seeds.compare_arms`; one that
looks several times ends at the first look at which every pair is decided, as `until=decided` does. A wrong "better" is
one of any pair that does not differ on these problems, a wrong "equivalent" one of any pair that differs by the margin.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import report
from calibration import MEASURED, RESULTS, Structure, draw_problems, probabilities, true_difference

from grouprl.statistics.seeds import power
from grouprl.studies.outcomes import Evaluation, Outcome
from grouprl.studies.seeds import StudyComparison, compare_arms, keep_decided

LOOKS = (6, 8, 10, 12)
_NAMES = "ABC"


@dataclass(frozen=True)
class Setting:
    """Studies of one kind."""

    name: str
    structure: Structure
    arms: int
    seeds: int
    looks: tuple[int, ...] = ()
    asks: str = "better"
    """What is counted: ``better``, ``equivalent`` at the margin, or the ``power`` for a difference."""


def outcomes(s: Structure, problems: np.ndarray, seeds: int, rng: np.random.Generator) -> dict[str, dict[int, Outcome]]:
    """Runs of each arm by seed, for logits of problems in each arm, [arms, problems]."""
    p = probabilities(s, problems, seeds, rng)
    marks = rng.random((*p.shape, s.samples)) < p[..., None]

    def run(arm: int, seed: int) -> Outcome:
        evaluation = Evaluation(1, marks[arm, seed], marks[arm, seed, :, 0], tokens=0)
        name = f"{_NAMES[arm]}-{seed}"
        return Outcome(name, seed, "finished", {}, "", (evaluation,), np.array([1.0]), math.nan, math.nan)

    return {_NAMES[arm]: {seed: run(arm, seed) for seed in range(seeds)} for arm in range(len(problems))}


def judged(runs: Mapping[str, Mapping[int, Outcome]], looks: Sequence[int], margin: float) -> StudyComparison:
    """The comparison at the end of a study."""
    if not looks:
        return compare_arms(runs, margin=margin)
    earlier = None
    for look in looks:
        found = compare_arms(
            {name: {seed: run for seed, run in of.items() if seed < look} for name, of in runs.items()},
            margin=margin,
            looks=looks,
        )
        found = earlier = keep_decided(found, earlier, look)
        if all(pair.ending != "undecided" for pair in found.pairs):
            break
    return found


def study(setting: Setting, rng: np.random.Generator) -> dict[str, float]:
    """What the verdict of one study was, and for power what was announced."""
    s = setting.structure
    first, second = draw_problems(s, s.problems, rng)
    problems = np.stack([first, *([second] * (setting.arms - 1))])
    truth = true_difference(s, problems[:2])
    margin = abs(truth) if setting.asks == "equivalent" else 0.01
    found = judged(outcomes(s, problems, setting.seeds, rng), setting.looks, margin)
    if setting.asks != "power":
        pairs = [p for p in found.pairs if setting.asks == "better" or p.first == "A"]
        return {"said": any(pair.ending == setting.asks for pair in pairs), "seeds": len(found.arms[0].seeds)}
    (pair,) = found.pairs
    announced = power(truth, pair.test.single.sd, setting.seeds, estimated_from=setting.seeds)
    rightly = pair.ending == "better" and (pair.test.single.value > 0) == (truth > 0)
    return {"said": rightly, "announced": announced.value, "low": announced.low, "high": announced.high}


def _some(arguments: tuple[Setting, int, int, int]) -> list[dict[str, float]]:
    setting, key, first, count = arguments
    return [study(setting, np.random.default_rng((11, key, number))) for number in range(first, first + count)]


def summary(setting: Setting, studies: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Shares over studies."""
    said = float(np.mean([one["said"] for one in studies]))
    found: dict[str, Any] = {"setting": setting.name, "asks": setting.asks, "said": said}
    if setting.asks == "power":
        found["announced"] = float(np.mean([one["announced"] for one in studies]))
        found["within"] = float(np.mean([one["low"] <= said <= one["high"] for one in studies]))
    else:
        found["seeds"] = float(np.mean([one["seeds"] for one in studies]))
    return found


def settings_of(structure: Structure, effect: float) -> list[Setting]:
    """What is simulated."""
    null, differs = replace(structure, arm_problem=0.0), replace(structure, arm_problem=0.0, effect=effect)
    made = []
    for arms in (2, 3):
        for seeds in (6, 10):
            made.append(Setting(f"{arms} arms that do not differ, {seeds} seeds", null, arms, seeds))
        looks = f"looks after {', '.join(map(str, LOOKS))}"
        made.append(Setting(f"{arms} arms that do not differ, {looks}", null, arms, LOOKS[-1], LOOKS))
        for seeds, looked in ((6, ()), (10, ()), (LOOKS[-1], LOOKS)):
            when = looks if looked else f"{seeds} seeds"
            made.append(
                Setting(f"{arms} arms, of which one differs by the margin, {when}", differs, arms, seeds, looked,
                        "equivalent")
            )  # fmt: skip
    made += [Setting(f"2 arms that differ, {seeds} seeds", differs, 2, seeds, asks="power") for seeds in (6, 10)]
    return made


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The report."""
    lines = report.heading("How often verdicts are wrong", found)
    lines += [
        f"{found['studies']:,} simulated studies a row, of the variance that runs of the embedded task have "
        f"({found['runs']}). Percent; the standard error of a 5 is "
        f"{100 * math.sqrt(0.05 * 0.95 / found['studies']):.2f}.",
        "",
    ]
    errors = [row for row in found["rows"] if row["asks"] != "power"]
    lines += report.table(
        ["studies", "wrongly called", "in", "mean seeds at the end"],
        [[row["setting"], row["asks"], f"{100 * row['said']:.1f}", f"{row['seeds']:.1f}"] for row in errors],
    )
    lines += report.table(
        ["studies", "seen in", "announced, mean", "studies whose announced range holds it"],
        [
            [row["setting"], *(f"{100 * row[name]:.1f}" for name in ("said", "announced", "within"))]
            for row in found["rows"]
            if row["asks"] == "power"
        ],
    )
    older: dict[str, list[str]] = {}
    for row in found["rows"]:
        if "commit" in row:
            older.setdefault(row["commit"], []).append(row["setting"])
    lines += [f"Kept of commit {commit}: {'; '.join(names)}." for commit, names in older.items()]
    return lines


def _kept(file: Path, asked: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier call that asked for the same, by setting; its other results are refused."""
    if not file.is_file():
        return {}
    earlier = json.loads(file.read_text())
    if changed := [name for name, value in asked.items() if earlier[name] != value]:
        raise SystemExit(f"{file} was made with another {changed[0]}; without --keep it is written anew.")
    return {row["setting"]: {"commit": earlier["commit"]} | row for row in earlier["rows"]}


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--studies", type=int, default=10_000)
    add("--effect", type=float, default=-0.1, help="of the arm that differs, in logits")
    add("--structure", type=Path, default=MEASURED, help="file of calibration.py --from")
    add("--asks", nargs="+", default=["better", "equivalent", "power"], help="only these settings")
    add("--keep", action="store_true", help="rows that the results have already, of the same studies")
    add("--workers", type=int, default=2)
    add("--out", type=Path, default=RESULTS, help="folder of the results")
    add("--name", default="verdicts")
    args = parser.parse_args()
    if not args.structure.is_file():
        raise SystemExit(f"{args.structure}: no structure. First: python benchmarks/calibration.py --from RUNS RUNS")
    about = json.loads(args.structure.read_text())
    structure, size = Structure(**about["structure"]), 100
    found = report.surroundings("cpu", 1)
    asked = {"runs": about["runs"], "studies": args.studies, "effect": args.effect}
    kept = _kept(args.out / f"{args.name}.json", asked) if args.keep else {}
    found |= asked | {"rows": []}
    with ProcessPoolExecutor(args.workers) as pool:
        for key, setting in enumerate(settings_of(structure, args.effect)):
            if setting.name in kept:
                found["rows"].append(kept[setting.name])
                continue
            if setting.asks not in args.asks:
                continue
            jobs = [(setting, key, f, min(size, args.studies - f)) for f in range(0, args.studies, size)]
            studies = [one for part in pool.map(_some, jobs) for one in part]
            found["rows"].append(summary(setting, studies))
            lines = lines_of(found)
            report.write(args.out, args.name, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
