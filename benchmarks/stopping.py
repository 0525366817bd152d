"""Stopping early: the looks of ``until=decided`` beside AdaStop, on the same runs.

    pip install -e ".[bench]"                      # adastop 0.1, never a dependency of the package
    python benchmarks/stopping.py --studies 300    # after calibration.py --from, whose structure it takes

AdaStop (arXiv 2306.10882) compares arms after blocks of runs by permutations, at one family-wise level, and calls equal
what it did not find different at the last look. It does not pair seeds, has no margin and gives no interval. Both rules
get the scores of the same simulated runs, of two arms with a set difference and twelve seeds at most, and those of the
assay's real runs, seed by seed.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import assay
import numpy as np
import report
from calibration import MEASURED, RESULTS, Structure, draw_problems, probabilities

from grouprl.statistics.sequential import ending_of, look

LOOKS = {"4, 8 and 12": (4, 8, 12), "6, 8, 10 and 12": (6, 8, 10, 12)}
"""Those of both rules, and those that `until=decided` would take: AdaStop's are evenly spaced."""
BLOCK, BLOCKS = 4, 3
"""Of AdaStop: at looks 4, 8 and 12. Its permutations are 10,000, as it comes."""
MOST = BLOCK * BLOCKS
LEVEL = 0.05
DIFFERENCES = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03)
REAL_LOOKS, REAL_BLOCK, REAL_BLOCKS = (6, 8, 10), 5, 2
"""For the assay's ten seeds."""
Scores = Sequence[float]


def ours(first: Scores, second: Scores, looks: Sequence[int], margin: float) -> tuple[str, int]:
    """What `until=decided` ends with, and after how many seeds."""
    for seeds in looks:
        (pair,), level = look({"a": first[:seeds], "b": second[:seeds]}, looks)
        ending = ending_of(pair.single, level, margin)
        if ending != "undecided":
            sign = "better" if pair.single.value > 0 else "worse"
            return (sign if ending == "better" else ending), seeds
    return "undecided", looks[-1]


def theirs(first: Scores, second: Scores, block: int, blocks: int) -> tuple[str, int]:
    """What AdaStop ends with, and after how many seeds."""
    from adastop import MultipleAgentsComparator

    comparator = MultipleAgentsComparator(n=block, K=blocks, B=10_000, alpha=LEVEL, seed=0)
    seeds = 0
    for number in range(1, blocks + 1):
        seeds = number * block
        comparator.partial_compare({"a": np.array(first[:seeds]), "b": np.array(second[:seeds])}, verbose=False)
        if comparator.is_finished:
            break
    (decision,) = comparator.decisions.values()  # of the first from the second
    return {"smaller": "better", "larger": "worse"}.get(decision, decision), seeds


def study(arguments: tuple[Structure, float, int, float]) -> dict[str, tuple[str, int]]:
    """Both rules on one simulated study."""
    s, difference, number, margin = arguments
    rng = np.random.default_rng((13, number))  # the same runs for every difference
    problems = draw_problems(s, s.problems, rng)
    p = probabilities(s, problems, MOST, rng)
    first, second = (rng.binomial(s.samples, p) / s.samples).mean(axis=2)
    second = second + difference
    found = {name: ours(first, second, looks, margin) for name, looks in LOOKS.items()}
    return found | {"AdaStop": theirs(first, second, BLOCK, BLOCKS)}


def summary(difference: float, studies: Sequence[Mapping[str, tuple[str, int]]]) -> dict[str, Any]:
    """Shares of endings and mean seeds of each rule."""
    row: dict[str, Any] = {"difference": difference}
    for rule in studies[0]:
        endings = Counter(one[rule][0] for one in studies)
        row[rule] = {ending: count / len(studies) for ending, count in endings.items()}
        row[rule]["seeds"] = float(np.mean([one[rule][1] for one in studies]))
    return row


