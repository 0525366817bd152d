"""Whether two expressions have the same value: at random points, at some that are further away, and at whole numbers.

Expressions that agree at all of them are the same but for a chance that is negligible; nothing is simplified.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import mpmath
import sympy as sp

from grouprl.answers.reading.functions import with_values

_DIGITS = 40
"""Digits of a value that is compared; 30 of them count."""
_POINTS = 4
_SIZES = (1, 9)
"""Points of other signs are drawn from (0.1, 5.1), and as many times as far away."""
_WHOLE = (0, 1, 2, 3, 4, 5, 6, 10, 12, 25, 30, 60)
"""Numbers at which what is rounded may jump."""
_COUNTING = frozenset("k l m n p q N M K".split())  # noqa: SIM905
"""Letters that stand for whole numbers where something is rounded."""
_MOST_OPERATIONS = 120
mp = mpmath.mp.clone()
mp.dps = _DIGITS + 5
_NEAR = mp.mpf("1e-30")


def proportional(first: Any, second: Any) -> bool:
    """Whether two equations ``first = 0`` and ``second = 0`` are multiples of one another by a number."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    if first.free_symbols != second.free_symbols or not symbols:
        return False
    rng = random.Random(7)
    ratios = []
    for _ in range(_POINTS):
        point = {symbol: _draw(rng) for symbol in symbols}
        a, b = value_at(first, point), value_at(second, point)
        if a is None or b is None or abs(b) < _NEAR:
            return False
        ratios.append(a / b)
    if ratios[0] == 0 or not all(close(ratio, ratios[0]) for ratio in ratios[1:]):
        return False
    for point in _further_points(symbols, rng, in_steps=False, count_only=False):
        a, b = value_at(first, point), value_at(second, point)
        if a is not None and b is not None and _is_real(a) and _is_real(b) and not close(a, ratios[0] * b):
            return False
    return True


def equal_values(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Whether two sympy expressions have the same value, everywhere."""
    if first == second:
        return True
    if first.is_Rational and second.is_Rational:
        return tolerance > 0 and close(value_at(first, {}), value_at(second, {}), tolerance)
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    if any(value.has(sp.oo, -sp.oo, sp.zoo, sp.nan) for value in (first, second)):
        return False
    rng = random.Random(3)
    in_steps = any(value.has(sp.floor, sp.ceiling) for value in (first, second))
    count_only = in_steps and all(str(symbol) in _COUNTING for symbol in symbols)
    if not count_only:
        for _ in range(_POINTS if symbols else 1):
            point = {symbol: _draw(rng) for symbol in symbols}
            a, b = value_at(first, point), value_at(second, point)
            if a is None or b is None or not close(a, b, tolerance if not symbols else 0.0):
                return False
    further = _further_points(symbols, rng, in_steps=in_steps, count_only=count_only)
    agree = all(_agree_at(first, second, point) for point in further)
    return agree and (bool(tolerance) or in_steps or _without_common_terms(first, second, symbols, rng))


def _further_points(
    symbols: Sequence[Any], rng: random.Random, *, in_steps: bool, count_only: bool
) -> Iterator[dict[Any, Any]]:
    """Points of other sizes and signs, and whole numbers where something is rounded to them."""
    for size in _SIZES if symbols and not count_only else ():
        for negative in (None, *symbols):
            point = {symbol: _draw(rng) * size + size - 1 for symbol in symbols}
            yield {symbol: -value if symbol == negative else value for symbol, value in point.items()}
    for number in _WHOLE if in_steps else ():
        yield {symbol: sp.Integer(number + place) for place, symbol in enumerate(symbols)}


def _agree_at(first: Any, second: Any, point: dict[Any, Any]) -> bool:
    """Whether two expressions agree at a point where both have a value: |x| is not x, nor log |x| log x."""
    a, b = value_at(first, point), value_at(second, point)
    if a is None or b is None:
        return True
    if _is_real(a) and _is_real(b):
        return close(a, b)
    return _is_real(a) == _is_real(b) or not (first.has(sp.Abs) or second.has(sp.Abs))


def _without_common_terms(first: Any, second: Any, symbols: Sequence[Any], rng: random.Random) -> bool:
    """Whether nothing is left of a difference: what is large in both would hide it."""
    if first.count_ops() + second.count_ops() > _MOST_OPERATIONS:
        return True
    left = sp.expand(first - second)
    if left == 0:
        return True
    terms = sp.Add.make_args(left)
    for _ in range(2):
        point = {symbol: _draw(rng) for symbol in symbols}
        values = [value_at(term, point) for term in terms]
        if None in values:
            return True
        size = sum(map(abs, values))
        if size and abs(sum(values)) > mp.mpf("1e-15") * size:
            return False
    return True


def _draw(rng: random.Random) -> Any:
    return sp.Rational(rng.randint(1_000, 40_000), 7_919)


def value_at(expression: Any, point: dict[Any, Any]) -> Any:
    """The value at a point as an mpmath number, or None where there is none."""
    try:
        value = with_values(expression.subs(point) if point else expression, _DIGITS)
        value = sp.N(value, _DIGITS, maxn=300)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        return None
    if not value.is_number or value.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
        return None
    real, imaginary = value.as_real_imag()
    if not (real.is_Float or real.is_Rational) or not (imaginary.is_Float or imaginary.is_Rational):
        return None
    return mp.mpc(*(mp.mpf(part.p) / part.q if part.is_Rational else mp.mpf(str(part)) for part in (real, imaginary)))


def close(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Whether two numbers are the same to 30 digits, or to a relative tolerance."""
    size = max(abs(first), abs(second))
    return bool(abs(first - second) <= max(tolerance, _NEAR) * size or size < mp.mpf("1e-100"))


def _is_real(value: Any) -> bool:
    return bool(abs(value.imag) <= _NEAR * max(1, abs(value.real)))
