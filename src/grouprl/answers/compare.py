"""Whether two answers are the same: element by element, with exact numbers, and symbols at random points.

Two expressions are told apart by their values, to 30 digits, at points drawn from a fixed seed. Expressions that agree
at all of them are the same but for a chance that is negligible; nothing is simplified, which took most of the time of
graders that do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import mpmath
import sympy as sp

from grouprl.answers import text as texts
from grouprl.answers.structure import Answer, read
from grouprl.answers.tokens import UnreadableError

_DIGITS = 30
_POINTS = 4
mp = mpmath.mp.clone()
mp.dps = _DIGITS + 5


def same(prediction: str, gold: str, tolerance: float = 0.0) -> tuple[bool, str]:
    """Whether two tidied answers are the same, and the rule that decided.

    Raises `UnreadableError` where an answer is outside of the grammar.
    """
    golds, wanted = _readings(gold)
    predictions, found = _readings(prediction)
    if texts.units_differ(found, wanted):
        return False, "units"
    for g in golds:
        for p in predictions:
            if equal(p, g, tolerance):
                return True, g.kind if g.kind != "value" else "symbolic"
    return False, golds[0].kind if golds[0].kind == predictions[0].kind != "value" else "symbolic"


def _readings(text: str) -> tuple[list[Answer], str]:
    """What a text may mean: ``1,234`` is a number, or two."""
    bare, unit = texts.split_unit(text)
    candidates = dict.fromkeys((texts.without_thousands(bare), bare, text))
    readings: list[Answer] = []
    failure = UnreadableError("nothing to read")
    for candidate in candidates:
        try:
            answer = read(candidate)
        except UnreadableError as error:
            failure = error
            continue
        if answer not in readings:
            readings.append(answer)
        if "%" in candidate and answer.kind == "value":
            readings.append(Answer("value", value=answer.value / 100))
    if not readings:
        raise failure
    return readings, unit


def equal(prediction: Answer, gold: Answer, tolerance: float = 0.0) -> bool:
    """Whether two structures are the same answer."""
    kinds = {prediction.kind, gold.kind}
    if "relation" in kinds:
        return _with_relation(prediction, gold, tolerance)
    if prediction.kind != gold.kind:
        if _is_single(prediction):
            return equal(prediction.items[0], gold, tolerance)
        if _is_single(gold):
            return equal(prediction, gold.items[0], tolerance)
    if kinds == {"sequence", "list"}:
        return _equal_ordered(prediction.items, gold.items, tolerance)
    if kinds == {"matrix", "tuple"}:
        return _vector_equals_tuple(prediction, gold, tolerance)
    if kinds <= {"set", "list", "union"}:
        intervals = all(item.kind == "tuple" for item in prediction.items + gold.items)
        return ("union" not in kinds or intervals) and _equal_unordered(prediction.items, gold.items, tolerance)
    return prediction.kind == gold.kind and _equal_of_one_kind(prediction, gold, tolerance)


def _equal_of_one_kind(prediction: Answer, gold: Answer, tolerance: float) -> bool:
    if gold.kind == "value":
        return equal_values(prediction.value, gold.value, tolerance)
    if gold.kind in ("words", "time"):
        return bool(prediction.value == gold.value)
    if gold.kind == "ratio":
        return _equal_ratios(prediction.items, gold.items, tolerance)
    marks_count = gold.kind == "matrix" or len(gold.items) == 2  # (0, 1] is not (0, 1)
    if marks_count and prediction.marks != gold.marks:
        return False
    return _equal_ordered(prediction.items, gold.items, tolerance)


def _with_relation(prediction: Answer, gold: Answer, tolerance: float) -> bool:
    if prediction.kind == gold.kind:
        return _equal_relations(prediction, gold, tolerance)
    if gold.kind == "relation":
        return any(equal(prediction, side, tolerance) for side in _named_value(gold))
    values = _named_value(prediction)
    return bool(values) and all(equal(value, gold, tolerance) for value in values)


def _is_single(answer: Answer) -> bool:
    return answer.kind in ("set", "list", "sequence", "union") and len(answer.items) == 1


def _equal_ordered(first: Sequence[Answer], second: Sequence[Answer], tolerance: float) -> bool:
    return len(first) == len(second) and all(equal(a, b, tolerance) for a, b in zip(first, second, strict=True))


def _equal_unordered(first: Sequence[Answer], second: Sequence[Answer], tolerance: float) -> bool:
    """Each of one has a partner in the other; repeated elements count once."""
    if len(first) > 24 or len(second) > 24:
        return _equal_ordered(first, second, tolerance)
    return all(any(equal(a, b, tolerance) for b in second) for a in first) and all(
        any(equal(a, b, tolerance) for a in first) for b in second
    )


def _vector_equals_tuple(first: Answer, second: Answer, tolerance: float) -> bool:
    matrix, listed = (first, second) if first.kind == "matrix" else (second, first)
    is_vector = "1" in matrix.marks[:2] and len(matrix.marks) == 2 and listed.marks == ("(", ")")
    return is_vector and _equal_ordered(first.items, second.items, tolerance)


def _equal_ratios(first: Sequence[Answer], second: Sequence[Answer], tolerance: float) -> bool:
    if len(first) != len(second):
        return False
    pairs = [(a.value, b.value) for a, b in zip(first, second, strict=True)]
    a0, b0 = pairs[0]
    return all(equal_values(a * b0, b * a0, tolerance) for a, b in pairs[1:]) and a0 != 0 and b0 != 0


def _named_value(relation: Answer) -> list[Answer]:
    """The sides that state a value: ``x = 5`` says 5, ``3 = 4`` says both, ``x > 3`` none."""
    if set(relation.marks) - {"=", r"\approx"}:
        return []
    first, *rest = relation.items
    if _is_name(first):
        return rest
    if _is_name(rest[-1]) and len(rest) == 1:
        return [first]
    return list(relation.items) if not any(_symbols(side) for side in relation.items) else []


def _is_name(side: Answer) -> bool:
    if side.kind == "tuple":
        return all(_is_name(item) for item in side.items)
    return side.kind == "value" and side.value.is_Symbol


def _symbols(side: Answer) -> bool:
    return side.kind == "value" and bool(side.value.free_symbols)


def _equal_relations(prediction: Answer, gold: Answer, tolerance: float) -> bool:
    if prediction.marks != gold.marks:
        return False
    if _equal_ordered(prediction.items, gold.items, tolerance):
        return True
    if gold.marks != ("=",) or not all(side.kind == "value" for side in (*prediction.items, *gold.items)):
        return False
    left, right = (side.items[0].value - side.items[1].value for side in (prediction, gold))
    return _proportional(left, right)


def _proportional(first: Any, second: Any) -> bool:
    """Whether two equations ``first = 0`` and ``second = 0`` are multiples of one another by a number."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    if first.free_symbols != second.free_symbols or not symbols:
        return False
    rng = random.Random(7)
    ratios = []
    for _ in range(_POINTS):
        point = {symbol: _draw(rng) for symbol in symbols}
        a, b = _at(first, point), _at(second, point)
        if a is None or b is None or abs(b) < mp.mpf("1e-20"):
            return False
        ratios.append(a / b)
    return ratios[0] != 0 and all(_close(ratio, ratios[0]) for ratio in ratios[1:])


