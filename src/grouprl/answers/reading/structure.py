"""Answers with a structure: lists, tuples, intervals, unions, sets, matrices, equations, inequalities, words.

Sets of numbers are names of their own (``\\mathbb{R}``); the reals are an interval as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp

from grouprl.answers import text as texts
from grouprl.answers.reading.commands import MAX_DEPTH
from grouprl.answers.reading.latex import parse
from grouprl.answers.reading.tokens import Token, UnreadableError, tokenize

Kind = Literal[
    "value", "words", "list", "sequence", "tuple", "set", "union", "matrix", "relation", "ratio", "time", "numbers"
]

_OPEN = {"(", "[", "{", r"\{", r"\lfloor", r"\lceil", r"\langle"}
_CLOSE = {")", "]", "}", r"\}", r"\rfloor", r"\rceil", r"\rangle"}
_ENCLOSING, _ENCLOSED = ("(", "[", "{", r"\{", r"\langle"), (")", "]", "}", r"\}", r"\rangle")
_RELATIONS = {"=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx", r"\equiv", r"\sim"}
_FLIPPED = {">": "<", r"\ge": r"\le"}
_BEGIN = re.compile(r"(?:[(\[]\s?)?\\begin\s?\{([pbBv]?matrix|smallmatrix|array)\}(?:\s?\{[lcr| ]*\})?")
_NUMBER_SETS = {r"\reals": "R", r"\integers": "Z", r"\naturals": "N", r"\rationals": "Q", r"\complexes": "C"}
_SIGNS_OF_SETS = {"+": "+", ">0": "+", "-": "-", "<0": "-", r"\ge0": ">=0", "*": "*", r"\ne0": "*", r"\ast": "*"}
_SETS_IN_WORDS = {
    "allrealnumbers": "R", "realnumbers": "R", "allreals": "R", "reals": "R", "thesetofrealnumbers": "R",
    "thesetofallrealnumbers": "R", "allintegers": "Z", "integers": "Z", "thesetofintegers": "Z",
    "allrationalnumbers": "Q", "allcomplexnumbers": "C",
}  # fmt: skip
_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")
_NAME = re.compile(
    r"(?:m ?)?(?:\\(?:angle|triangle|measuredangle|overline|overrightarrow|vec|widehat) ?(?:\{ ?)?)[A-Z]{1,4}(?: ?\})?"
    r"|\|? ?[A-Z]{2,4} ?\|?|\\\| ?[A-Z]{2,4} ?\\\||S_ ?\{ ?\\triangle ?[A-Z]{3} ?\}"
)
"""Names of lengths, angles and areas, of several letters."""
_TIME = re.compile(r"(\d{1,2})(?:\s?:\s?(\d{2}))?\s*([ap])\.?\s?m\.?", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_][^\W_'’\-.&]*(?:[ '’\-.&,/()]+[^\W_]+)*\.?")
_MATHEMATICAL = re.compile(r"\b(?:sin|cos|tan|cot|ln|log|sqrt|pi|arcsin|arccos|arctan)\b")
_PUNCTUATION = re.compile(r"['’\"“”_]")
"""What makes no difference between words; signs, brackets and points do."""
_AND = re.compile(r"(?<=[^A-Za-z\\])and(?=[^A-Za-z])")
_AND_OR = re.compile(r"(?<=[^A-Za-z\\])(?:and|or)(?=[^A-Za-z])")
_HYPHEN = re.compile(r"(?<=[a-z]{3})-(?=[a-z]{3})")
_OR_IN_CHINESE = re.compile(r"\s?(?:或|和|与|及)\s?(?=[-+\d(\[{\\A-Za-z])")
_CJK = re.compile(r"[一-鿿]")
_FUNCTION = re.compile(
    r"(?:[A-Za-z]{1,2}(?:_(?:\w|\{\w{1,8}\}))?'{0,3}\(-?[A-Za-z0-9]{1,3}(?:,-?[A-Za-z0-9]{1,3}){0,4}\)"
    r"|(?:[fghFGHPE]|\\[A-Za-z]{2,8})'{0,3}(?:\^\{-1\})?\([^()]{1,20}\))"
)


@dataclass(frozen=True)
class Answer:
    """What an answer is."""

    kind: Kind
    items: tuple[Answer, ...] = ()
    value: Any = None
    """sympy expression of a value; words; minutes of a time; a relation as it is written; the name in an inequality."""
    marks: tuple[str, ...] = ()
    """Brackets of a tuple; operators of a relation; rows and columns of a matrix."""


def read(text: str, calls: frozenset[str] = frozenset()) -> Answer:
    """The structure of a tidied answer without unit.

    Args:
        text: The answer.
        calls: Letters that stand for functions in it, see `grouprl.answers.reading.functions.called_letters`.

    Raises:
        UnreadableError: It is outside of the grammar.
    """
    if len(text) > texts.MAX_ANSWER or not text:
        raise UnreadableError("empty or too long")
    if match := _TIME.fullmatch(texts.unwrap(text)):
        hour, minute, half = int(match.group(1)), int(match.group(2) or 0), match.group(3).lower()
        return Answer("time", value=(hour % 12 + 12 * (half == "p")) * 60 + minute)
    text = _OR_IN_CHINESE.sub(",", text)
    words = texts.unwrap(text)
    if _CJK.search(words) or (r"\text" in text and not _looks_mathematical(words)) or _is_words(words):
        value = _PUNCTUATION.sub("", _HYPHEN.sub(" ", " ".join(words.casefold().split()))).rstrip(".,;:!?。")
        named = _SETS_IN_WORDS.get(value.replace(" ", ""))
        return Answer("numbers", value=named) if named else Answer("words", value=value)
    return as_expression(text, calls)


def as_expression(text: str, calls: frozenset[str] = frozenset()) -> Answer:
    """As `read`, whatever words the text may be: ``xy`` is a product."""
    joined = _AND.search(f" {text} ") is not None
    text = _AND_OR.sub(",", f" {text} ").strip()
    text, matrices = _without_matrices(text.replace("\ue000", ""))
    tokens = _without_brackets(tokenize(text))
    _check_depth(tokens)
    if any(token.text in (r"\pm", r"\mp") for token in tokens):
        plus, minus = (_Reader(sign, calls, matrices).read(tokens) for sign in (1, -1))
        both = [*(plus.items if plus.kind == "list" else [plus]), *(minus.items if minus.kind == "list" else [minus])]
        different = [item for place, item in enumerate(both) if item not in both[:place]]
        return different[0] if len(different) == 1 else Answer("list", tuple(different))
    found = _Reader(1, calls, matrices).read(tokens)
    return _intersection(found) if joined else found


def _intersection(answer: Answer) -> Answer:
    """Inequalities of one name that hold at once, as an interval; other lists as they are."""
    parts = answer.items if answer.kind == "list" else ()
    if not parts or not all(part.kind == "tuple" and part.value is not None for part in parts):
        return answer
    if len({part.value for part in parts}) != 1 or not all(i.value.is_extended_real for p in parts for i in p.items):
        raise UnreadableError("inequalities of several names")
    low = max(parts, key=lambda part: (part.items[0].value, part.marks[0] == "("))
    high = min(parts, key=lambda part: (part.items[1].value, part.marks[1] == "]"))
    if not low.items[0].value < high.items[1].value:
        return Answer("value", value=sp.Symbol("emptyset"))
    return Answer("tuple", (low.items[0], high.items[1]), value=parts[0].value, marks=(low.marks[0], high.marks[1]))


def _without_brackets(tokens: Sequence[Token]) -> Sequence[Token]:
    """Tokens without round brackets and braces around all of them, of which there may be many."""
    while len(tokens) > 2 and tokens[0].text + tokens[-1].text in ("()", "{}") and _is_enclosed(tokens):
        inside = tokens[1:-1]
        if any(len(split(inside, {separator})) > 1 for separator in ",;:"):
            break
        tokens = inside
    return tokens


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


class _Reader:
    """Reads tokens, with a sign for plus-minus, letters that stand for functions, and the matrices among them."""

    def __init__(self, sign: int, calls: frozenset[str], matrices: Sequence[str]) -> None:
        self.sign, self.calls, self.matrices = sign, calls, matrices

    def read(self, tokens: Sequence[Token]) -> Answer:
        if not tokens:
            raise UnreadableError("nothing to read")
        for separator, kind in ((";", "sequence"), (",", "list")):
            parts = split(tokens, {separator})
            if len(parts) > 1:
                items = tuple(_word(part) or self.read(part) for part in parts if part)
                return Answer(kind, items)  # type: ignore[arg-type]
        return self.item(tokens)

    def item(self, tokens: Sequence[Token]) -> Answer:
        found = self.relation(tokens) or self.numbers(tokens) or self.matrix(tokens)
        if found is not None:
            return found
        parts = split(tokens, {r"\cup"})
        if len(parts) > 1:
            return Answer("union", tuple(self.item(part) for part in parts))
        if _is_enclosed(tokens):
            opening, inside, closing = tokens[0].text, tokens[1:-1], tokens[-1].text
            items = split(inside, {",", ";"})
            if opening == r"\{" or (opening == "{" and len(items) > 1):
                return self.set(inside, items)
            if opening == r"\langle":
                opening, closing = "(", ")"
            if len(items) > 1 and all(items):
                if len(items) > 2 and (opening == "(") != (closing == ")"):
                    raise UnreadableError("brackets of two kinds")
                return Answer("tuple", tuple(self.item(item) for item in items), marks=(opening, closing))
            if opening == "(" and len(split(inside, {":"})) > 1:
                return self.item(inside)
        parts = split(tokens, {":"})
        if len(parts) > 1 and all(parts):
            written = "".join(token.text for token in tokens)
            clock = (written,) if _CLOCK.fullmatch(written) else ()
            return Answer("ratio", tuple(Answer("value", value=self.value(part)) for part in parts), marks=clock)
        return Answer("value", value=self.value(tokens))

    def value(self, tokens: Sequence[Token]) -> Any:
        return parse(tokens, sign=self.sign, calls=self.calls)

    def numbers(self, tokens: Sequence[Token]) -> Answer | None:
        r"""A set of numbers with its sign: ``\mathbb{Z}^+``, ``\mathbb{R}_{>0}``."""
        if tokens[0].text not in _NUMBER_SETS:
            return None
        name, script = _NUMBER_SETS[tokens[0].text], "".join(token.text for token in tokens[1:])
        if not script:
            return Answer("numbers", value=name)
        plain = script[1:].removeprefix("{").removesuffix("}")
        if script[0] not in "^_" or (plain not in _SIGNS_OF_SETS and not re.fullmatch(r"\d|n", plain)):
            raise UnreadableError("a set of numbers among other things")
        return Answer("numbers", value=name, marks=(_SIGNS_OF_SETS.get(plain, script[0] + plain),))

    def matrix(self, tokens: Sequence[Token]) -> Answer | None:
        if len(tokens) != 2 or tokens[0].text != _PLACE:
            return None
        return self._matrix(self.matrices[int(tokens[1].text)])

    def _matrix(self, text: str) -> Answer:
        begin = _BEGIN.match(text)
        assert begin is not None
        inside = text[begin.end() : text.rindex(r"\end")]
        if r"\begin" in inside:
            raise UnreadableError("a matrix in a matrix")
        rows = [row.split("&") for row in re.split(r"\\\\(?:\[\d+pt\])?", inside) if row.strip()]
        if len({len(row) for row in rows}) != 1:
            raise UnreadableError("a matrix with ragged rows")
        cells = tuple(self.item(_given(tokenize(cell.strip()))) for row in rows for cell in row)
        shape = ("determinant",) if begin.group(1) == "vmatrix" else ()
        return Answer("matrix", cells, marks=(str(len(rows)), str(len(rows[0])), *shape))

    def set(self, inside: Sequence[Token], items: Sequence[Sequence[Token]]) -> Answer:
        for separator in ("|", ":"):
            condition = split(inside, {separator})
            if len(condition) == 2 and any(t.text in _RELATIONS for t in condition[1]):
                head = [token.text for token in condition[0]]
                if len(head) != 1 and head[1:] != [r"\in", r"\reals"]:
                    raise UnreadableError("a set of what is more than a name")
                return _intersection(self.read(condition[1]))
        if not inside:
            return Answer("value", value=sp.Symbol("emptyset"))
        return Answer("set", tuple(self.item(item) for item in items if item))

    def relation(self, tokens: Sequence[Token]) -> Answer | None:
        parts, operators = _split_relations(tokens)
        if not operators:
            return None
        if not all(parts):
            raise UnreadableError("a relation without a side")
        if operators == [r"\in"]:
            if any(token.kind == "number" for token in parts[0]):
                raise UnreadableError("a number in a set")
            return self.item(parts[1])
        sides = [self.side(part) for part in parts]
        if set(operators) <= _FLIPPED.keys():
            sides, operators = sides[::-1], [_FLIPPED[operator] for operator in reversed(operators)]
        interval = _interval(sides, operators)
        written = "".join(token.text for token in tokens if token.text not in ("{", "}"))
        return interval or Answer("relation", tuple(sides), value=written, marks=tuple(operators))

    def side(self, tokens: Sequence[Token]) -> Answer:
        """A side of a relation; the name of a function or of several letters is a symbol of its own."""
        written = "".join(token.text for token in tokens)
        spaced = " ".join(token.text for token in tokens)
        if _FUNCTION.fullmatch(written) or _NAME.fullmatch(spaced) or _NAME.fullmatch(written):
            return Answer("value", value=sp.Symbol(written))
        return self.item(tokens)


_PLACE = r"\matrixplace"
"""Stands before the number of a matrix."""


def _without_matrices(text: str) -> tuple[str, list[str]]:
    """A text in which each matrix is a place, and the matrices."""
    found, kept, position = list[str](), [], 0
    for begin in _BEGIN.finditer(text):
        if begin.start() < position:
            continue
        ending = f"\\end{{{begin.group(1)}}}"
        stop = text.find(ending, begin.end())
        if stop < 0:
            raise UnreadableError("a matrix without its end")
        stop += len(ending)
        start = begin.start() if text[begin.start()] == "\\" or text[stop:].lstrip()[:1] in ")]" else begin.start() + 1
        if text[begin.start()] in "([" and text[stop:].lstrip()[:1] in (")", "]"):
            after = stop + len(text[stop:]) - len(text[stop:].lstrip()) + 1
        else:
            after = stop
        kept += [text[position:start], f"{_PLACE} {len(found)} "]
        found.append(text[start:stop])
        position = after
    return "".join([*kept, text[position:]]), found


def _given(tokens: Sequence[Token]) -> Sequence[Token]:
    if not tokens:
        raise UnreadableError("nothing to read")
    return tokens


def _interval(sides: Sequence[Answer], operators: Sequence[str]) -> Answer | None:
    """``-2 < x \\le 1`` as ``(-2, 1]``, and ``x > 3`` and ``-2x < -6`` as ``(3, oo)``."""
    if not set(operators) <= {"<", r"\le"} or not all(side.kind == "value" for side in sides):
        return None
    values = [side.value for side in sides]
    names = [value.is_Symbol for value in values]
    if len(sides) == 3 and names == [False, True, False]:
        low, high, (left, right) = values[0], values[2], operators
    elif len(sides) == 2 and (bound := _bound(*values)) is not None:
        place, below = bound
        low, high = (-sp.oo, place) if below else (place, sp.oo)
        left, right = ("<", operators[0]) if below else (operators[0], "<")
    else:
        return None
    ends = tuple(Answer("value", value=value) for value in (low, high))
    name = next((value for value in values if value.is_Symbol), None)
    symbols = set().union(*(value.free_symbols for value in values))
    return Answer(
        "tuple",
        ends,
        value=name or (symbols.pop() if len(symbols) == 1 else None),
        marks=("(" if left == "<" else "[", ")" if right == "<" else "]"),
    )


def _bound(left: Any, right: Any) -> tuple[Any, bool] | None:
    """The end of what is left of a relation that names or solves one symbol, and whether it lies above; else None."""
    if left.is_Symbol != right.is_Symbol:
        name, other = (left, right) if left.is_Symbol else (right, left)
        if name not in other.free_symbols:
            return other, bool(left.is_Symbol)
    difference = left - right
    symbols = list(difference.free_symbols)
    if len(symbols) != 1 or not difference.is_polynomial(symbols[0]):
        return None
    at = [difference.subs(symbols[0], value) for value in (0, 1, 2)]
    slope = sp.expand(at[1] - at[0])
    if not slope.is_real or slope == 0 or sp.degree(sp.expand(difference), symbols[0]) != 1:
        return None
    return sp.expand(-at[0]) / slope, bool(slope > 0)


def _word(tokens: Sequence[Token]) -> Answer | None:
    """A word in a list: three letters or more without a space between them are no product there."""
    if len(tokens) < 3 or any(token.kind != "letter" or (place and token.spaced) for place, token in enumerate(tokens)):
        return None
    return Answer("words", value="".join(token.text for token in tokens).casefold())


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
    if len(tokens) < 2 or tokens[0].text not in _ENCLOSING or tokens[-1].text not in _ENCLOSED:
        return False
    depth = 0
    for position, token in enumerate(tokens):
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth == 0:
            return position == len(tokens) - 1
    return False
