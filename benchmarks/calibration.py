"""How often the comparisons over seeds err: simulated studies with the variance that runs of the embedded task have.

    python benchmarks/calibration.py --from runs/SWEEP             # the variance structure of those runs
    python benchmarks/calibration.py --studies 10000               # that of the embedded task, as measured

A study has two arms, n paired seeds and a number of held-out problems, each answered a number of times. A problem has a
logit, to which a run adds what its seed, its arm and seed, and each of its problems with them add; samples are drawn
with the probability that comes of it. Where runs collapse, one in ten answers a fifth as many problems as it would.
The tests are those that `compare.py` calls. "These problems": their true difference is the mean over runs without end;
"problems like these": over problems without end, too.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import report
from scipy.special import expit, logit

from grouprl.statistics.crossed import crossed, variance_split
from grouprl.statistics.seeds import LEVEL, equivalence, paired_t, sign_flip, smallest_p

RESULTS = Path(__file__).parent / "results"
MEASURED = RESULTS / "variance.json"
_COLLAPSED = 0.2
"""Share of its answers that a run which collapsed still gives."""
_TRUTH = 400
"""Runs of each arm from which a study's true difference on its problems is taken."""


@dataclass(frozen=True)
class Structure:
    """Standard deviations of logits, and the design."""

    mean: float
    """Mean logit of a problem."""
    problem: float
    """Of problems."""
    pair: float
    """Of what both arms of a seed share."""
    seed: float
    """Of a run beside it."""
    both: float
    """Of a problem in one run."""
    arm_problem: float = 0.0
    """Of what an arm adds to a problem in all its runs."""
    effect: float = 0.0
    """What the second arm adds to all problems."""
    collapse: float = 0.0
    """Share of the runs that collapse."""
    problems: int = 400
    samples: int = 16


def measured(shares: Sequence[np.ndarray], samples: int) -> Structure:
    """The structure of runs: shares of right samples of each arm, [seeds, problems], the same seeds in each arm."""
    splits = [variance_split(arm, samples) for arm in shares]
    slope = float(np.mean([(arm.mean(0) * (1 - arm.mean(0))).mean() for arm in shares]))
    pooled = np.clip(np.mean([arm.mean(0) for arm in shares], axis=0), 0.02, 0.98)
    seed = float(np.mean([split.seed for split in splits]))
    means = np.stack([arm.mean(1) for arm in shares])
    shared = max(0.0, float(np.corrcoef(means)[0, 1])) if len(shares) > 1 and means.shape[1] > 2 else 0.0
    return Structure(
        mean=float(logit(pooled).mean()),
        problem=float(logit(pooled).std(ddof=1)),
        pair=math.sqrt(shared * seed) / slope,
        seed=math.sqrt((1 - shared) * seed) / slope,
        both=math.sqrt(float(np.mean([split.both for split in splits]))) / slope,
        problems=shares[0].shape[1],
        samples=samples,
    )


