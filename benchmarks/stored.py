"""Studies drawn from stored runs of one arm: is chance called a difference, and does a planted one lie in its interval?

    python benchmarks/stored.py                    # of the runs in experiments/assay, 10,000 studies a row

A study draws twice n runs without replacement and pairs them at random. *A/A*: as they are. *Planted*: each right
sample of the second arm is marked wrong with a chance of 2%, so that the arms differ by 2% of what the runs scored.
The test is the one that a verdict on two arms is read from, Student's t over the seeds' differences.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import report

from grouprl.files import read_parquet
from grouprl.statistics.seeds import LEVEL, paired_t

RESULTS = Path(__file__).parent / "results"
STORED = Path(__file__).resolve().parents[1] / "experiments" / "assay" / "default.parquet"
_COLUMNS = ("seed", "problem", "right", "samples")


def read_runs(file: Path) -> tuple[np.ndarray, int]:
    """Right samples of each run and problem, [runs, problems], and samples of a problem."""
    rows = read_parquet(file, _COLUMNS, remedy="Write it with assay.py table")
    seeds, problems = (sorted({row[name] for row in rows}) for name in ("seed", "problem"))
    right = np.full((len(seeds), len(problems)), -1)
    for row in rows:
        right[seeds.index(row["seed"]), problems.index(row["problem"])] = row["right"]
    samples = {row["samples"] for row in rows}
    if (right < 0).any() or len(samples) != 1:
        raise SystemExit(f"{file}: it has not every problem of every run, with as many samples.")
    return right, samples.pop()


def study(
    right: np.ndarray, samples: int, seeds: int, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two arms by seed, of which the second lost a share of its right samples."""
    drawn = right[rng.permutation(len(right))[: 2 * seeds]]
    first, second = drawn[:seeds], drawn[seeds:]
    if share:
        second = second - rng.binomial(second, share)
    return first.mean(axis=1) / samples, second.mean(axis=1) / samples


def rates(right: np.ndarray, samples: int, seeds: int, share: float, studies: int) -> dict[str, Any]:
    """How many studies of a kind are called different, and how many intervals hold what was planted."""
    rng = np.random.default_rng((11, seeds, round(1000 * share)))
    planted = -share * float(right.mean()) / samples
    tests = []
    for _ in range(studies):
        first, second = study(right, samples, seeds, share, rng)
        tests.append(paired_t((second - first).tolist()))
    return {
        "seeds": seeds,
        "share": share,
        "planted": planted,
        "different": sum(test.p_value < LEVEL for test in tests) / studies,
        "holds": sum(test.low <= planted <= test.high for test in tests) / studies,
        "width": float(np.mean([test.high - test.low for test in tests])),
    }


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The report."""
    rows = [
        [
            "A/A" if not row["share"] else f"{row['share']:.0%} of right samples marked wrong",
            str(row["seeds"]),
            f"{100 * row['planted']:+.2f}",
            f"{100 * row['different']:.1f}",
            f"{100 * row['holds']:.1f}",
            f"{100 * row['width']:.2f}",
        ]
        for row in found["rows"]
    ]
    return [
        *report.heading("Studies drawn from stored runs", found),
        f"{found['studies']:,} studies a row, of {found['runs']} runs of the default arm with {found['problems']} "
        f"problems and {found['samples']} samples ({100 * found['mean']:.1f}, standard deviation over seeds "
        f"{100 * found['sd']:.2f} points). Called different and holds: percent; the standard error of a 5 is "
        f"{100 * math.sqrt(0.05 * 0.95 / found['studies']):.2f}.",
        "",
        *report.table(["study", "seeds", "planted, points", "different", "interval holds it", "its width"], rows),
    ]


def main() -> None:
    """Draw, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--from", dest="file", type=Path, default=STORED, help="stored runs, as assay.py writes them")
    add("--studies", type=int, default=10_000)
    add("--seeds", type=int, nargs="+", default=[6, 10])
    add("--share", type=float, default=0.02, help="of right samples that are marked wrong")
    add("--out", type=Path, default=RESULTS, help="folder of the results")
    add("--name", default="stored")
    args = parser.parse_args()
    if not args.file.is_file():
        raise SystemExit(f"{args.file}: no stored runs. First: python benchmarks/assay.py table")
    right, samples = read_runs(args.file)
    if len(right) < 2 * max(args.seeds):
        raise SystemExit(f"{args.file}: {len(right)} runs; studies of {max(args.seeds)} seeds draw twice as many.")
    scores = right.mean(axis=1) / samples
    found = report.surroundings("cpu", 1)
    found |= {"studies": args.studies, "runs": len(right), "problems": right.shape[1], "samples": samples}
    found |= {"mean": float(scores.mean()), "sd": float(scores.std(ddof=1)), "rows": []}
    for share in (0.0, args.share):
        found["rows"] += [rates(right, samples, seeds, share, args.studies) for seeds in args.seeds]
    lines = lines_of(found)
    report.write(args.out, args.name, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
