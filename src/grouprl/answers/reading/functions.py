"""Functions an answer may call: known ones, unknown ones, and what is computed of small sums, products and limits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from grouprl.answers.reading.tokens import Token, UnreadableError

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "cot": sp.cot, "sec": sp.sec, "csc": sp.csc,
    "arcsin": sp.asin, "arccos": sp.acos, "arctan": sp.atan, "arccot": sp.acot, "arcsec": sp.asec, "arccsc": sp.acsc,
    "asin": sp.asin, "acos": sp.acos, "atan": sp.atan, "arctg": sp.atan, "tg": sp.tan, "ctg": sp.cot,
    "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh, "coth": sp.coth, "sech": sp.sech, "csch": sp.csch,
    "arcsinh": sp.asinh, "arccosh": sp.acosh, "arctanh": sp.atanh, "arccoth": sp.acoth,
    "arsinh": sp.asinh, "arcosh": sp.acosh, "artanh": sp.atanh, "asinh": sp.asinh, "acosh": sp.acosh, "atanh": sp.atanh,
    "ln": sp.log, "log": sp.log, "lg": lambda x: sp.log(x) / sp.log(10), "exp": sp.exp, "sgn": sp.sign, "sign": sp.sign,
    "floor": sp.floor, "ceil": sp.ceiling, "ceiling": sp.ceiling, "abs": sp.Abs, "sqrt": sp.sqrt,
    "max": sp.Max, "min": sp.Min, "gcd": sp.gcd, "lcm": sp.lcm, "Re": sp.re, "Im": sp.im,
}  # fmt: skip
"""By their names, with a backslash, in ``\\operatorname{}``, or in plain letters."""
INVERSE: dict[str, Callable[[Any], Any]] = {
    "sin": sp.asin, "cos": sp.acos, "tan": sp.atan, "cot": sp.acot, "sec": sp.asec, "csc": sp.acsc,
    "sinh": sp.asinh, "cosh": sp.acosh, "tanh": sp.atanh, "coth": sp.acoth, "sech": sp.asech, "csch": sp.acsch,
}  # fmt: skip
"""What an exponent of -1 makes of them."""
OF_MANY = frozenset({"max", "min", "gcd", "lcm"})
_INTEGERS_ALONE = frozenset({"gcd", "lcm"})
_MOST_TERMS = 1_000
"""Terms of a sum or product that are added up."""
_MOST_WORK = 20_000
"""Terms times the operations of each."""
_MOST_OPERATIONS = 40
"""Operations of an expression whose limit is looked for."""
_LARGEST_FACTORIAL = 200
_NOT_CALLED = frozenset({"e", "i", "d", r"\pi"})


def called_letters(texts: Sequence[Sequence[Token]]) -> frozenset[str]:
    """Letters that stand for functions in all of several texts: each time one is written, brackets follow.

    ``u(2t)`` calls a function where ``u`` stands nowhere alone; in ``n(n+1)`` the letter is a factor. The brackets may
    follow primes, an index, or an exponent of -1.
    """
    called, alone = set[str](), set[str]()
    for tokens in texts:
        for place, token in enumerate(tokens):
            is_letter = token.kind == "letter" or (token.kind == "command" and token.text[1:] in GREEK)
            if is_letter and token.text not in _NOT_CALLED:
                (called if _brackets_follow(tokens, place + 1) else alone).add(token.text)
    return frozenset(called - alone)


def _brackets_follow(tokens: Sequence[Token], place: int) -> bool:
    texts = [token.text for token in tokens[place : place + 12]]
    while texts and texts[0] == "'":
        texts.pop(0)
    if texts[:1] == ["_"]:
        texts = texts[texts.index("}") + 1 :] if texts[1:2] == ["{"] and "}" in texts else texts[2:]
    if texts[:5] == ["^", "{", "-", "1", "}"]:
        texts = texts[5:]
    return texts[:1] in (["("], ["["])


def applied(name: str, arguments: Sequence[Any]) -> Any:
    """An unknown function of its arguments: an opaque value, the same for the same arguments."""
    return sp.Function(name)(*arguments)


def apply_known(name: str, arguments: Sequence[Any]) -> Any:
    """A function of `FUNCTIONS` of its arguments.

    Raises:
        UnreadableError: It does not take these.
    """
    if name in _INTEGERS_ALONE and not all(value.is_Integer for value in arguments):
        raise UnreadableError(f"{name} of what is no integer")
    if (len(arguments) > 1) != (name in OF_MANY) and name != "log":
        raise UnreadableError(f"{name} of {len(arguments)} arguments")
    return FUNCTIONS[name](*arguments)


def with_values(expression: Any, digits: int) -> Any:
    """An expression at a point, unknown functions replaced by numbers that depend on their arguments' values alone."""
    if not expression.has(AppliedUndef):
        return expression
    return expression.replace(lambda part: isinstance(part, AppliedUndef), lambda part: _value_of(part, digits))