def probabilities(s: Structure, problems: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Probabilities of a right sample, [arms, seeds, problems], for logits of problems in both arms, [2, problems]."""
    shape = (2, seeds, problems.shape[1])
    ours = s.seed * rng.standard_normal((2, seeds, 1))
    logits = problems[:, None, :] + s.pair * rng.standard_normal((1, seeds, 1)) + ours
    found = expit(logits + s.both * rng.standard_normal(shape))
    return np.where(rng.random((2, seeds, 1)) < s.collapse, _COLLAPSED, 1.0) * found


def draw_problems(s: Structure, count: int, rng: np.random.Generator) -> np.ndarray:
    """Logits of problems in both arms, [2, problems]."""
    ours = s.mean + s.problem * rng.standard_normal(count)
    return np.stack([ours, ours + s.effect + s.arm_problem * rng.standard_normal(count)])


def study(s: Structure, seeds: int, population: float, rng: np.random.Generator) -> dict[str, bool]:
    """What the tests say of one study, and whether their intervals hold the truth."""
    problems = draw_problems(s, s.problems, rng)
    p = probabilities(s, problems, seeds, rng)
    differences = np.subtract(*(rng.binomial(s.samples, p) / s.samples)[::-1])
    means = differences.mean(axis=1)
    truth = 0.0
    if s.effect or s.arm_problem:
        truth = float(np.subtract(*probabilities(s, problems, _TRUTH, rng)[::-1]).mean())
    t, c = paired_t(means), crossed(differences)
    found = {
        "t": t.p_value < LEVEL,
        "sign flip": sign_flip(means) < LEVEL,
        "crossed": c.p_value < LEVEL,
        "t covers": t.low <= truth <= t.high,
        "crossed covers": c.low <= population <= c.high,
    }
    if truth:
        found["equivalent at the margin"] = equivalence(means, abs(truth)) < LEVEL
    return found


def _some(arguments: tuple[Structure, int, float, int, int]) -> dict[str, list[bool]]:
    s, seeds, population, first, count = arguments
    found: dict[str, list[bool]] = {}
    for number in range(first, first + count):
        for name, value in study(s, seeds, population, np.random.default_rng((7, seeds, number))).items():
            found.setdefault(name, []).append(value)
    return found


def rates(s: Structure, seeds: int, studies: int, workers: int) -> dict[str, float]:
    """Shares of studies by what the tests said."""
    rng, population = np.random.default_rng((8, seeds)), 0.0
    if s.effect or s.arm_problem:
        parts = [probabilities(s, draw_problems(s, 2000, rng), 100, rng) for _ in range(20)]
        population = float(np.mean([np.subtract(*part[::-1]).mean() for part in parts]))
    size = 250
    jobs = [(s, seeds, population, first, min(size, studies - first)) for first in range(0, studies, size)]
    found: dict[str, list[bool]] = {}
    with ProcessPoolExecutor(workers) as pool:
        for part in pool.map(_some, jobs):
            for name, values in part.items():
                found.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in found.items()}


def structure_of(folders: Sequence[Path]) -> tuple[Structure, str]:
    """The structure of finished runs, and what they were."""
    from grouprl.studies.outcomes import arms_of, read_outcome

    outcomes = [read_outcome(folder) for folder in folders]
    arms = {name: runs for name, runs in arms_of(outcomes).items() if len(runs) > 2}
    shared = sorted(set.intersection(*(set(runs) for runs in arms.values())))
    shares = [np.stack([runs[seed].last.correct.mean(1) for seed in shared]) for runs in arms.values()]
    samples = next(iter(next(iter(arms.values())).values())).last.correct.shape[1]
    return measured(shares, samples), f"{len(shared)} seeds of {', '.join(arms)}"


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The report."""
    lines = report.heading("How often the comparisons over seeds err", found)
    s = found["structure"]
    lines += [
        f"{found['studies']:,} simulated studies a row: {s['problems']} problems, {s['samples']} samples, variance as "
        f"measured ({found['runs']}): standard deviations of logits {s['problem']:.2f} of problems, {s['pair']:.3f} of "
        f"what the arms of a seed share, {s['seed']:.3f} of a run, {s['both']:.2f} of a problem in a run. Percent; the "
        f"standard error of a 5 is {100 * math.sqrt(0.05 * 0.95 / found['studies']):.2f}.",
        "",
    ]
    columns = [
        "setting",
        "seeds",
        "t",
        "sign flip",
        "(attainable)",
        "crossed",
        "t covers",
        "crossed covers",
        "equivalent",
    ]
    rows = []
    for row in found["rows"]:
        attainable = math.floor(LEVEL / smallest_p(row["seeds"])) * smallest_p(row["seeds"])
        cells = [row["rates"].get(name) for name in ("t", "sign flip")] + [attainable]
        cells += [
            row["rates"].get(name) for name in ("crossed", "t covers", "crossed covers", "equivalent at the margin")
        ]
        rows.append([row["setting"], str(row["seeds"]), *("-" if c is None else f"{100 * c:.1f}" for c in cells)])
    lines += report.table(columns, rows)
    lines += [
        "t, sign flip, crossed: studies called different, in the first two settings by error, and in the others "
        "rightly. Covers: intervals that hold the true difference, on these problems (t) and on problems like these "
        "(crossed). Equivalent: studies called equivalent within a margin that is the true difference.",
    ]
    return lines


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--from", dest="runs", nargs="+", type=Path, help="run folders; their structure is written beside the table")
    add("--studies", type=int, default=10_000)
    add("--seeds", type=int, nargs="+", default=[3, 6, 10])
    add("--effect", type=float, default=0.15, help="of the second arm, in logits, where there is one")
    add("--workers", type=int, default=2)
    add("--out", type=Path, default=RESULTS, help="folder of the results")
    add("--name", default="calibration")
    args = parser.parse_args()
    if args.runs:
        folders = [file.parent for run in args.runs for file in sorted(run.rglob("result.json"))]
        structure, runs = structure_of(folders)
        (args.out / MEASURED.name).write_text(json.dumps({"runs": runs, **asdict(structure)}, indent=1) + "\n")
    else:
        saved = json.loads(MEASURED.read_text())
        runs, structure = saved.pop("runs"), Structure(**saved)
    settings = {
        "no difference": structure,
        "no difference, one run in ten collapses": replace(structure, collapse=0.1),
        "a difference": replace(structure, effect=args.effect, arm_problem=structure.both),
        "a difference, one run in ten collapses": replace(
            structure, effect=args.effect, arm_problem=structure.both, collapse=0.1
        ),
    }
    found = report.surroundings("cpu", 1)
    found |= {"structure": asdict(structure), "runs": runs, "studies": args.studies, "rows": []}
    for name, setting in settings.items():
        for seeds in args.seeds:
            row = {"setting": name, "seeds": seeds, "rates": rates(setting, seeds, args.studies, args.workers)}
            found["rows"].append(row)
            lines = lines_of(found)
            report.write(args.out, args.name, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
