"""Rules on one text: a box, steps, notation, a right answer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from grouprl.answers import grading as answers

_STEP = re.compile(
    r"^\W*(step\s*\d+|\d+\s*[.)]\s|(?:first|second|third|next|then|after that|therefore|thus|finally)\b)?|"
    r"\b((?:first|next|then|therefore|finally),)|(第[一二三四五六七八九十\d]+步)",
    re.IGNORECASE | re.MULTILINE,
)
"""What stands before a marker is taken whether or not one follows, so that no line is looked at from each of many."""
_NOTATION = re.compile(r"\$[^$\n=+\-*/^\\<>]*[=+\-*/^\\<>][^$\n]*\$|\\begin\{(?:align|equation)")
_DELIMITERS = ((r"\(", r"\)"), (r"\[", r"\]"))


def has_box(text: str) -> bool:
    r"""Whether the text holds a non-empty ``\boxed{...}``."""
    return bool(answers.extract(text))


def has_steps(text: str) -> bool:
    """Whether the text goes step by step: at least two step markers or ordering words."""
    markers = (match for match in _STEP.finditer(text) if match.lastindex)
    return sum(1 for _ in itertools.islice(markers, 2)) == 2


def has_notation(text: str) -> bool:
    r"""Whether the text writes mathematics as such: an equation or operation between LaTeX delimiters."""
    return bool(_NOTATION.search(text)) or any(_encloses(text, *delimiters) for delimiters in _DELIMITERS)


def _encloses(text: str, opening: str, closing: str) -> bool:
    """Whether something stands between two delimiters."""
    start = text.find(opening)
    return start >= 0 and text.find(closing, start + len(opening) + 1) >= 0


def is_correct(text: str, gold: str) -> bool:
    """Whether the last box of the text holds the gold answer."""
    return answers.grade(text, gold).correct


def are_correct(completions: Sequence[Sequence[str]], golds: Sequence[str]) -> list[list[bool]]:
    """Of each text of each row, whether its last box holds the row's gold answer."""
    texts = [text for row in completions for text in row]
    wanted = [gold for row, gold in zip(completions, golds, strict=True) for _ in row]
    verdicts = iter(answers.grade_all(texts, wanted))
    return [[next(verdicts).correct for _ in row] for row in completions]
