"""What a LaTeX command stands for: fractions, roots, functions and their calls, sums, limits, decorated letters."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import sympy as sp

from grouprl.answers.reading.bounded import MAX_EXPONENT, not_zero, number, power_of
from grouprl.answers.reading.cursor import Cursor
from grouprl.answers.reading.functions import (
    FUNCTIONS,
    GREEK,
    INVERSE,
    OF_MANY,
    applied,
    apply_known,
    limit,
    sum_or_product,
)
from grouprl.answers.reading.tokens import Token, UnreadableError

MAX_DEPTH = 12
"""Nested brackets, at most."""
_DECORATIONS = frozenset(
    """
    vec overrightarrow overline bar hat widehat tilde dot ddot mathbf boldsymbol mathcal mathbb mathrm text textbf
    operatorname bold textnormal textrm textit mathit
    """.split()  # noqa: SIM905
)
_OF_FUNCTIONS = ("vec", "overrightarrow", "hat", "tilde", "dot", "ddot", "bar")
"""Decorations of letters that may be called; others have brackets behind them as factors."""
_PLAIN = frozenset("mathrm text mathbf boldsymbol textbf operatorname bold mathcal mathbb".split())  # noqa: SIM905
"""Decorations that leave what they hold the same symbol."""
CLOSING = {
    "(": ")",
    "[": "]",
    "{": "}",
    r"\{": r"\}",
    r"\lfloor": r"\rfloor",
    r"\lceil": r"\rceil",
    r"\lvert": r"\rvert",
}
KNOWN_ATOMS = frozenset(
    {
        *FUNCTIONS,
        *GREEK,
        *_DECORATIONS,
        "frac",
        "cfrac",
        "sqrt",
        "binom",
        "dbinom",
        "tbinom",
        "pi",
        "infty",
        "emptyset",
        "sum",
        "prod",
        "lim",
    }
)
"""Names of commands that a factor may begin with."""


class Commands(Cursor, ABC):
    """Reads commands; what stands in them is read by `grouprl.answers.reading.latex`, which this is a part of."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__(tokens)
        self.depth = self.bars = 0
        self.bound = set[str]()

    @abstractmethod
    def expression(self) -> Any: ...

    @abstractmethod
    def term(self) -> Any: ...

    @abstractmethod
    def power(self) -> Any: ...

    @abstractmethod
    def atom(self) -> Any: ...

    @abstractmethod
    def script(self) -> Any: ...

    @abstractmethod
    def group(self) -> Any: ...

    @abstractmethod
    def symbol(self, name: str) -> Any: ...

    @abstractmethod
    def signed(self, operator: str) -> Any: ...

    @abstractmethod
    def starts_factor(self) -> bool: ...

    def command(self, name: str) -> Any:
        if name in ("frac", "cfrac"):
            differential = self._differential()
            if differential is not None:
                return sp.Symbol(differential)
            numerator, denominator = self._argument(), self._argument()
            return numerator / not_zero(denominator)
        if name == "sqrt":
            return self._root()
        if name in ("binom", "dbinom", "tbinom", "choose"):
            return self._binomial(self._argument(), self._argument())
        if name in ("sum", "prod"):
            return self._sum_or_product(name)
        if name == "lim":
            return self._limit()
        if name == "pi":
            return sp.pi
        if name in ("infty", "infin"):
            return sp.oo
        if name in FUNCTIONS:
            return self._function(name)
        if name in ("emptyset", "varnothing"):
            return sp.Symbol("emptyset")
        if name in GREEK:
            return self.symbol(name)
        if name in _DECORATIONS:
            return self._decorated(name)
        raise UnreadableError(f"\\{name} is not read")

    def _argument(self) -> Any:
        if self.peek() == "{":
            return self.group()
        if self.position >= len(self.tokens) or self.tokens[self.position].kind != "number":
            return self.atom()
        digit, rest = self.tokens[self.position].text[0], self.tokens[self.position].text[1:]
        if rest:  # \frac12 is a half
            self.tokens[self.position : self.position + 1] = [Token("number", digit), Token("number", rest)]
        self.position += 1
        return number(digit)

    def _root(self) -> Any:
        degree: Any = sp.Integer(2)
        if self.accept("["):
            degree = self.expression()
            self.expect("]")
        radicand = self._argument()
        if radicand.is_number and radicand.is_negative and degree.is_Integer and degree % 2:
            return -power_of(-radicand, 1 / not_zero(degree))  # the real root
        return power_of(radicand, 1 / not_zero(degree))

    def _binomial(self, n: Any, k: Any) -> Any:
        if all(value.is_number for value in (n, k)) and not (n.is_Integer and k.is_Integer and abs(n) <= MAX_EXPONENT):
            raise UnreadableError("a large binomial coefficient")
        return sp.binomial(n, k)

    def _differential(self) -> str | None:
        r"""The text of ``{d^2y}{dx^2}`` and its like, which is no fraction of products; None for anything else."""
        texts, groups, place = [token.text for token in self.tokens], list[list[str]](), self.position
        for _ in range(2):
            if texts[place : place + 1] != ["{"] or "}" not in texts[place:]:
                return None
            depth, start = 0, place
            while place < len(texts):
                depth += (texts[place] == "{") - (texts[place] == "}")
                place += 1
                if depth == 0:
                    break
            groups.append(texts[start + 1 : place - 1])
        above, below = groups
        if (
            above[:1] != ["d"]
            or below[:1] != ["d"]
            or len(below) < 2
            or not (below[1].isalpha() or below[1][1:] in GREEK)
        ):
            return None
        if above[1:2] not in ([], ["^"]) and not (above[1].isalpha() or above[1][1:] in GREEK):
            return None
        if len(above) == 1 or above[-1].isdigit():
            raise UnreadableError("a derivative of what stands behind it")
        self.position = place
        return "".join([*above, "/", *below])

    def _function(self, name: str) -> Any:
        base, exponent = None, None
        while self.peek() in ("_", "^"):
            if self.take().text == "_":
                base = self._argument()
            else:
                exponent = self.script()
        if base is not None and name != "log":
            raise UnreadableError(f"\\{name} with an index")
        if name in OF_MANY:
            return apply_known(name, self._arguments())
        argument = self.group() if self.peek() in ("(", "[", "{") else self._bare_argument()
        if exponent == -1 and name in INVERSE:
            return INVERSE[name](argument)
        if exponent == -1:
            raise UnreadableError(f"\\{name} to the power of -1")
        if name == "exp":
            value = power_of(sp.E, argument)
        else:
            value = sp.log(argument) / sp.log(base) if base is not None else apply_known(name, [argument])
        return value if exponent is None else power_of(value, exponent)

    def call(self, name: str) -> Any:
        """A letter that stands for a function, with its marks and arguments."""
        while self.accept("'"):
            name += "'"
        if self.accept("_"):
            name = f"{name}_{self.plain_script()}"
        if self.accept("^"):
            name += f"^{self.plain_script()}"
        return applied(name, self._arguments())

    def _arguments(self) -> list[Any]:
        """Expressions in round brackets or braces, with commas between them."""
        opening = self.take().text
        if opening not in ("(", "[", "{", r"\{"):
            raise UnreadableError("arguments without brackets")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        bars, self.bars = self.bars, 0
        found = [self.expression()]
        while self.accept(","):
            found.append(self.expression())
        self.bars = bars
        self.expect(CLOSING[opening])
        self.depth -= 1
        return found

    def _sum_or_product(self, name: str) -> Any:
        low = high = index = None
        while self.peek() in ("_", "^"):
            if self.take().text == "^":
                high = self.script()
                continue
            self.expect("{")
            index = self.take()
            self.expect("=")
            low = self.expression()
            self.expect("}")
        if index is None or low is None or high is None or index.kind != "letter":
            raise UnreadableError(f"a {name} without bounds")
        before = self.bound
        self.bound = {*before, index.text}  # i counts here, and is no imaginary unit
        body = self.term()
        self.bound = before
        return sum_or_product(name, body, sp.Symbol(index.text), low, high)

    def _limit(self) -> Any:
        self.expect("_")
        self.expect("{")
        variable = self.symbol(self.take().text)
        if not self.accept(r"\to", r"\rightarrow") or not variable.is_Symbol:
            raise UnreadableError("a limit without its place")
        direction = self._direction()
        place = self.expression()
        self.expect("}")
        return limit(self.term(), variable, place, direction)

    def _direction(self) -> str:
        """From where a limit is taken, which is left out of the tokens of its place: ``0^+``."""
        end = next((n for n in range(self.position, len(self.tokens)) if self.tokens[n].text == "}"), len(self.tokens))
        if [token.text for token in self.tokens[end - 2 : end]] in (["{", "+"], ["{", "-"]):
            end += 1
        before = [token.text for token in self.tokens[self.position : end]]
        for sign in ("+", "-"):
            for marks in (["^", sign], ["^", "{", sign, "}"]):
                if before[-len(marks) :] == marks:
                    del self.tokens[end - len(marks) : end]
                    return sign
        return "+-"

    def _bare_argument(self) -> Any:
        r"""``\sin 2 t``: the factors up to the next sign, fraction bar or function."""
        if self.peek() in ("-", "+"):
            return self.signed(self.take().text) * self.power()
        product = self.power()
        while self.starts_factor() and self.peek()[1:] not in FUNCTIONS and self.peek() not in ("(", "["):
            product = product * self.power()
        return product

    def _decorated(self, name: str) -> Any:
        plain = name in _PLAIN
        inner = self.plain_script()
        if plain and inner in ("e", "i", "d"):
            return {"e": sp.E, "i": sp.I}.get(inner, sp.Symbol(inner))
        if plain and inner.strip("\\ ") in FUNCTIONS:
            return self._function(inner.strip("\\ "))
        if not inner or not re.fullmatch(r"[\\A-Za-z0-9 ]{1,24}", inner):
            raise UnreadableError(f"\\{name} is not read here")
        if self.peek() in ("(", "[") and (plain or name in _OF_FUNCTIONS):
            return self.call(inner if plain else f"{name} {inner}")
        if name == "operatorname" and self.starts_factor():
            return applied(inner, [self._bare_argument()])
        return self.symbol(inner if plain else f"{name} {inner}")
