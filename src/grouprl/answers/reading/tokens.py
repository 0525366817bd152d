"""Tokens of LaTeX text."""

from __future__ import annotations

import re
from dataclasses import dataclass

_EXPONENT = r"(?:[eE][+-]?\d{1,3}(?![\d.A-Za-z]))?"
_TOKEN = re.compile(
    rf"(?P<number>\d+(?:\.(?!\d)|(?:\.\d+)?{_EXPONENT})|\.\d+{_EXPONENT})"
    r"|(?P<command>\\[A-Za-z]+|\\.)|(?P<letter>[A-Za-z])|(?P<space>\s+)|(?P<sign>.)",
    re.DOTALL,
)
_WORDS = re.compile(
    r"(?<![\\A-Za-z])(arcsinh|arccosh|arctanh|arcsin|arccos|arctan|arccot|asinh|acosh|atanh|asin|acos|atan|sinh|cosh|tanh|"
    r"sin|cos|tan|cot|sec|csc|ln|log|exp|floor|ceil|gcd|lcm|sqrt(?=\d)|sqrt|pi)(?![a-z])"
)
"""Functions in plain letters."""
_SQRT = re.compile(r"\\sqrt (\d+(?:\.\d+)?)")


class UnreadableError(ValueError):
    """Text outside the grammar, or past a guard."""


@dataclass(frozen=True)
class Token:
    """A piece of LaTeX."""

    kind: str
    text: str
    spaced: bool = False
    """Whether white space came before it."""


def tokenize(text: str) -> list[Token]:
    """Tokens of LaTeX text, white space left out."""
    text = _SQRT.sub(r"\\sqrt{\1}", _WORDS.sub(lambda match: f"\\{match.group(1)} ", text))
    tokens, spaced = [], False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "sign"
        if kind == "space":
            spaced = True
            continue
        tokens.append(Token(kind, match.group(), spaced))
        spaced = False
    return tokens
