"""Seeds crossed with problems: tests that hold on problems like these, and where the variance comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from grouprl.statistics.seeds import LEVEL, SeedTest


def crossed(differences: np.ndarray, level: float = LEVEL) -> SeedTest:
    """Test of a mean difference where both seeds and problems are drawn: "on problems like these".

    Random effects of seeds, problems and both together, as of readers and cases (Obuchowski and Rockette 1995): seeds
    are the readers and problems the cases. The degrees of freedom are Satterthwaite's (1946) of the three mean squares;
    where problems show no variance those are Hillis's (2007).

    Args:
        differences: Second arm minus first, [seeds, problems]: differences of shares of right samples.
        level: 1 minus the interval's coverage.

    Returns:
        Mean and test. NaN with fewer than two seeds or problems, or without any variance; where all are 0: 0 [0, 0].

    Raises:
        ValueError: Not a matrix, or with values that are not finite.
    """
    values = _matrix(differences)
    seeds, problems = values.shape
    mean = float(values.mean())
    if seeds > 1 and not values.any():
        return SeedTest(0.0, 0.0, 0.0, 1.0, seeds - 1, 0.0, seeds)
    nothing = SeedTest(mean, math.nan, math.nan, math.nan, math.nan, math.nan, seeds)
    if min(seeds, problems) < 2:
        return nothing
    squares = mean_squares(values)
    of_problems = max(squares.problem - squares.both, 0.0)
    variance = (squares.seed + of_problems) / (seeds * problems)
    if not variance > 0:
        return nothing
    spent = squares.seed**2 / (seeds - 1)
    if of_problems:
        spent += squares.problem**2 / (problems - 1) + squares.both**2 / ((seeds - 1) * (problems - 1))
    df = (squares.seed + of_problems) ** 2 / spent
    error = math.sqrt(variance)
    half = float(stats.t.ppf(1 - level / 2, df)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, df))
    sd = float(values.mean(axis=1).std(ddof=1))
    return SeedTest(mean, mean - half, mean + half, p_value, df, sd, seeds)


@dataclass(frozen=True)
class MeanSquares:
    """Of a two-way table without repetition."""

    seed: float
    problem: float
    both: float


def mean_squares(values: np.ndarray) -> MeanSquares:
    """Mean squares of a table [seeds, problems]."""
    seeds, problems = values.shape
    mean, rows, columns = values.mean(), values.mean(axis=1), values.mean(axis=0)
    rest = values - rows[:, None] - columns[None, :] + mean
    return MeanSquares(
        float(problems * ((rows - mean) ** 2).sum() / (seeds - 1)),
        float(seeds * ((columns - mean) ** 2).sum() / (problems - 1)),
        float((rest**2).sum() / ((seeds - 1) * (problems - 1))),
    )


@dataclass(frozen=True)
class VarianceSplit:
    """Variances of one cell, a problem under a seed: what seed, problem, both together and sampling contribute.

    Estimates by the method of moments; one below 0 is 0.
    """

    seed: float
    problem: float
    both: float
    """Of seed and problem together, beyond sampling."""
    sample: float
    """Of one sample."""
    seeds: int
    problems: int
    samples: int
    """Of a problem under a seed."""

    def of_mean(self, seeds: int, problems: int, samples: int, *, problems_vary: bool = False) -> float:
        """Variance of the mean over so many seeds, problems and samples.

        Args:
            seeds: Number of seeds.
            problems: Number of problems.
            samples: Samples of a problem under a seed.
            problems_vary: Count the problems as drawn, too ("on problems like these").
        """
        per_seed = self.seed + (self.both + self.sample / samples) / problems
        return per_seed / seeds + (self.problem / problems if problems_vary else 0.0)


def sampling_variance(first: np.ndarray, second: np.ndarray) -> float:
    """Variance of the difference of one sample of two arms, whose samples of a number may be drawn alike.

    Runs of one seed draw a problem's held-out sample from the same random numbers, so that the difference varies less
    than two independent samples do.

    Args:
        first: Right or wrong, [seeds, problems, samples]; at least two samples.
        second: The other arm's.
    """
    return float((second.astype(float) - first.astype(float)).var(axis=2, ddof=1).mean())


def variance_split(
    shares: np.ndarray, samples: int, second: np.ndarray | None = None, *, sample: float | None = None
) -> VarianceSplit:
    """Where the variance of one arm comes from, or of the difference of two.

    Args:
        shares: Share of right samples, [seeds, problems].
        samples: Samples behind each share; of at least two the sampling variance is estimated, of one it stays with
            ``both``.
        second: The other arm's shares, of as many samples: the split is then of ``second - shares``.
        sample: Variance of one sample of the difference (`sampling_variance`); None: of independent samples.

    Raises:
        ValueError: Fewer than two seeds or problems.
    """
    arms = [_matrix(shares)] if second is None else [_matrix(shares), _matrix(second)]
    values = arms[0] if second is None else arms[1] - arms[0]
    seeds, problems = values.shape
    if min(seeds, problems) < 2:
        raise ValueError(f"{seeds} seeds and {problems} problems: a split of the variance takes at least two of each.")
    if sample is None:
        sample = sum(float((arm * (1 - arm)).mean()) * samples / (samples - 1) for arm in arms) if samples > 1 else 0.0
    squares = mean_squares(values)
    return VarianceSplit(
        seed=max(0.0, (squares.seed - squares.both) / problems),
        problem=max(0.0, (squares.problem - squares.both) / seeds),
        both=max(0.0, squares.both - sample / samples),
        sample=sample,
        seeds=seeds,
        problems=problems,
        samples=samples,
    )


@dataclass(frozen=True)
class Purchase:
    """What a budget could buy, and the standard error of the mean difference after it."""

    what: str
    amount: int
    standard_error: float


def next_hour(
    split: VarianceSplit, *, seconds_of_run: float, seconds_of_sample: float, budget_s: float = 3600.0
) -> list[Purchase]:
    """What an hour more would buy, the most useful first: more seeds, or more problems or samples for each run.

    Args:
        split: Of the difference between two arms.
        seconds_of_run: To train and evaluate one run of one arm.
        seconds_of_sample: To draw one sample more of every problem, for one run.
        budget_s: The budget in seconds.
    """
    seeds = int(budget_s / (2 * seconds_of_run))
    samples = int(budget_s / (2 * split.seeds * seconds_of_sample))
    problems = int(budget_s * split.problems / (2 * split.seeds * seconds_of_sample * split.samples))
    found = [Purchase("nothing", 0, math.sqrt(split.of_mean(split.seeds, split.problems, split.samples)))]
    if seeds:
        variance = split.of_mean(split.seeds + seeds, split.problems, split.samples)
        found.append(Purchase("seeds of both arms", seeds, math.sqrt(variance)))
    if problems:
        variance = split.of_mean(split.seeds, split.problems + problems, split.samples)
        found.append(Purchase("held-out problems", problems, math.sqrt(variance)))
    if samples:
        variance = split.of_mean(split.seeds, split.problems, split.samples + samples)
        found.append(Purchase("samples of each problem", samples, math.sqrt(variance)))
    return sorted(found, key=lambda purchase: purchase.standard_error)


def _matrix(values: np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"Give shares as [seeds, problems], not of shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("A share that is not finite: a run that failed counts as what it scored.")
    return array
