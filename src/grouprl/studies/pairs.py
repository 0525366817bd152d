"""Two arms over paired seeds: what the tests say, and the sentence that it comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from grouprl.statistics.crossed import VarianceSplit
from grouprl.statistics.saturation import SaturationTest
from grouprl.statistics.seeds import LEVEL, SeedTest, sd_interval, seeds_needed
from grouprl.statistics.sequential import Ending, ending_of
from grouprl.statistics.several import PairTest

_MANY = 5000
"""Seeds that nobody runs: more of them are not counted."""
_SMALL = 0.05
"""Points that are 0 with one digit."""


def signed(share: float, digits: int = 1) -> str:
    """A difference of shares in points with its sign, which 0 has not."""
    text = f"{100 * share:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def _bound(share: float) -> str:
    """An end of an interval, with a digit more where it would be 0: on which side of it is what is asked."""
    return signed(share, 1 + (0 < abs(100 * share) < _SMALL))


@dataclass(frozen=True)
class PairComparison:
    """Two arms over the seeds that both have: ``second`` minus ``first``, as shares."""

    first: str
    second: str
    test: PairTest
    """Student's t on these problems, alone and together with the other pairs."""
    flips: float
    """Exact p-value of sign flips."""
    general: SeedTest
    """On problems like these."""
    unpaired: SeedTest | None
    """Welch's t, where paired seeds hardly correlate."""
    greedy: SeedTest | None
    """None where it is not known."""
    coverage: SeedTest
    """Of pass@8."""
    solved: int
    """Problems that more than half of the second arm's runs solve at least once, and of the first arm's none."""
    lost: int
    """The other way."""
    equivalence_p: float
    """Of two one-sided tests of this pair alone."""
    correlation: float
    margin: float
    level: float = LEVEL
    """What the p-value of all pairs together is compared with."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds that the study looks after; empty: it looks once."""
    same: bool = False
    """Whether every problem has the same score in both arms, for every seed."""
    other_weights: bool = False
    """Whether the trained weights of a seed are known to differ: alike is then what the problems saw of them."""
    all_alike: bool | None = None
    """Where every completion of both is right or every one wrong: which; a test too easy or too hard to tell."""
    pairs: int = 1
    """How many are compared together."""
    split: VarianceSplit | None = None
    """Where the variance of the difference comes from; None: it is not known."""
    saturation: SaturationTest | None = None
    """Efficiency and ceiling apart; None: too few evaluations, or curves that do not level off."""
    decided_after: int | None = None
    """Of a study that looked on after this pair was decided, the seeds after which it was, and which this is of."""

    @property
    def ending(self) -> Ending:
        """What the study says of the pair. With several looks one interval says all of it."""
        if self.same:
            return "identical" if self._is_identical else "undecided"
        if not self.test.single.sd > 0:  # no variance between seeds, and so no t
            return "better" if self.test.single.value and self.flips < self.planned_level else "undecided"
        if self.looks:
            return ending_of(self.test.single, self.level, self.margin)
        if self.test.p_value < self.level:
            return "better"
        low, high = self.test.inner
        return "equivalent" if -self.margin < low and high < self.margin else "undecided"

    @property
    def _is_identical(self) -> bool:
        return self.test.single.seeds > 1 and self.all_alike is None and not self.other_weights

    @property
    def better(self) -> str | None:
        """The better arm, where one is."""
        if self.ending != "better":
            return None
        return self.second if self.test.single.value > 0 else self.first

    @property
    def worse(self) -> str | None:
        """The other one, where one is better."""
        return None if self.better is None else self.first if self.better == self.second else self.second

    @property
    def outcome(self) -> str:
        """The ending in words that are the same on every base."""
        return self.ending if self.better is None else f"{self.better} better"

    @property
    def more_seeds(self) -> tuple[int, int] | None:
        """Seeds of a study that would show a difference as large as the margin four times in five.

        A range, as the standard deviation is one. They are new ones: those that are there are spent on this verdict.
        None where no number is known, or where these should have shown it.
        """
        seeds, sd = self.test.single.seeds, self.test.single.sd
        if not sd > 0:
            return None
        low, high = (seeds_needed(self.margin, spread, level=self.planned_level) for spread in sd_interval(sd, seeds))
        return (low, high) if high > seeds else None

    def turned(self) -> PairComparison:
        """The same of the arms the other way round."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            test=self.test.turned(),
            general=self.general.turned(),
            unpaired=None if self.unpaired is None else self.unpaired.turned(),
            greedy=None if self.greedy is None else self.greedy.turned(),
            coverage=self.coverage.turned(),
            solved=self.lost,
            lost=self.solved,
            saturation=None if self.saturation is None else self.saturation.turned(),
        )

    @property
    def _when(self) -> str:
        return "" if self.decided_after is None else f" (after {self.decided_after} seeds)"

    @property
    def planned_level(self) -> float:
        """Of one test: that of the looks, or Bonferroni's share for all pairs."""
        return self.level if self.looks else self.level / self.pairs

    @property
    def verdict(self) -> str:
        """One sentence."""
        points, test = signed(self.test.single.value), self.test
        interval = f"[{_bound(test.low)}, {_bound(test.high)}]"
        margin = f"{100 * self.margin:g} point{'s' if self.margin != 0.01 else ''}"
        if self.ending == "identical":
            return f"{self.first} and {self.second} are identical on every seed{self._when}."
        if self.better is not None:
            by, low, high = (abs(100 * x) for x in (test.single.value, test.low, test.high))
            low, high = sorted((low, high))
            least = f"{low:.{1 + (low < _SMALL)}f}"
            if not test.single.sd > 0:
                on_each = f"by {by:.1f} points on each of {test.single.seeds} seeds"
                return (
                    f"{self.better} is better than {self.worse} {on_each} (sign flips, p {self.flips:.2g}){self._when}."
                )
            return f"{self.better} is better than {self.worse} by {by:.1f} points [{least}, {high:.1f}]{self._when}."
        if self.ending == "equivalent":
            low, high = self.test.inner
            said = f"{points} [{signed(low)}, {signed(high)}]{'' if self.looks else ' (90%)'}"
            both = f"{self.first} and {self.second} are equivalent within {margin}"
            return f"{both}: {self.second} minus {self.first} is {said}{self._when}."
        if test.single.seeds == 1:
            return f"{self.first} against {self.second}: one seed decides nothing."
        if self.all_alike is not None:
            what = "every run of both solved everything" if self.all_alike else "no run of either solved anything"
            return f"{self.first} against {self.second}: {what}, which says nothing of them."
        if self.same:
            return (
                f"{self.first} against {self.second}: every completion was graded alike on every seed, but their "
                "trained weights differ. These problems do not tell them apart."
            )
        if not test.single.sd > 0:
            return f"{self.second} against {self.first}: every seed differs by {points} points: no test is possible."
        said = f"{self.second} against {self.first} is undecided: {points} points {interval}"
        if self.more_seeds is None:
            return f"{said}; a difference of {margin} would most likely have been seen."
        low, high = self.more_seeds
        more = f"between {low} and {high if high < _MANY else f'more than {_MANY}'}"
        more = more if low < _MANY else f"more than {_MANY}"
        study = f"another study of the same arms would take {more} more seeds"
        return f"{said}; {study} to show a difference of {margin} four times in five."
