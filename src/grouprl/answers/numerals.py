"""Numbers in words, English and Chinese: ``twenty-one``, ``三十五``, ``百分之五``."""

from __future__ import annotations

import re
from fractions import Fraction

_ONES = {
    word: value
    for value, word in enumerate(
        """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
        eighteen nineteen
        """.split()  # noqa: SIM905
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)  # noqa: SIM905
}
_THOUSANDS = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_PLACES = {"十": 10, "百": 100, "千": 1_000}
_CHINESE = re.compile(
    r"([零〇一二两三四五六七八九十百千万]{1,12})"
    r"(?:[个只元米人本支条棵次天年岁件张块辆把]|厘米|千克|公里|小时|分钟|平方米)?"
)
"""A number with what it counts."""
_MEASURES = re.compile(r"[A-Za-z]+(?:[ -][A-Za-z]+){0,9}")


def numeral(text: str) -> Fraction | None:
    """The number that words say, or None for anything else."""
    if match := re.fullmatch(r"百分之(.{1,12})", text):
        inner = _chinese(match.group(1))
        return None if inner is None else Fraction(inner, 100)
    if match := re.fullmatch(r"(.{1,8})分之(.{1,8})", text):
        below, above = _chinese(match.group(1)), _chinese(match.group(2))
        return Fraction(above, below) if above is not None and below else None
    if match := _CHINESE.fullmatch(text):
        value = _chinese(match.group(1))
    elif _MEASURES.fullmatch(text):
        value = _english(re.split(r"[ -]", text.lower()))
    else:
        return None
    return None if value is None else Fraction(value)


def _english(words: list[str]) -> int | None:
    total, current, last = 0, 0, 10**12
    said = False
    for word in words:
        if word == "and" and said:
            continue
        if word in _ONES or word in _TENS:
            value = _ONES.get(word, _TENS.get(word, 0))
            if current % 100 and not (current % 100 in _TENS.values() and 0 < value < 10):
                return None
            current, said = current + value, True
        elif word == "hundred" and 0 < current < 10:
            current *= 100
        elif word in _THOUSANDS and current > 0 and _THOUSANDS[word] < last:
            total, current, last = total + current * _THOUSANDS[word], 0, _THOUSANDS[word]
        else:
            return None
    return total + current if said else None


def _chinese(text: str) -> int | None:
    if not text or any(
        character not in _DIGITS and character not in _PLACES and character != "万" for character in text
    ):
        return None
    high, ten_thousand, low = text.rpartition("万")
    if ten_thousand:
        above, below = _chinese(high), _chinese(low) if low else 0
        return None if above is None or below is None else above * 10_000 + below
    if all(character in _DIGITS for character in text):
        return int("".join(str(_DIGITS[character]) for character in text))
    if len(text) > 1 and text[-1] in _DIGITS and text[-2] in "百千":
        return None  # 一百五 is 150 to some
    total, digit, last = 0, None, 10_000
    for character in text:
        if character in _DIGITS:
            if digit:
                return None
            digit = _DIGITS[character]
        else:
            place = _PLACES[character]
            if place >= last:
                return None
            total, digit, last = total + (digit or 1) * place, None, place
    return total + (digit or 0)
