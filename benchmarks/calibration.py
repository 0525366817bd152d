"""How often the comparisons over seeds err: simulated studies with the variance that runs of the embedded task have.

    python benchmarks/calibration.py --from runs/A runs/B          # the variance structure of those runs
    python benchmarks/calibration.py --studies 10000               # that of the embedded task, as measured

A study has two arms, n paired seeds and a number of held-out problems, each answered a number of times. A problem has a
logit, to which a run adds what its seed, its arm and seed, and each of its problems with them add; samples are drawn
with the probability that comes of it, of both arms independently. The standard deviations are fitted, so that simulated
runs have the moments of real ones. Where runs collapse, each run of each arm answers a fifth as many problems as it
would with a chance of a tenth. In one setting what a run adds is drawn from what real runs differed by, in place of a
normal variable. The tests are those that `compare.py` calls. "These problems": their true difference is
the mean over runs without end; "problems like these": over problems without end, too.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import report
from scipy.special import expit, logit

from grouprl.statistics.crossed import crossed, variance_split
from grouprl.statistics.seeds import LEVEL, equivalence, paired_t, sign_flip, smallest_p

RESULTS = Path(__file__).parent / "results"
MEASURED = RESULTS / "variance.json"
_COLLAPSED = 0.2
"""Share of its answers that a run which collapsed still gives."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
_MANY_PROBLEMS, _MANY_RUNS, _ROUNDS = 2000, 300, 15
"""Sizes of the simulations that the structure is fitted by, and how many there are."""


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
    seeds_as_seen: tuple[float, ...] = ()
    """What runs add, in standard deviations, drawn from with replacement; empty: normal."""
    problems: int = 400
    samples: int = 16


class Moments(NamedTuple):
    """What runs and simulated ones are held against each other by."""

    mean: float
    """Share of right samples."""
    problem: float
    """Standard deviations, in shares, of problems,"""
    seed: float
    """of runs,"""
    both: float
    """and of a problem in a run, beyond sampling."""
    correlation: float
    """Of paired seeds; 0 where it is below."""
    arm_problem: float
    """Standard deviation of the arms' difference over problems."""


def moments(shares: Sequence[np.ndarray], samples: int) -> Moments:
    """Of the share of right samples of two arms, [seeds, problems] each, with the same seeds."""
    splits = [variance_split(arm, samples) for arm in shares]
    difference = variance_split(shares[0], samples, shares[1])
    first, second = (arm.mean(1) for arm in shares)
    return Moments(
        mean=float(np.mean(shares)),
        problem=math.sqrt(np.mean([split.problem for split in splits])),
        seed=math.sqrt(np.mean([split.seed for split in splits])),
        both=math.sqrt(np.mean([split.both for split in splits])),
        correlation=max(0.0, float(np.corrcoef(first, second)[0, 1])),
        arm_problem=math.sqrt(difference.problem),
    )


def fitted(wanted: Moments, problems: int, samples: int) -> tuple[Structure, Moments]:
    """A structure whose simulated runs have some moments, but for the arms' difference in the mean; and theirs."""
    slope = wanted.mean * (1 - wanted.mean)
    of_seeds = wanted.seed / slope
    s = Structure(
        mean=float(logit(wanted.mean)),
        problem=wanted.problem / slope,
        pair=of_seeds * math.sqrt(wanted.correlation),
        seed=of_seeds * math.sqrt(1 - wanted.correlation),
        both=wanted.both / slope,
        arm_problem=wanted.arm_problem / slope,
        problems=_MANY_PROBLEMS,
        samples=samples,
    )
    for step in range(_ROUNDS):
        rng = np.random.default_rng((9, step))
        p = probabilities(s, draw_problems(s, s.problems, rng), _MANY_RUNS, rng)
        found = moments(rng.binomial(samples, p) / samples, samples)

        def scaled(name: str, now: float, found: Moments = found) -> float:
            has = getattr(found, name)
            return now * (min(2.0, getattr(wanted, name) / has) if has else 1.0)

        total = scaled("seed", math.hypot(s.pair, s.seed))
        s = replace(
            s,
            mean=s.mean + float(logit(wanted.mean) - logit(found.mean)),
            problem=scaled("problem", s.problem),
            both=scaled("both", s.both),
            pair=total * math.sqrt(wanted.correlation),
            seed=total * math.sqrt(1 - wanted.correlation),
            arm_problem=scaled("arm_problem", s.arm_problem),
        )
    return replace(s, problems=problems), found


