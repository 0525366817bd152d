"""Final answers: find the one in the box and compare it with the gold answer. No text is ever evaluated."""

from __future__ import annotations

import re
from fractions import Fraction

_MAX_ANSWER = 400
_BOX = re.compile(r"\\f?boxed\s*\{")
_BRACE = re.compile(r"(?<!\\)[{}]")
_UNITS_AND_SPACING = re.compile(
    r"\\[,;:!]|\\(?:left|right|displaystyle)(?![A-Za-z])|\\(?:text|mbox)\s*\{[^{}]*\}\s*$|[$\s]"
)
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?\d+)\}\{(-?\d+)\}")
_SHORT_FRACTION = re.compile(r"\\[dt]?frac(\d)(\d)")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:/[-+]?\d+)?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def last_box(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}`` with balanced braces, or None. One pass, whatever the text."""
    starts = {match.end() for match in _BOX.finditer(text)}
    opened: list[int] = []
    best: tuple[int, int] | None = None
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.end())
        elif opened:
            start = opened.pop()
            if start in starts and (best is None or start > best[0]):
                best = (start, match.start())
    return text[best[0] : best[1]].strip() if best else None


def normalize(answer: str) -> str:
    r"""One spelling for answers that differ in layout: ``$\dfrac12$`` is ``\frac{1}{2}``, ``1,000`` is ``1000``."""
    text = answer.strip().rstrip(".").replace("−", "-").replace(r"\$", "").replace(r"\%", "%")
    text = _UNITS_AND_SPACING.sub("", text) or _TEXT.sub(r"\1", text)
    text = _TEXT.sub(r"\1", text)
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text).replace("dfrac", "frac").replace("tfrac", "frac")
    text = re.sub(r"\^\{?\\circ\}?", "", text)
    return _THOUSANDS.sub("", text)


def as_number(answer: str) -> Fraction | None:
    """The exact value of an integer, decimal or fraction in normal form, or None for anything else."""
    text = answer
    match = _FRACTION.fullmatch(text)
    if match:
        sign, numerator, denominator = match.groups()
        text = f"{int(sign + '1') * int(numerator)}/{denominator}"
    if not _NUMBER.fullmatch(text) or len(text) > 64:
        return None
    numerator, _, denominator = text.partition("/")
    if not denominator:
        return Fraction(numerator)
    return Fraction(numerator) / int(denominator) if int(denominator) else None


def equal(prediction: str, gold: str) -> bool:
    """Whether two answers are the same: as text in normal form, or as exact numbers."""
    if len(prediction) > _MAX_ANSWER or len(gold) > _MAX_ANSWER:
        return prediction == gold
    prediction, gold = normalize(prediction), normalize(gold)
    if prediction == gold:
        return prediction != ""
    if prediction.endswith("%") != gold.endswith("%"):
        return False
    number = as_number(prediction.removesuffix("%"))
    return number is not None and number == as_number(gold.removesuffix("%"))
