"""A place among the tokens of an expression."""

from __future__ import annotations

from collections.abc import Sequence

from grouprl.answers.reading.functions import GREEK
from grouprl.answers.reading.tokens import Token, UnreadableError

_DERIVATIVES = ((r"\frac", "{", "d", None, "}", "{", "d", None, "}"), ("d", None, "/", "d", None))
"""Texts of the tokens of a derivative, with its letters left open."""


class Cursor:
    """Goes through tokens one by one."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens, self.position = list(tokens), 0

    def peek(self, ahead: int = 0) -> str:
        index = self.position + ahead
        return self.tokens[index].text if index < len(self.tokens) else ""

    def take(self) -> Token:
        if self.position >= len(self.tokens):
            raise UnreadableError("the expression ends too early")
        self.position += 1
        return self.tokens[self.position - 1]

    def accept(self, *texts: str) -> bool:
        if self.peek() in texts:
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise UnreadableError(f"{text!r} is missing")

    def plain_script(self) -> str:
        """The text of an index."""
        if not self.accept("{"):
            return self.take().text
        pieces, open_braces = [], 1
        while open_braces:
            text = self.take().text
            open_braces += (text == "{") - (text == "}")
            pieces.append(text)
        return "".join(pieces[:-1])


def with_derivatives(tokens: Sequence[Token]) -> list[Token]:
    r"""Tokens in which ``\frac{dy}{dx}`` and ``dy/dx`` are one name: no fraction of products."""
    texts, found, place = [token.text for token in tokens], list[Token](), 0
    while place < len(tokens):
        for shape in _DERIVATIVES:
            here = texts[place : place + len(shape)]
            letters = [text for text, wanted in zip(here, shape, strict=False) if wanted is None]
            as_shaped = len(here) == len(shape) and all(w in (None, t) for w, t in zip(shape, here, strict=True))
            if as_shaped and all(text.isalpha() or text[1:] in GREEK for text in letters):
                found.append(Token("name", "d{}/d{}".format(*letters), tokens[place].spaced))
                place += len(shape)
                break
        else:
            found.append(tokens[place])
            place += 1
    return found