def probabilities(s: Structure, problems: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Probabilities of a right sample, [arms, seeds, problems], for logits of problems in arms, [arms, problems]."""
    shape = (len(problems), seeds, problems.shape[1])
    ours = s.seed * (
        rng.choice(s.seeds_as_seen, (*shape[:2], 1)) if s.seeds_as_seen else rng.standard_normal((*shape[:2], 1))
    )
    logits = problems[:, None, :] + s.pair * rng.standard_normal((1, seeds, 1)) + ours
    found = expit(logits + s.both * rng.standard_normal(shape))
    return np.where(rng.random((*shape[:2], 1)) < s.collapse, _COLLAPSED, 1.0) * found


def draw_problems(s: Structure, count: int, rng: np.random.Generator) -> np.ndarray:
    """Logits of problems in both arms, [2, problems]."""
    ours = s.mean + s.problem * rng.standard_normal(count)
    return np.stack([ours, ours + s.effect + s.arm_problem * rng.standard_normal(count)])


def true_difference(s: Structure, problems: np.ndarray) -> float:
    """Over runs without end, on these problems: the mean of a logistic function of a normal variable, by quadrature."""
    spread = math.sqrt(s.pair**2 + s.seed**2 + s.both**2)
    means = expit(problems[..., None] + spread * _NODES) @ _WEIGHTS / math.sqrt(2 * math.pi)
    return float(np.subtract(*means[::-1]).mean()) * (1 - s.collapse * (1 - _COLLAPSED))


def study(s: Structure, seeds: int, population: float, rng: np.random.Generator) -> dict[str, bool]:
    """What the tests say of one study, and whether their intervals hold the truth."""
    problems = draw_problems(s, s.problems, rng)
    p = probabilities(s, problems, seeds, rng)
    differences = np.subtract(*(rng.binomial(s.samples, p) / s.samples)[::-1])
    means = differences.mean(axis=1)
    truth = true_difference(s, problems)
    t, c = paired_t(means), crossed(differences)
    found = {
        "t": t.p_value < LEVEL,
        "sign flip": sign_flip(means) < LEVEL,
        "crossed": c.p_value < LEVEL,
        "t covers": t.low <= truth <= t.high,
        "crossed covers": c.low <= population <= c.high,
    }
    if s.effect:
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
    drawn = draw_problems(s, 200_000, np.random.default_rng((8, seeds)))
    population = true_difference(s, drawn) if s.effect else 0.0  # else by symmetry
    size = 250
    jobs = [(s, seeds, population, first, min(size, studies - first)) for first in range(0, studies, size)]
    found: dict[str, list[bool]] = {}
    with ProcessPoolExecutor(workers) as pool:
        for part in pool.map(_some, jobs):
            for name, values in part.items():
                found.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in found.items()}


def structure_of(folders: Sequence[Path]) -> tuple[Structure, dict[str, Any]]:
    """The structure of finished runs of two arms, and what it was fitted to."""
    from grouprl.studies.outcomes import arms_of, read_outcome

    outcomes = [read_outcome(folder) for folder in folders]
    arms = {name: runs for name, runs in arms_of(outcomes).items() if len(runs) > 2}
    if len(arms) != 2:
        raise SystemExit(f"--from: give the runs of two arms, not of {len(arms)} ({', '.join(arms)}).")
    shared = sorted(set.intersection(*(set(runs) for runs in arms.values())))
    shares = [np.stack([runs[seed].last.correct.mean(1) for seed in shared]) for runs in arms.values()]
    samples = next(iter(next(iter(arms.values())).values())).last.correct.shape[1]
    wanted = moments(shares, samples)
    structure, found = fitted(wanted, shares[0].shape[1], samples)
    most = max(arms.values(), key=len)
    scores = logit([run.last.correct.mean() for run in most.values()])
    return structure, {
        "runs": f"{len(shared)} seeds of {', '.join(arms)}",
        "seeds_as_seen": ((scores - scores.mean()) / scores.std()).tolist(),
        "measured": wanted._asdict(),
        "simulated": found._asdict(),
    }


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The report."""
    lines = report.heading("How often the comparisons over seeds err", found)
    s = found["structure"]
    lines += [
        f"{found['studies']:,} simulated studies a row: {s['problems']} problems, {s['samples']} samples, variance as "
        f"measured ({found['runs']}): standard deviations of logits {s['problem']:.2f} of problems, {s['pair']:.3f} of "
        f"what the arms of a seed share, {s['seed']:.3f} of a run, {s['both']:.2f} of a problem in a run, "
        f"{s['arm_problem']:.2f} of a problem in an arm. Percent; the standard error of a 5 is "
        f"{100 * math.sqrt(0.05 * 0.95 / found['studies']):.2f}.",
        "",
        *report.table(
            ["in shares", *(name.replace("_", " ") for name in Moments._fields)],
            [[name, *(f"{found[name][field]:.4f}" for field in Moments._fields)] for name in ("measured", "simulated")],
        ),
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
        "t, sign flip, crossed: studies called different; by error where there is no difference. Where the arms differ "
        "problem by problem they differ on these problems, and the t test rightly says so. Covers: intervals that hold "
        "the true difference, on these problems (t) and on problems like these (crossed). Equivalent: studies called "
        "equivalent within a margin that is the true difference.",
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
    saved = args.out / MEASURED.name
    if args.runs:
        folders = [file.parent for run in args.runs for file in sorted(run.rglob("result.json"))]
        structure, about = structure_of(folders)
        args.out.mkdir(parents=True, exist_ok=True)
        saved.write_text(json.dumps({**about, "structure": asdict(structure)}, indent=1) + "\n")
    elif saved.is_file():
        about = json.loads(saved.read_text())
        structure = Structure(**about.pop("structure"))
    else:
        raise SystemExit(f"{saved}: no measured structure. First: python benchmarks/calibration.py --from RUNS RUNS")
    alike = replace(structure, arm_problem=0.0)
    settings = {
        "no difference": alike,
        "no difference, one run in ten collapses": replace(alike, collapse=0.1),
        f"no difference, seeds drawn from {len(about['seeds_as_seen'])} runs": replace(
            alike, seeds_as_seen=tuple(about["seeds_as_seen"])
        ),
        "none on problems like these, but problem by problem": structure,
        "a difference": replace(structure, effect=args.effect),
        "a difference, one run in ten collapses": replace(structure, effect=args.effect, collapse=0.1),
    }
    found = report.surroundings("cpu", 1)
    found |= {**about, "structure": asdict(structure), "studies": args.studies, "rows": []}
    for name, setting in settings.items():
        for seeds in args.seeds:
            row = {"setting": name, "seeds": seeds, "rates": rates(setting, seeds, args.studies, args.workers)}
            found["rows"].append(row)
            lines = lines_of(found)
            report.write(args.out, args.name, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
