"""A place among the tokens of an expression."""

from __future__ import annotations

from collections.abc import Sequence

from grouprl.answers.reading.functions import GREEK
from grouprl.answers.reading.tokens import Token, UnreadableError

_DERIVATIVE = ("d", None, "/", "d", None)
"""Texts of the tokens of a derivative in a line, with its letters left open."""


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
    """Tokens in which ``dy/dx`` is one name: no fraction of products."""
    texts, found, place = [token.text for token in tokens], list[Token](), 0
    while place < len(tokens):
        here = texts[place : place + len(_DERIVATIVE)]
        letters = [text for text, wanted in zip(here, _DERIVATIVE, strict=False) if wanted is None]
        fits = len(here) == len(_DERIVATIVE) and all(w in (None, t) for w, t in zip(_DERIVATIVE, here, strict=True))
        if fits and all(text.isalpha() or text[1:] in GREEK for text in letters):
            found.append(Token("name", "d{}/d{}".format(*letters), tokens[place].spaced))
            place += len(_DERIVATIVE)
        else:
            found.append(tokens[place])
            place += 1
    return found