def real(rows: Sequence[Mapping[str, str]], margin: float) -> list[dict[str, Any]]:
    """Both rules on the assay's doses, each beside the default arm."""
    found = assay.scores(rows, "pass@1")
    base = found.pop((assay.NONE, assay.NONE))
    made = []
    for (kind, dose), runs in found.items():
        seeds = sorted(runs.keys() & base.keys())
        if len(seeds) < REAL_LOOKS[-1]:
            continue
        first, second = ([of[seed] for seed in seeds] for of in (base, runs))
        made.append(
            {
                "arm": f"{kind} {dose}",
                "difference": float(np.mean(second) - np.mean(first)),
                "grouprl": ours(first, second, REAL_LOOKS, margin),
                "AdaStop": theirs(first, second, REAL_BLOCK, REAL_BLOCKS),
            }
        )
    return made


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The report."""
    lines = report.heading("Stopping early, beside AdaStop", found)
    lines += [
        f"{found['studies']} simulated studies for each difference, variance as measured ({found['runs']}), two arms, "
        f"{MOST} paired seeds at most; margin {100 * found['margin']:g} points. AdaStop {found['adastop']} at level "
        f"{LEVEL}. Percent, with standard errors of the share that is called different.",
        "",
    ]
    rows = []
    for row in found["rows"]:
        for rule in (*LOOKS, "AdaStop"):
            of = row[rule]
            different = of.get("better", 0.0) + of.get("worse", 0.0)
            error = (different * (1 - different) / found["studies"]) ** 0.5
            same = of.get("equivalent", 0.0) + of.get("equal", 0.0)
            rows.append(
                [
                    f"{100 * row['difference']:g}",
                    f"grouprl, looks after {rule}" if rule in LOOKS else f"AdaStop, after {next(iter(LOOKS))}",
                    f"{100 * different:.1f} ({100 * error:.1f})",
                    f"{100 * same:.1f}",
                    f"{100 * of.get('undecided', 0.0):.1f}",
                    f"{of['seeds']:.1f}",
                ]
            )
    columns = ["true difference, points", "rule", "called different", 'equivalent, or "equal"', "undecided", "seeds"]
    lines += report.table(columns, rows)
    if found["real"]:
        lines += [
            f"On the assay's runs, each dose beside the default arm: looks after {', '.join(map(str, REAL_LOOKS))}; "
            f"AdaStop after {', '.join(str(REAL_BLOCK * n) for n in range(1, REAL_BLOCKS + 1))}.",
            "",
        ]
        cells = [
            [
                row["arm"],
                f"{100 * row['difference']:+.1f}",
                *(f"{row[name][0]} ({row[name][1]} seeds)" for name in ("grouprl", "AdaStop")),
            ]
            for row in found["real"]
        ]
        lines += report.table(["arm", "difference, points", "grouprl", "AdaStop"], cells)
    return lines


def main() -> None:
    """Simulate, print and write."""
    from importlib.metadata import version

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--studies", type=int, default=300)
    add("--margin", type=float, default=1.0, help="points")
    add("--structure", type=Path, default=MEASURED, help="file of calibration.py --from")
    add("--assay", type=Path, default=assay.RESULTS, help="rows of the assay")
    add("--workers", type=int, default=2)
    add("--out", type=Path, default=RESULTS, help="folder of the results")
    add("--name", default="stopping")
    args = parser.parse_args()
    if not args.structure.is_file():
        raise SystemExit(f"{args.structure}: no structure. First: python benchmarks/calibration.py --from RUNS RUNS")
    about, margin = json.loads(args.structure.read_text()), args.margin / 100
    structure = Structure(**{**about["structure"], "arm_problem": 0.0})
    found = report.surroundings("cpu", 1)
    found |= {"runs": about["runs"], "studies": args.studies, "margin": margin, "rows": [], "real": []}
    found["adastop"] = version("adastop")
    if args.assay.is_file():
        found["real"] = real(list(csv.DictReader(args.assay.open(newline=""))), margin)
    with ProcessPoolExecutor(args.workers) as pool:
        for difference in DIFFERENCES:
            jobs = [(structure, difference, number, margin) for number in range(args.studies)]
            found["rows"].append(summary(difference, list(pool.map(study, jobs, chunksize=10))))
            lines = lines_of(found)
            report.write(args.out, args.name, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
