"""Whether two answers are the same: element by element, with exact numbers, and symbols by `reading.values`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sympy as sp

from grouprl.answers import text as texts
from grouprl.answers.reading.functions import called_letters
from grouprl.answers.reading.structure import Answer, as_expression, read
from grouprl.answers.reading.tokens import UnreadableError, tokenize
from grouprl.answers.reading.values import equal_values, mp, proportional, value_at
from grouprl.answers.units import split_unit, units_differ, without_letter

_DOMAIN = re.compile(
    r"[,;]?\s?\(?\s?(?<![A-Za-z\\])([A-Za-z])\s?"
    r"(?:\\in\s?\\(?:integers|naturals|reals|rationals)[^,]{0,12}|\\(?:ge|ne)\s?-?\d{1,3})\s?\)?$"
)
"""The same without a word: ``k \\in \\mathbb{Z}``, ``n \\ge 1``, ``x \\ne 0``."""
_CONDITION = re.compile(
    r"[,;]?\s?(?:\\(?:text|mbox|textrm|mathrm)\s?\{\s?)?(?<![A-Za-z])(where|with|for)(?![A-Za-z])(.*)", re.DOTALL
)
"""What is said of the letters of an answer, behind it."""
_BRANCHES = re.compile(r"otherwise|else|;")
_BRANCH = re.compile(r"(?<![A-Za-z])(?:for|where|with|if)(?![A-Za-z])")
_OF_ALL = re.compile(r"\\in(?![A-Za-z])|\binteger|\bany\b|\ball\b|\bevery\b|\barbitrary\b")
"""What a condition says that limits nothing."""
_LONE_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![A-Za-z])")
_SEVERAL_TERMS = re.compile(r"[-+*^]|\\(?:cdot|times)|[A-Za-z]{3}")
_MOST_ITEMS = 24
_SHORT_WORDS = frozenset("no is on in at to or so it up us we me my he go do be by an as am if of ok".split())  # noqa: SIM905


def same(prediction: str, gold: str, tolerance: float = 0.0) -> tuple[bool, str]:
    """Whether two tidied answers are the same, and the rule that decided.

    Raises `UnreadableError` where an answer is outside of the grammar.
    """
    (prediction, said), (gold, wanted) = _without_condition(prediction), _without_condition(gold)
    if said and wanted and texts.key_of(said) != texts.key_of(wanted):
        return False, "condition"
    written = prediction, gold
    (prediction, found_unit), (gold, unit) = split_unit(prediction), split_unit(gold)
    if units_differ(found_unit, unit):
        return False, "units"
    if texts.as_number(texts.key_of(gold)) is not None:
        prediction = without_letter(prediction)
    calls = called_letters([tokenize(prediction), tokenize(gold)])
    predictions, golds = _readings(prediction, written[0], calls), _readings(gold, written[1], calls)
    words = [readings[0].kind == "words" for readings in (golds, predictions)]
    if any(words) and (not all(words) or _are_letters(gold, prediction)):  # xy may be a product, where x y is one
        golds, predictions = (_with_products(*pair, calls) for pair in ((golds, gold), (predictions, prediction)))
    for g in golds:
        for p in predictions:
            if equal(p, g, tolerance):
                return True, g.kind if g.kind != "value" else "symbolic"
    return False, golds[0].kind if golds[0].kind == predictions[0].kind != "value" else "symbolic"


def _without_condition(text: str) -> tuple[str, str]:
    """An answer without a condition on its letters behind it, and the condition ("" for none)."""
    named, domain = _CONDITION.search(text), _DOMAIN.search(text)
    if named is not None and _limits(named.group(0), named.group(1)):
        return text, ""  # others may hold where this one does not
    for match, letters in ((named, named and named.group(2)), (domain, domain and domain.group(1))):
        if match is None or not match.start():
            continue
        bare = text[: match.start()].strip().rstrip(",;(").strip()
        of_the_answer = set(_LONE_LETTER.findall(letters or "")) & set(_LONE_LETTER.findall(bare))
        if of_the_answer and not _RELATION.search(bare):
            return bare, re.sub(r"[\s,;(){}]|\\text|\\mbox|where|with|for", "", match.group(0))
    return text, ""


def _limits(condition: str, word: str) -> bool:
    """Whether a condition says when an answer holds, and does not only say what its letters are."""
    if _BRANCHES.search(condition) or len(_BRANCH.findall(condition)) > 1:
        return True
    return word != "where" and not _OF_ALL.search(condition)


def _readings(text: str, whole: str, calls: frozenset[str]) -> list[Answer]:
    """What a text without its unit may mean: ``1,234`` is a number, or two; degrees are an angle."""
    readings: list[Answer] = []
    failure = UnreadableError("nothing to read")
    angle = [whole] if r"\circ" in whole else []
    percent = text.endswith("%") and not _SEVERAL_TERMS.search(text[1:])
    for candidate in dict.fromkeys((texts.without_thousands(text), text, *angle)):
        try:
            answer = read(candidate.removesuffix("%") if percent else candidate, calls)
        except UnreadableError as error:
            failure = error
            continue
        if answer not in readings:
            readings.append(answer)
        if answer not in readings[:-1] and percent and answer.kind == "value":
            readings.append(Answer("value", value=answer.value / 100))
    if not readings:
        raise failure
    return readings


def _are_letters(first: str, second: str) -> bool:
    """Whether two texts are two letters each that make no word."""
    return all(len(text) == 2 and text.islower() and text not in _SHORT_WORDS for text in (first, second))


def _with_products(readings: list[Answer], text: str, calls: frozenset[str]) -> list[Answer]:
    """Readings of letters as words and as a product."""
    if readings[0].kind != "words" or not text.isascii() or "\\" in text:
        return readings
    try:
        return [*readings, as_expression(text, calls)]
    except UnreadableError:
        return readings


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
    if kinds == {"sequence", "set"}:
        return _equal_unordered(prediction.items, gold.items, tolerance)
    if kinds == {"numbers", "tuple"}:
        return _equal_numbers(*(prediction, gold) if prediction.kind == "numbers" else (gold, prediction))
    if kinds == {"time", "ratio"}:
        return _equal_time(*(prediction, gold) if prediction.kind == "time" else (gold, prediction))
    if kinds == {"matrix", "tuple"}:
        return _vector_equals_tuple(prediction, gold, tolerance)
    if kinds == {"list"}:
        return _equal_lists(prediction.items, gold.items, tolerance)
    if kinds <= {"set", "list", "union"}:
        listed = [item for answer in (prediction, gold) if answer.kind == "list" for item in answer.items]
        intervals = all(item.kind == "tuple" for item in prediction.items + gold.items)
        intervals = intervals and all(item.value is not None for item in listed)  # x<1 or x>3, but not (1,2),(3,4)
        return ("union" not in kinds or intervals) and _equal_unordered(prediction.items, gold.items, tolerance)
    return prediction.kind == gold.kind and _equal_of_one_kind(prediction, gold, tolerance)


def _equal_of_one_kind(prediction: Answer, gold: Answer, tolerance: float) -> bool:
    if gold.kind == "value":
        return equal_values(prediction.value, gold.value, tolerance)
    if gold.kind in ("words", "time"):
        return bool(prediction.value == gold.value)
    if gold.kind == "numbers":
        return (prediction.value, prediction.marks) == (gold.value, gold.marks)
    if gold.kind == "ratio":
        if prediction.marks and gold.marks:  # two clocks: 1:15 is not 2:30
            return [item.value for item in prediction.items] == [item.value for item in gold.items]
        return _equal_ratios(prediction.items, gold.items, tolerance)
    if gold.kind == "tuple" and None not in (prediction.value, gold.value) and prediction.value != gold.value:
        return False  # x > 2 is not y > 2
    marks_count = gold.kind == "matrix" or len(gold.items) == 2  # (0, 1] is not (0, 1)
    if marks_count and prediction.marks != gold.marks:
        return False
    return _equal_ordered(prediction.items, gold.items, tolerance)


def _equal_numbers(numbers: Answer, interval: Answer) -> bool:
    """The reals, or those of one sign, as an interval."""
    if numbers.value != "R" or len(interval.items) != 2:
        return False
    ends = {"": (-sp.oo, sp.oo, "("), "+": (0, sp.oo, "("), ">=0": (0, sp.oo, "["), "-": (-sp.oo, 0, "(")}
    low, high, left = ends.get("".join(numbers.marks), (None, None, ""))
    found = [item.value for item in interval.items]
    return found == [low, high] and interval.marks == (left, ")")


def _equal_time(time: Answer, clock: Answer) -> bool:
    """``8:34 pm`` as ``20:34``, and ``8:34 am`` as ``8:34``."""
    if not clock.marks:
        return False
    hours, minutes = clock.marks[0].split(":")
    return bool(time.value == (int(hours) % 24) * 60 + int(minutes))


def _with_relation(prediction: Answer, gold: Answer, tolerance: float) -> bool:
    if prediction.kind == gold.kind:
        return _equal_relations(prediction, gold, tolerance)
    if gold.kind == "relation":
        return any(equal(prediction, side, tolerance) for side in _named_value(gold))
    values = _named_value(prediction)
    if len(values) > 1 and r"\approx" in prediction.marks and _is_rounded(prediction):
        return any(equal(value, gold, tolerance) for value in values)
    return bool(values) and all(equal(value, gold, tolerance) for value in values)


def _is_rounded(relation: Answer) -> bool:
    r"""Whether the sides around each ``\approx`` are a value and its rounding: ``2\sqrt3 \approx 3.46``."""
    named = _is_name(relation.items[0])
    marks, items = relation.marks[named:], relation.items[named:]
    for mark, first, second in zip(marks, items, items[1:], strict=False):
        if mark != r"\approx":
            if not equal(first, second):
                return False
            continue
        if any(side.kind != "value" or side.value.free_symbols for side in (first, second)):
            return False
        exact, rounded, digits = value_at(first.value, {}), value_at(second.value, {}), _decimals(second.value)
        if exact is None or rounded is None or digits is None:
            return False
        unit = mp.mpf(10) ** -digits
        if not digits:
            return False  # 4.4 is not 4, though it is about 4
        cut = 0 <= abs(exact) - abs(rounded) < unit
        if abs(exact - rounded) > unit / 2 and not cut:
            return False
    return True


def _decimals(value: Any) -> int | None:
    """Decimal places of a decimal number, or None for another one."""
    if not value.is_Rational:
        return None
    for digits in range(12):
        if (value * 10**digits).is_Integer:
            return digits
    return None


def _is_single(answer: Answer) -> bool:
    return answer.kind in ("set", "list", "sequence", "union") and len(answer.items) == 1


def _equal_ordered(first: Sequence[Answer], second: Sequence[Answer], tolerance: float) -> bool:
    return len(first) == len(second) and all(equal(a, b, tolerance) for a, b in zip(first, second, strict=True))


def _equal_lists(first: Sequence[Answer], second: Sequence[Answer], tolerance: float) -> bool:
    """Each of one has a partner of its own in the other; several names keep their order."""
    if len(first) != len(second):
        return False
    if len(first) > _MOST_ITEMS or (
        any(map(_are_names, (first, second))) and not all(map(_are_names, (first, second)))
    ):
        return _equal_ordered(first, second, tolerance)
    left = list(second)
    for item in first:
        partner = next((place for place, other in enumerate(left) if equal(item, other, tolerance)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _are_names(items: Sequence[Answer]) -> bool:
    """Whether items are equations for several names."""
    if not all(item.kind == "relation" and _is_name(item.items[0]) for item in items):
        return False
    return len({str(item.items[0].value) for item in items}) > 1


def _equal_unordered(first: Sequence[Answer], second: Sequence[Answer], tolerance: float) -> bool:
    """Each of one has a partner in the other; repeated elements count once."""
    if len(first) > _MOST_ITEMS or len(second) > _MOST_ITEMS:
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
    if _is_name(first) and relation.marks[0] == "=":
        return rest
    if _is_name(first) and len(rest) == 1:
        return rest
    if _is_name(rest[-1]) and len(rest) == 1:
        return [first]
    return list(relation.items) if not any(_names_something(side) for side in relation.items) else []


def _is_name(side: Answer) -> bool:
    if side.kind in ("tuple", "ratio"):
        return all(_is_name(item) for item in side.items)
    return side.kind == "value" and (side.value.is_Symbol or side.value == sp.E)


def _names_something(side: Answer) -> bool:
    return any(map(_names_something, side.items)) if side.items else side.kind != "value" or _symbols(side)


def _symbols(side: Answer) -> bool:
    return side.kind == "value" and bool(side.value.free_symbols)


def _equal_relations(prediction: Answer, gold: Answer, tolerance: float) -> bool:
    if prediction.marks != gold.marks:
        return False
    if not any(_names_something(side) for side in (*prediction.items, *gold.items)):
        return bool(prediction.value == gold.value)  # 2 + 2 = 4 does not say what 1 + 3 = 4 says
    if _equal_ordered(prediction.items, gold.items, tolerance):
        return True
    if gold.marks != ("=",) or not all(side.kind == "value" for side in (*prediction.items, *gold.items)):
        return False
    left, right = (side.items[0].value - side.items[1].value for side in (prediction, gold))
    return proportional(left, right)
