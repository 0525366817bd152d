r"""A small grammar from LaTeX to sympy objects: a Pratt parser that builds what it reads and evaluates no text.

Tokens become sympy numbers, symbols and functions one by one; nothing of a model's text is ever given to ``eval``,
``parse_expr`` or ``sympify``. What the grammar does not know, or what a guard forbids, raises `UnreadableError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from grouprl.answers.reading.bounded import not_zero, number, power_of, repeating
from grouprl.answers.reading.commands import CLOSING, KNOWN_ATOMS, MAX_DEPTH, Commands
from grouprl.answers.reading.cursor import with_derivatives
from grouprl.answers.reading.functions import factorial
from grouprl.answers.reading.tokens import Token, UnreadableError

MAX_TOKENS = 400
_MAX_ATOMS = 100
"""Operands within one another, with brackets or without (``\\sqrt\\sqrt 2``): Python's stack holds no more."""
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


class _Parser(Commands):
    def __init__(self, tokens: Sequence[Token], sign: int, calls: frozenset[str]) -> None:
        super().__init__(tokens)
        self.sign, self.calls = sign, calls
        self.atoms = 0

    def expression(self) -> Any:
        total = self.term()
        while self.peek() in ("+", "-", r"\pm", r"\mp"):
            operator = self.take().text
            total = total + self.signed(operator) * self.term()
        return total

    def signed(self, operator: str) -> Any:
        return sp.Integer({"+": 1, "-": -1, r"\pm": self.sign, r"\mp": -self.sign}[operator])

    def term(self) -> Any:
        product = self.unary()
        while True:
            if self.peek() in (r"\cdot", r"\times") and self._are_vectors():
                raise UnreadableError("a product of vectors")
            if self.accept("*", r"\cdot", r"\times", r"\ast"):
                product = product * self.unary()
            elif self.accept("/", r"\div"):
                product = product / not_zero(self.unary())
            elif self.starts_factor():
                product = product * self.power()
            else:
                return product

    def _are_vectors(self) -> bool:
        return self.peek(1) in (r"\vec", r"\overrightarrow", r"\mathbf", r"\boldsymbol") and any(
            token.text in (r"\vec", r"\overrightarrow", r"\mathbf", r"\boldsymbol")
            for token in self.tokens[max(0, self.position - 4) : self.position]
        )

    def unary(self) -> Any:
        if self.peek() not in ("+", "-", r"\pm", r"\mp"):
            return self.power()
        sign = sp.Integer(1)
        while self.peek() in ("+", "-", r"\pm", r"\mp"):
            sign *= self.signed(self.take().text)
        return sign * self.power()

    def starts_factor(self) -> bool:
        if self.position >= len(self.tokens):
            return False
        token = self.tokens[self.position]
        if token.kind == "number" and self.tokens[self.position - 1].text != "!":
            raise UnreadableError("a number behind another factor")
        if token.kind in ("number", "letter", "name"):
            return True
        if token.text == "|":
            return self.bars == 0
        if token.kind == "command":
            name = token.text[1:]
            return token.text in (r"\{", r"\lfloor", r"\lceil", r"\lvert") or name in KNOWN_ATOMS
        return token.text in ("(", "[", "{")

    def power(self) -> Any:
        base = self._with_factorials(self.atom())
        while self.accept("^"):
            base = base * sp.pi / 180 if self._is_degree() else power_of(base, self.script())
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

    def script(self) -> Any:
        """An exponent: a group, or one signless token."""
        if self.peek() == "{":
            return self.group()
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

    def group(self) -> Any:
        """An expression in brackets of any kind."""
        opening = self.take().text
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        bars, self.bars = self.bars, 0
        inner = self.expression()
        self.bars = bars
        self.expect(CLOSING[opening])
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
            return self.call(self.take().text)
        if token.kind == "letter":
            return self._value_of_function() or self.symbol(self.take().text)
        if token.text in ("(", "[", "{", r"\{"):
            return self.group()
        if token.text in {"|", r"\lvert"}:
            return self._absolute()
        if token.text in (r"\lfloor", r"\lceil"):
            return (sp.floor if token.text == r"\lfloor" else sp.ceiling)(self.group())
        if token.kind == "command":
            return self.command(self.take().text[1:])
        raise UnreadableError(f"{token.text!r} is not read")

    def _number_or_mixed(self) -> Any:
        text = self.take().text
        value = number(text)
        if self.peek() == r"\overline" and "." in text:
            return repeating(text, self._overlined())
        if self.peek() == r"\dot" and "." in text:
            return repeating(text, self._overlined())
        if "." in text and self.peek() == "(":
            return self._with_period(text)
        if self.peek() == "." or (text == "0" and self.position < len(self.tokens) and self._is_glued_letter()):
            raise UnreadableError("a number that goes on")
        if text.isdigit() and self.peek() == r"\frac":
            start = self.position
            fraction = self.command(self.take().text[1:])
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

    def _with_period(self, text: str) -> Any:
        """``0.(3)``; with digits before the brackets it may be a product, too."""
        _, digits, closing = (self.take().text if self.position < len(self.tokens) else "" for _ in range(3))
        if not text.endswith(".") or not digits.isdigit() or closing != ")":
            raise UnreadableError("a decimal before brackets")
        return repeating(text, digits)

    def _is_glued_letter(self) -> bool:
        token = self.tokens[self.position]
        return token.kind == "letter" and not token.spaced

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
        braces = self.accept("{")
        digits = self.take().text
        if braces:
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

    def symbol(self, name: str) -> Any:
        primes = ""
        while self.accept("'"):
            primes += "'"
        if self.accept("_"):
            name = f"{name}_{self.plain_script()}"
        name += primes
        if name in self.bound:
            return sp.Symbol(name)
        if name == "e":
            return sp.E
        return sp.I if name == "i" else sp.Symbol(name)

    def _absolute(self) -> Any:
        closing = CLOSING.get(self.take().text, "|")
        self.bars += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        inner = self.expression()
        self.bars -= 1
        self.depth -= 1
        self.expect(closing)
        return sp.Abs(inner)
