r"""A small grammar from LaTeX to sympy objects: a Pratt parser that builds what it reads and evaluates no text.

Tokens become sympy numbers, symbols and functions one by one; nothing of a model's text is ever given to ``eval``,
``parse_expr`` or ``sympify``. What the grammar does not know, or what a guard forbids, raises `UnreadableError`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sympy as sp

from grouprl.answers.reading.bounded import MAX_EXPONENT, not_zero, number, power_of, repeating
from grouprl.answers.reading.cursor import Cursor, with_derivatives
from grouprl.answers.reading.functions import (
    FUNCTIONS,
    GREEK,
    INVERSE,
    OF_MANY,
    applied,
    apply_known,
    factorial,
    limit,
    sum_or_product,
)
from grouprl.answers.reading.tokens import Token, UnreadableError

MAX_DEPTH = 12
"""Nested brackets, at most."""
MAX_TOKENS = 400
_MAX_ATOMS = 100
"""Operands within one another, with brackets or without (``\\sqrt\\sqrt 2``): Python's stack holds no more."""

_DECORATIONS = frozenset(
    """
    vec overrightarrow overline bar hat widehat tilde dot ddot mathbf boldsymbol mathcal mathbb mathrm text textbf
    operatorname bold textnormal textrm textit mathit
    """.split()  # noqa: SIM905
)
_PLAIN = frozenset("mathrm text mathbf boldsymbol textbf operatorname bold mathcal mathbb".split())  # noqa: SIM905
"""Decorations that leave what they hold the same symbol."""
_CLOSING = {
    "(": ")",
    "[": "]",
    "{": "}",
    r"\{": r"\}",
    r"\lfloor": r"\rfloor",
    r"\lceil": r"\rceil",
    r"\lvert": r"\rvert",
}
_FORBIDDEN = frozenset({r"\int", r"\iint", r"\oint", r"\partial", "_"})


def parse(tokens: Sequence[Token], *, sign: int = 1, calls: frozenset[str] = frozenset()) -> Any:
    r"""The sympy expression of all the tokens.

    Args:
        tokens: What is read.
        sign: How ``\pm`` is read; ``\mp`` is its opposite.
        calls: Letters that stand for functions.

    Raises:
        UnreadableError: They are outside of the grammar.
    """
    if len(tokens) > MAX_TOKENS:
        raise UnreadableError("too long")
    parser = _Parser(with_derivatives(tokens), sign, calls)
    found = parser.expression()
    if parser.peek():
        raise UnreadableError(f"unexpected {parser.peek()!r}")
    return found


