"""Numbers that each process measures of its part of an iteration, and how theirs become the run's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

_Measure = TypeVar("_Measure", bound="Measure")


@dataclass(frozen=True)
class Measure:
    """A number of one rank. What becomes of those of several is its class: there is no default."""

    value: float

    @staticmethod
    def over(parts: Sequence[_Measure]) -> float:
        """The number of all ranks from theirs, of which there are two or more."""
        raise NotImplementedError


@dataclass(frozen=True)
class Agreed(Measure):
    """A number that is the same on all ranks, such as one that was made from those of all."""

    @staticmethod
    def over(parts: Sequence[Measure]) -> float:
        return parts[0].value


@dataclass(frozen=True)
class Total(Measure):
    """A count, or another amount that ranks add up to."""

    @staticmethod
    def over(parts: Sequence[Measure]) -> float:
        return sum(part.value for part in parts)


@dataclass(frozen=True)
class Largest(Measure):
    """A maximum; seconds and memory of ranks that work beside each other, too."""

    @staticmethod
    def over(parts: Sequence[Measure]) -> float:
        return largest(part.value for part in parts)


@dataclass(frozen=True)
class Mean(Measure):
    """A mean, or a share."""

    count: float
    """What it is over on this rank: samples, tokens, groups, seconds."""

    @classmethod
    def of(cls, values: Tensor) -> Mean:
        """The mean of all numbers of a tensor."""
        return cls(float(values.mean()) if values.numel() else math.nan, values.numel())

    @staticmethod
    def over(parts: Sequence[Mean]) -> float:  # type: ignore[override] # ranks measure one thing
        return _weighted((part.value, part.count) for part in parts)


@dataclass(frozen=True)
class RootMeanSquare(Mean):
    """The root of a mean of squares."""

    @classmethod
    def of(cls, values: Tensor) -> RootMeanSquare:
        """That of all numbers of a tensor."""
        return cls(float(values.square().mean().sqrt()) if values.numel() else math.nan, values.numel())

    @staticmethod
    def over(parts: Sequence[Mean]) -> float:  # type: ignore[override]
        return math.sqrt(_weighted((part.value**2, part.count) for part in parts))


@dataclass(frozen=True)
class Deviation(Measure):
    """A standard deviation of the numbers themselves (divided by their count)."""

    mean: Mean

    @classmethod
    def of(cls, values: Tensor) -> Deviation:
        """That of all numbers of a tensor."""
        return cls(float(values.std(correction=0)) if values.numel() else math.nan, Mean.of(values))

    @staticmethod
    def over(parts: Sequence[Deviation]) -> float:  # type: ignore[override]
        center = Mean.over([part.mean for part in parts])
        return math.sqrt(
            _weighted((part.value**2 + (part.mean.value - center) ** 2, part.mean.count) for part in parts)
        )


@dataclass(frozen=True)
class Cosine(Measure):
    """The cosine of the angle between two vectors, of which each rank has a part."""

    products: tuple[float, float, float]
    """First times second, first times first, second times second."""

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> Cosine:
        """That of all numbers of two tensors; 1 where both are all zeros, and 0 where one is."""
        a, b = first.double().flatten(), second.double().flatten()
        products = (float(a @ b), float(a @ a), float(b @ b))
        return cls(_cosine(*products), products)

    @staticmethod
    def over(parts: Sequence[Cosine]) -> float:  # type: ignore[override]
        return _cosine(*(sum(part.products[n] for part in parts) for n in range(3)))


@dataclass(frozen=True)
class Rate(Measure):
    """An amount in a second; ranks work at the same time, and the slowest says how long it took."""

    amount: float
    seconds: float

    @classmethod
    def of(cls, amount: float, seconds: float) -> Rate:
        """So much in so many seconds."""
        return cls(amount / seconds, amount, seconds)

    @staticmethod
    def over(parts: Sequence[Rate]) -> float:  # type: ignore[override]
        return sum(part.amount for part in parts) / max(part.seconds for part in parts)


def over_ranks(parts: Sequence[Measure]) -> float:
    """One number from those of the ranks that have it."""
    return parts[0].value if len(parts) == 1 else type(parts[0]).over(parts)


def largest(values: Iterable[float]) -> float:
    """The largest number, NaN where one is NaN."""
    return max(values, key=lambda value: (math.isnan(value), value))


def _cosine(product: float, first: float, second: float) -> float:
    if first > 0 and second > 0:
        return product / math.sqrt(first * second)
    return 1.0 if first == second else 0.0


def _weighted(values: Iterable[tuple[float, float]]) -> float:
    """A mean of values with weights; one without weight does not count, whatever it is, unless all are without."""
    given = list(values)
    known = [(value, weight) for value, weight in given if weight] or [(value, 1.0) for value, _ in given]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known)
