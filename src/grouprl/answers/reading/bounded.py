"""Numbers and powers within bounds: nothing of thousands of digits, no power towers, no division by zero."""

from __future__ import annotations

from typing import Any

import sympy as sp

from grouprl.answers.reading.tokens import UnreadableError

MAX_EXPONENT = 64
"""Largest absolute exponent of a number that is not rational."""
MAX_DIGITS = 60
_MAX_RESULT = 1_200
"""Digits of a power, at most."""


def power_of(base: Any, exponent: Any) -> Any:
    """``base ** exponent`` within the guards: no power towers, no numbers of thousands of digits."""
    if exponent.is_number:
        size = abs(complex(exponent)) if exponent.is_finite is not False else float("inf")
        large = _digits(base) * size > _MAX_RESULT if base.is_Rational else size > MAX_EXPONENT
        if base.is_number and large:
            raise UnreadableError("an exponent that is too large")
        if size > _MAX_RESULT:
            raise UnreadableError("an exponent that is too large")
        if base == 0 and exponent.is_negative:
            raise UnreadableError("division by zero")
        inner = base.exp if base.is_Pow else None  # which sympy multiplies with this one
        if inner is not None and inner.is_number and abs(complex(inner)) * size > _MAX_RESULT:
            raise UnreadableError("an exponent that is too large")
    return base**exponent


def _digits(value: Any) -> int:
    return len(str(abs(value.p))) + (len(str(value.q)) if value.q != 1 else 0)


def number(text: str) -> Any:
    """The exact number of digits, with or without a decimal exponent."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 4:
        raise UnreadableError("a number that is too long")
    value = sp.Rational(mantissa.rstrip(".") or "0")
    return value * sp.Integer(10) ** int(exponent) if exponent else value


def repeating(text: str, period: str) -> Any:
    """A decimal whose last digits, the period, go on for ever."""
    whole, _, digits = text.partition(".")
    start = sp.Rational(f"{whole or 0}.{digits or 0}")
    return start + sp.Rational(int(period), (10 ** len(period) - 1) * 10 ** len(digits))


def not_zero(value: Any) -> Any:
    """The value, if one can divide by it."""
    if value == 0:
        raise UnreadableError("division by zero")
    return value