def equal_values(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Whether two sympy expressions have the same value, everywhere."""
    if first == second:
        return True
    if first.is_Rational and second.is_Rational:
        return tolerance > 0 and _close(_at(first, {}), _at(second, {}), tolerance)
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    if any(value.has(sp.oo, -sp.oo, sp.zoo, sp.nan) for value in (first, second)):
        return False
    rng = random.Random(3)
    for _ in range(_POINTS if symbols else 1):
        point = {symbol: _draw(rng) for symbol in symbols}
        a, b = _at(first, point), _at(second, point)
        if a is None or b is None or not _close(a, b, tolerance if not symbols else 0.0):
            return False
    # |x| is not x: each symbol negative in turn, where both sides are real.
    for negative in symbols:
        point = {symbol: _draw(rng) for symbol in symbols}
        point[negative] = -point[negative]
        a, b = _at(first, point), _at(second, point)
        if a is not None and b is not None and _is_real(a) and _is_real(b) and not _close(a, b):
            return False
    return True


def _draw(rng: random.Random) -> Any:
    return sp.Rational(rng.randint(1_000, 40_000), 7_919)


def _at(expression: Any, point: dict[Any, Any]) -> Any:
    """The value at a point as an mpmath number of 30 digits, or None where there is none."""
    try:
        value = sp.N(expression.subs(point) if point else expression, _DIGITS, maxn=300)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        return None
    if not value.is_number or value.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
        return None
    real, imaginary = value.as_real_imag()
    if not (real.is_Float or real.is_Rational) or not (imaginary.is_Float or imaginary.is_Rational):
        return None
    return mp.mpc(*(mp.mpf(part.p) / part.q if part.is_Rational else mp.mpf(str(part)) for part in (real, imaginary)))


def _close(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    size = max(abs(first), abs(second))
    return bool(abs(first - second) <= max(tolerance * size, mp.mpf("1e-20") * size) or size < mp.mpf("1e-40"))


def _is_real(value: Any) -> bool:
    return bool(abs(value.imag) <= mp.mpf("1e-20") * max(1, abs(value.real)))