class _Parser(Cursor):
    def __init__(self, tokens: Sequence[Token], sign: int, calls: frozenset[str]) -> None:
        super().__init__(tokens)
        self.sign, self.calls = sign, calls
        self.depth = self.bars = self.atoms = 0

    def expression(self) -> Any:
        total = self.term()
        while self.peek() in ("+", "-", r"\pm", r"\mp"):
            operator = self.take().text
            total = total + self._signed(operator) * self.term()
        return total

    def _signed(self, operator: str) -> Any:
        return sp.Integer({"+": 1, "-": -1, r"\pm": self.sign, r"\mp": -self.sign}[operator])

    def term(self) -> Any:
        product = self.unary()
        while True:
            if self.accept("*", r"\cdot", r"\times", r"\ast"):
                product = product * self.unary()
            elif self.accept("/", r"\div"):
                product = product / not_zero(self.unary())
            elif self._starts_factor():
                product = product * self.power()
            else:
                return product

    def unary(self) -> Any:
        if self.peek() not in ("+", "-", r"\pm", r"\mp"):
            return self.power()
        sign = sp.Integer(1)
        while self.peek() in ("+", "-", r"\pm", r"\mp"):
            sign *= self._signed(self.take().text)
        return sign * self.power()

    def _starts_factor(self) -> bool:
        if self.position >= len(self.tokens):
            return False
        token = self.tokens[self.position]
        if token.kind in ("number", "letter", "name"):
            return True
        if token.text == "|":
            return self.bars == 0
        if token.kind == "command":
            name = token.text[1:]
            return token.text in (r"\{", r"\lfloor", r"\lceil", r"\lvert") or name in _KNOWN_ATOMS
        return token.text in ("(", "[", "{")

    def power(self) -> Any:
        base = self._with_factorials(self.atom())
        while self.accept("^"):
            base = base * sp.pi / 180 if self._is_degree() else power_of(base, self._script())
        if self.peek() in _FORBIDDEN:
            raise UnreadableError(f"{self.peek()!r} is not read")
        return base

    def _with_factorials(self, value: Any) -> Any:
        if self.accept("!"):
            value = factorial(value)
            if self.peek() == "!":
                raise UnreadableError("a double factorial")
        return value

    def _is_degree(self) -> bool:
        if self.accept(r"\circ"):
            return True
        if self.peek() == "{" and self.peek(1) == r"\circ" and self.peek(2) == "}":
            self.position += 3
            return True
        return False

    def _script(self) -> Any:
        """An exponent: a group, or one signless token."""
        if self.peek() == "{":
            return self._group()
        if self.peek() == "-":
            self.take()
            return -self.atom()
        token = self.peek()
        if self.tokens and self.position < len(self.tokens) and self.tokens[self.position].kind == "number":
            # x^23 in LaTeX is x^2 3, but who writes it means x^{23}.
            return number(self.take().text)
        if not token:
            raise UnreadableError("an exponent is missing")
        return self.atom()

    def _group(self) -> Any:
        """An expression in brackets of any kind."""
        opening = self.take().text
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        bars, self.bars = self.bars, 0
        inner = self.expression()
        self.bars = bars
        self.expect(_CLOSING[opening])
        self.depth -= 1
        return inner

    def atom(self) -> Any:
        self.atoms += 1
        if self.atoms > _MAX_ATOMS:
            raise UnreadableError("nested too deeply")
        found = self._atom()
        self.atoms -= 1
        return found

    def _atom(self) -> Any:
        if self.position >= len(self.tokens):
            raise UnreadableError("the expression ends too early")
        token = self.tokens[self.position]
        if token.kind == "number":
            return self._number_or_mixed()
        if token.kind == "name":
            return sp.Symbol(self.take().text)
        if token.text in self.calls:
            return self._call(self.take().text)
        if token.kind == "letter":
            return self._value_of_function() or self._symbol(self.take().text)
        if token.text in ("(", "[", "{", r"\{"):
            return self._group()
        if token.text in {"|", r"\lvert"}:
            return self._absolute()
        if token.text in (r"\lfloor", r"\lceil"):
            return (sp.floor if token.text == r"\lfloor" else sp.ceiling)(self._group())
        if token.kind == "command":
            return self._command(self.take().text[1:])
        raise UnreadableError(f"{token.text!r} is not read")

    def _number_or_mixed(self) -> Any:
        text = self.take().text
        value = number(text)
        if self.peek() == r"\overline" and "." in text:
            return repeating(text, self._overlined())
        if self.peek() == r"\dot" and "." in text:
            raise UnreadableError("a dotted decimal")
        if text.isdigit() and self.peek() == r"\frac":
            start = self.position
            fraction = self._command(self.take().text[1:])
            if (
                isinstance(fraction, sp.Rational)
                and 0 < fraction < 1
                and all(
                    t.kind == "number" or t.text in "{}" or t.text == r"\frac"
                    for t in self.tokens[start : self.position]
                )
            ):
                return value + fraction
            self.position = start
        if text.isdigit() and self._is_plain_fraction():
            numerator, _, denominator = (self.take().text for _ in range(3))
            return value + sp.Rational(int(numerator), int(denominator))
        if self.peek() == "_":
            self.take()
            return sp.Symbol(f"{text}_{self.plain_script()}")
        return value

    def _is_plain_fraction(self) -> bool:
        """A mixed number typed as ``1 4/5``."""
        here = self.tokens[self.position : self.position + 3]
        texts = [token.text for token in here]
        return (
            len(texts) == 3
            and here[0].spaced
            and texts[1] == "/"
            and texts[0].isdigit()
            and texts[2].isdigit()
            and 0 < int(texts[0]) < int(texts[2])
        )

    def _overlined(self) -> str:
        self.take()
        self.expect("{")
        digits = self.take().text
        self.expect("}")
        if not digits.isdigit():
            raise UnreadableError("a line over what is no digit")
        return digits

    def _value_of_function(self) -> Any:
        """``f(0)`` is a name, not a product."""
        texts = [token.text for token in self.tokens[self.position : self.position + 4]]
        if len(texts) < 4 or texts[0] not in "fghFGHIPEV" or texts[1] != "(" or texts[3] != ")":
            return None
        if self.tokens[self.position + 1].spaced or self.tokens[self.position + 2].kind not in ("number", "letter"):
            return None
        self.position += 4
        return sp.Symbol("".join(texts))

    def _symbol(self, name: str) -> Any:
        primes = ""
        while self.accept("'"):
            primes += "'"
        if self.accept("_"):
            name = f"{name}_{self.plain_script()}"
        name += primes
        if name == "e":
            return sp.E
        return sp.I if name == "i" else sp.Symbol(name)

    def _absolute(self) -> Any:
        closing = _CLOSING.get(self.take().text, "|")
        self.bars += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        inner = self.expression()
        self.bars -= 1
        self.depth -= 1
        self.expect(closing)
        return sp.Abs(inner)

    def _command(self, name: str) -> Any:
        if name in ("frac", "cfrac"):
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
            return self._symbol(name)
        if name in _DECORATIONS:
            return self._decorated(name)
        raise UnreadableError(f"\\{name} is not read")

    def _argument(self) -> Any:
        if self.peek() == "{":
            return self._group()
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

    def _function(self, name: str) -> Any:
        base, exponent = None, None
        while self.peek() in ("_", "^"):
            if self.take().text == "_":
                base = self._argument()
            else:
                exponent = self._script()
        if base is not None and name != "log":
            raise UnreadableError(f"\\{name} with an index")
        if name in OF_MANY:
            return apply_known(name, self._arguments())
        argument = self._group() if self.peek() in ("(", "[", "{") else self._bare_argument()
        if exponent == -1 and name in INVERSE:
            return INVERSE[name](argument)
        value = sp.log(argument) / sp.log(base) if base is not None else apply_known(name, [argument])
        return value if exponent is None else power_of(value, exponent)

    def _call(self, name: str) -> Any:
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
        if opening not in ("(", "{", r"\{"):
            raise UnreadableError("arguments without brackets")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        bars, self.bars = self.bars, 0
        found = [self.expression()]
        while self.accept(","):
            found.append(self.expression())
        self.bars = bars
        self.expect(_CLOSING[opening])
        self.depth -= 1
        return found

    def _sum_or_product(self, name: str) -> Any:
        low = high = index = None
        while self.peek() in ("_", "^"):
            if self.take().text == "^":
                high = self._script()
                continue
            self.expect("{")
            index = self._symbol(self.take().text)
            self.expect("=")
            low = self.expression()
            self.expect("}")
        if index is None or low is None or high is None or not index.is_Symbol:
            raise UnreadableError(f"a {name} without bounds")
        return sum_or_product(name, self.term(), index, low, high)

    def _limit(self) -> Any:
        self.expect("_")
        self.expect("{")
        variable = self._symbol(self.take().text)
        if not self.accept(r"\to", r"\rightarrow") or not variable.is_Symbol:
            raise UnreadableError("a limit without its place")
        place, direction = self.expression(), "+-"
        if self.accept("^"):
            braces = self.accept("{")
            direction = self.take().text
            if braces:
                self.expect("}")
        self.expect("}")
        if direction not in ("+-", "+", "-"):
            raise UnreadableError("a limit from nowhere")
        return limit(self.term(), variable, place, direction)

    def _bare_argument(self) -> Any:
        r"""``\sin 2 t``: the factors up to the next sign, fraction bar or function."""
        if self.peek() in ("-", "+"):
            return self._signed(self.take().text) * self.power()
        product = self.power()
        while self._starts_factor() and self.peek()[1:] not in FUNCTIONS and self.peek() not in ("(", "["):
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
        if plain and len(inner) > 1 and self.peek() == "(":
            return self._call(inner)
        if name == "operatorname" and self._starts_factor():
            return applied(inner, [self._bare_argument()])
        return self._symbol(inner if plain else f"{name} {inner}")


_KNOWN_ATOMS = frozenset(
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