def _value_of(part: Any, digits: int) -> Any:
    arguments = [str(sp.N(argument, digits, maxn=300).round(digits - 6)) for argument in part.args]
    drawn = hashlib.sha256("|".join([part.func.__name__, *arguments]).encode()).digest()
    return sp.Rational(int.from_bytes(drawn[:8], "big"), 2**62) + sp.Rational(1, 7)


def sum_or_product(name: str, body: Any, index: Any, low: Any, high: Any) -> Any:
    """A finite sum or product by its terms.

    Raises:
        UnreadableError: Its bounds are not integers, or it has more terms than are added up.
    """
    if not (low.is_Integer and high.is_Integer) or high - low >= _MOST_TERMS:
        raise UnreadableError(f"a {name} that is not small and finite")
    count = max(0, int(high - low) + 1)
    if count * (1 + body.count_ops()) > _MOST_WORK:
        raise UnreadableError(f"a {name} of too much")
    _check_growth(body, index, max(abs(low), abs(high)), name)
    terms = [body.subs(index, value) for value in range(int(low), int(high) + 1)]
    found = sp.Add(*terms) if name == "sum" else sp.Mul(*terms)
    if found.has(sp.zoo, sp.nan):
        raise UnreadableError("division by zero")
    return found


def _check_growth(body: Any, index: Any, largest: Any, name: str) -> None:
    """Refuse terms whose numbers grow out of hand: exponents and factorials that are more than linear in the index."""
    for part in body.atoms(sp.Pow, sp.factorial, sp.exp):
        grown = part.args[-1]
        if index not in grown.free_symbols:
            continue
        if not grown.is_polynomial(index) or sp.degree(grown, index) > 1 or grown.free_symbols != {index}:
            raise UnreadableError(f"a {name} of too much")
        most = max(abs(grown.subs(index, value)) for value in (-largest, largest))
        is_factorial_power = part.is_Pow and part.base.has(sp.factorial)
        if most > _LARGEST_FACTORIAL or is_factorial_power:
            raise UnreadableError(f"a {name} of too much")


def limit(body: Any, variable: Any, place: Any, direction: str) -> Any:
    """A limit of a small expression of one variable.

    Raises:
        UnreadableError: The expression is not small, or has no limit.
    """
    if body.count_ops() > _MOST_OPERATIONS or body.has(AppliedUndef) or not place.is_number:
        raise UnreadableError("a limit of too much")
    found = sp.limit(body, variable, place, direction)
    if found.has(sp.Limit, sp.AccumBounds, sp.nan):
        raise UnreadableError("no limit")
    return found


def factorial(value: Any) -> Any:
    """A factorial of a small number or of a symbol."""
    if value.is_number and not (value.is_Integer and 0 <= value <= _LARGEST_FACTORIAL):
        raise UnreadableError("a factorial of a large number, or of none")
    return sp.factorial(value)


GREEK = frozenset(
    """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma
    tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega hbar ell mho
    """.split()  # noqa: SIM905
)
"""Names of letters."""
