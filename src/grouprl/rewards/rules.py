"""Rules on one text: a box, steps, notation, a right answer."""

from __future__ import annotations

import re

from grouprl.answers import grading as answers

_STEP = re.compile(
    r"^\W*(?:step\s*\d+|\d+\s*[.)]\s|(?:first|second|third|next|then|after that|therefore|thus|finally)\b)|"
    r"\b(?:first|next|then|therefore|finally),|第[一二三四五六七八九十\d]+步",
    re.IGNORECASE | re.MULTILINE,
)


_NOTATION = re.compile(
    r"\$[^$\n]*[=+\-*/^\\<>][^$\n]*\$|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(?:align|equation)", re.DOTALL
)


def has_box(text: str) -> bool:
    r"""Whether the text holds a non-empty ``\boxed{...}``."""
    return bool(answers.extract(text))


def has_steps(text: str) -> bool:
    """Whether the text goes step by step: at least two step markers or ordering words."""
    return len(_STEP.findall(text)) >= 2


def has_notation(text: str) -> bool:
    r"""Whether the text writes mathematics as such: an equation or operation between LaTeX delimiters."""
    return bool(_NOTATION.search(text))


def is_correct(text: str, gold: str) -> bool:
    """Whether the last box of the text holds the gold answer."""
    return answers.grade(text, gold).correct
