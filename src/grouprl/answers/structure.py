"""Answers with a structure: lists, tuples, intervals, unions, sets, matrices, equations, inequalities, words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp

from grouprl.answers import text as texts
from grouprl.answers.latex import MAX_DEPTH, parse
from grouprl.answers.tokens import Token, UnreadableError, tokenize

Kind = Literal["value", "words", "list", "sequence", "tuple", "set", "union", "matrix", "relation", "ratio", "time"]

_OPEN = {"(", "[", "{", r"\{", r"\lfloor", r"\lceil", r"\langle"}
_CLOSE = {")", "]", "}", r"\}", r"\rfloor", r"\rceil", r"\rangle"}
_RELATIONS = {"=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx", r"\equiv", r"\sim"}
_FLIPPED = {">": "<", r"\ge": r"\le"}
_MATRIX = re.compile(
    r"[(\[]?\s*\\begin\{([pbBv]?matrix|smallmatrix|array)\}(?:\{[lcr| ]*\})?(.*?)\\end\{\1\}\s*[)\]]?", re.DOTALL
)
_TIME = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*([ap])\.?\s?m\.?", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_][^\W_'’\-.&]*(?:[ '’\-.&,/()]+[^\W_]+)*\.?")
_MATHEMATICAL = re.compile(r"\b(?:sin|cos|tan|cot|ln|log|sqrt|pi|arcsin|arccos|arctan)\b")
_CJK = re.compile(r"[一-鿿]")
_FUNCTION = re.compile(r"[A-Za-z]{1,2}(?:_\{?\w+\}?)?\s*\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\)")


@dataclass(frozen=True)
class Answer:
    """What an answer is."""

    kind: Kind
    items: tuple[Answer, ...] = ()
    value: Any = None
    """sympy expression of a value; words; minutes of a time."""
    marks: tuple[str, ...] = ()
    """Brackets of a tuple; operators of a relation; rows and columns of a matrix."""


def read(text: str) -> Answer:
    """The structure of a tidied answer without unit; raises `UnreadableError` outside of the grammar."""
    if len(text) > texts.MAX_ANSWER or not text:
        raise UnreadableError("empty or too long")
    if match := _TIME.fullmatch(texts.unwrap(text)):
        hour, minute, half = int(match.group(1)), int(match.group(2) or 0), match.group(3).lower()
        return Answer("time", value=(hour % 12 + 12 * (half == "p")) * 60 + minute)
    words = texts.unwrap(text)
    if _CJK.search(words) or (r"\text" in text and not _looks_mathematical(words)) or _is_words(words):
        return Answer("words", value=re.sub(r"[\W_]+", "", words.casefold()))
    text = re.sub(r"(?<=[^A-Za-z\\])(?:and|or)(?=[^A-Za-z])", ",", f" {text} ").strip()
    tokens = tokenize(text.replace("%", ""))
    _check_depth(tokens)
    if any(token.text in (r"\pm", r"\mp") for token in tokens):
        plus, minus = _read(tokens, text, 1), _read(tokens, text, -1)
        return plus if plus == minus else Answer("list", (plus, minus))
    return _read(tokens, text, 1)


def _looks_mathematical(words: str) -> bool:
    return bool(re.search(r"[=^_\\{}<>+]|\d", words))


def _is_words(text: str) -> bool:
    """Words, not a product of letters: ``east`` is not ``seat``."""
    return (
        len(text) > 1
        and _WORDS.fullmatch(text) is not None
        and re.search(r"[^\W\d_]{2}", text) is not None
        and not re.search(r"\d", text)
        and not _MATHEMATICAL.search(text)
        and not ("(" in text or "/" in text or "," in text)
    )


def _check_depth(tokens: Sequence[Token]) -> None:
    depth = 0
    for token in tokens:
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth > 2 * MAX_DEPTH:
            raise UnreadableError("nested too deeply")


def _read(tokens: Sequence[Token], text: str, sign: int) -> Answer:
    if not tokens:
        raise UnreadableError("nothing to read")
    if r"\begin" in text:
        return _matrix(text, sign)
    for separator, kind in ((";", "sequence"), (",", "list")):
        parts = split(tokens, {separator})
        if len(parts) > 1:
            return Answer(kind, tuple(_read(part, "", sign) for part in parts if part))  # type: ignore[arg-type]
    return _item(tokens, sign)


def _item(tokens: Sequence[Token], sign: int) -> Answer:
    relation = _relation(tokens, sign)
    if relation is not None:
        return relation
    parts = split(tokens, {r"\cup"})
    if len(parts) > 1:
        return Answer("union", tuple(_item(part, sign) for part in parts))
    if _is_enclosed(tokens):
        opening, inside, closing = tokens[0].text, tokens[1:-1], tokens[-1].text
        items = split(inside, {","})
        if opening == r"\{":
            return _set(inside, items, sign)
        if len(items) > 1 and all(items):
            return Answer("tuple", tuple(_item(item, sign) for item in items), marks=(opening, closing))
        if opening == "(" and len(split(inside, {":"})) > 1:
            return _item(inside, sign)
    parts = split(tokens, {":"})
    if len(parts) > 1 and all(parts):
        return Answer("ratio", tuple(Answer("value", value=parse(part, sign=sign)) for part in parts))
    return Answer("value", value=parse(tokens, sign=sign))


def _set(inside: Sequence[Token], items: Sequence[Sequence[Token]], sign: int) -> Answer:
    for separator in ("|", ":"):
        condition = split(inside, {separator})
        if len(condition) == 2 and len(condition[0]) <= 3 and any(t.text in _RELATIONS for t in condition[1]):
            return _read(condition[1], "", sign)
    return Answer("set", tuple(_item(item, sign) for item in items if item))


def _relation(tokens: Sequence[Token], sign: int) -> Answer | None:
    parts, operators = _split_relations(tokens)
    if not operators:
        return None
    if not all(parts):
        raise UnreadableError("a relation without a side")
    if operators == [r"\in"]:
        return _item(parts[1], sign)
    sides = [_side(part, sign) for part in parts]
    if set(operators) <= _FLIPPED.keys():
        sides, operators = sides[::-1], [_FLIPPED[operator] for operator in reversed(operators)]
    interval = _interval(sides, operators)
    return interval or Answer("relation", tuple(sides), marks=tuple(operators))


def _side(tokens: Sequence[Token], sign: int) -> Answer:
    """A side of a relation; the name of a function, as in ``f(x) = ...``, is a symbol of its own."""
    written = "".join(token.text for token in tokens)
    if _FUNCTION.fullmatch(written):
        return Answer("value", value=sp.Symbol(written))
    return _item(tokens, sign)


def _interval(sides: Sequence[Answer], operators: Sequence[str]) -> Answer | None:
    """``-2 < x \\le 1`` as ``(-2, 1]``, and ``x > 3`` as ``(3, oo)``."""
    if not set(operators) <= {"<", r"\le"} or not all(side.kind == "value" for side in sides):
        return None
    names = [side.value.is_Symbol for side in sides]
    infinity = Answer("value", value=sp.oo), Answer("value", value=-sp.oo)
    if len(sides) == 3 and names == [False, True, False]:
        low, high, (left, right) = sides[0], sides[2], operators
    elif len(sides) == 2 and names == [True, False]:
        low, high, left, right = infinity[1], sides[1], "<", operators[0]
    elif len(sides) == 2 and names == [False, True]:
        low, high, left, right = sides[0], infinity[0], operators[0], "<"
    else:
        return None
    return Answer("tuple", (low, high), marks=("(" if left == "<" else "[", ")" if right == "<" else "]"))


def _matrix(text: str, sign: int) -> Answer:
    match = _MATRIX.fullmatch(text.strip())
    if match is None or r"\begin" in match.group(2):
        raise UnreadableError("a matrix among other things")
    rows = [row.split("&") for row in re.split(r"\\\\(?:\[\d+pt\])?", match.group(2)) if row.strip()]
    if len({len(row) for row in rows}) != 1:
        raise UnreadableError("a matrix with ragged rows")
    cells = tuple(_item(tokenize(cell.strip()), sign) for row in rows for cell in row)
    shape = ("determinant",) if match.group(1) == "vmatrix" else ()
    return Answer("matrix", cells, marks=(str(len(rows)), str(len(rows[0])), *shape))


def split(tokens: Sequence[Token], separators: set[str]) -> list[Sequence[Token]]:
    """Parts between separators outside of all brackets."""
    parts: list[Sequence[Token]] = []
    depth = start = 0
    for position, token in enumerate(tokens):
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth == 0 and token.text in separators:
            parts.append(tokens[start:position])
            start = position + 1
    return [*parts, tokens[start:]]


def _split_relations(tokens: Sequence[Token]) -> tuple[list[Sequence[Token]], list[str]]:
    parts = split(tokens, _RELATIONS)
    operators, position = [], -1
    for part in parts[:-1]:
        position += len(part) + 1
        operators.append(tokens[position].text)
    return parts, operators


def _is_enclosed(tokens: Sequence[Token]) -> bool:
    """Whether the first bracket closes at the very end."""
    if len(tokens) < 2 or tokens[0].text not in ("(", "[", r"\{") or tokens[-1].text not in (")", "]", r"\}"):
        return False
    depth = 0
    for position, token in enumerate(tokens):
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth == 0:
            return position == len(tokens) - 1
    return False
