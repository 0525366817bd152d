r"""Where the answer of a completion is: the last box, and for evaluation what else a model may end with.

For rewards the last ``\boxed{}`` alone counts. In evaluation (`extract` with ``lenient``) markers such as "the answer
is" are read as well; what follows one counts where it is an answer, and not where it is a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Extraction = Literal["boxed", "lenient"]

_BOX = re.compile(r"\\(?:f?boxed|fbox)\s*\{")
_BARE_BOX = re.compile(r"\\f?boxed *(-?(?:\d{1,40}(?:\.\d{1,40})?|\\frac ?\d\d|\\frac\{[^{}]{1,40}\}\{[^{}]{1,40}\}))")
r"""``\boxed 7``."""
_BRACE = re.compile(r"(?<!\\)[{}]")
_FENCE = re.compile(r"```|~~~")
_INLINE_CODE = re.compile(r"```[^`\n]{1,200}```|<!--[^<>]{0,500}-->")

_TAIL = 20_000
"""Characters at the end of a text in which an answer is looked for leniently."""
_SPAN = 1_000
"""Characters behind a marker in which its answer is looked for."""
_MARKER = re.compile(r"(final |最终)?(?:answer|correct option|correct choice|答案|结果)", re.IGNORECASE)
_CONNECTOR = re.compile(
    r"s?[*_]{0,2} ?(?:(?:is|are|would be|will be|should be|must be|equals|=)(?![A-Za-z])|是|为|应为|应该是|(?=[:：]))"
    r" ?(?:therefore|thus|then|simply|just|approximately|about|exactly|roughly)?[*_]{0,2} ?[:：]?",
    re.IGNORECASE,
)
_HEADING = re.compile(r"s?[*_]{0,2}[:：]?[*_]{0,2} ?\n", re.IGNORECASE)
"""What ends a heading, as in ``## Final answer``."""
_CHOSEN = re.compile(r"(?:故选|应选|选择|选项|选|[Oo]ption )[:：]? ?([A-J])(?![A-Za-z])")
_HASHES = re.compile(r"####")
_CLOSING_TAG = "</answer>"
_OPENING_TAG = "<answer>"
_BEFORE = " \t\r\n*_>:："
_DISPLAYS = {r"\[": r"\]", "$$": "$$"}
_INLINE = {r"\(": r"\)", "$": "$"}
_FORMULA = re.compile(r"\$\$|\$|\\[()\[\]]")
_STOP = re.compile(r"\.(?=\s|$)|[。．]|，(?!\d)|\n|\bI hope\b|!(?=\s|$)")
_ASIDE = re.compile(
    r"[,;]\s(?!(?:and|or)\b)[a-z]{2,12}\b|\b(?:because|since|which|so that|as required|as desired|respectively)\b"
    r"|\s\((?:since|because|as|see)\b"
)
"""What begins a remark behind an answer."""
_LETTER = re.compile(r"\(?([A-J])\)?(?=[.;:!?]|,(?! ?\(?[A-J]\b)|$|\s(?:because|since|as|which)\b)")
_SUBJECT = re.compile(r"(?:the|a|an|that|there|it|we|this|these|all|our|so|therefore|thus|hence)\b", re.IGNORECASE)
_VERB = re.compile(r"\b(?:is|are|equals|be)\b")
_PROSE = re.compile(r"[A-Za-z]{2,20}(?![A-Za-z])")
_NO_ANSWER = re.compile(
    r"(?:not|well|clear|clearly|obvious|given|found|obtained|correct|incorrect|right|wrong|as|below|above|shown|known|unknown|"
    r"therefore|thus|then|what|that|still|also|to|in|of|on|by|from|left|easy|expected)\b",
    re.IGNORECASE,
)
"""How a sentence goes on that states nothing."""
_NUMBER = re.compile(r"(?<![\d.,])-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")
_STATED = re.compile(r"(?!\d{1,2}[.)]\s)[-+$\\\d(\[{|.]|[A-Za-z](?:$|\s?[=^_(+*/<>-]|\d)")
"""How a mathematical answer begins; a heading of a list does not."""
_TELLING = re.compile(r"[\d\\$<>=^一-鿿]")
"""What stands in a mathematical answer."""


class _Found(NamedTuple):
    """An answer, where its marker begins, and whether it stands above an earlier box."""

    place: int
    text: str
    strong: bool


def last_box(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}`` with balanced braces, or None. One pass, whatever the text."""
    found = _last_box(text)
    return found.text if found else None


def _last_box(text: str) -> _Found | None:
    starts = {match.end(): match.start() for match in _BOX.finditer(text)}
    opened: list[int] = []
    best: tuple[int, int] | None = None
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.end())
        elif opened:
            start = opened.pop()
            is_empty = not text[start : match.start()].strip()
            rank = (not is_empty, start)
            if start in starts and (best is None or rank > (bool(text[best[0] : best[1]].strip()), best[0])):
                best = (start, match.start())
    found = _Found(starts[best[0]], text[best[0] : best[1]].strip(), strong=True) if best else None
    for match in _BARE_BOX.finditer(text):
        if found is None or match.start() > found.place:
            found = _Found(match.start(), match.group(1), strong=True)
    return found


def spoken(text: str) -> str:
    """What a completion says: without thinking and without fenced code, where boxes do not count."""
    if "<think>" in text or "</think>" in text:
        head, closed, tail = text.rpartition("</think>")
        text = tail if closed else head + tail.partition("<think>")[0]
        text = text.partition("<think>")[0]
    if not any(mark in text for mark in ("```", "~~~", "<!--")):
        return text
    text = _INLINE_CODE.sub(" ", text)
    fences = [match.start() for match in _FENCE.finditer(text)]
    kept, position = [], 0
    for start, end in zip(fences[::2], fences[1::2], strict=False):
        kept.append(text[position:start])
        position = end + 3
    if len(fences) % 2:
        return "".join([*kept, text[position : fences[-1]]])
    return "".join([*kept, text[position:]])


def extract(completion: str, extraction: Extraction = "boxed") -> str | None:
    """The final answer of a completion as it is written there, or None.

    Args:
        completion: A policy's text.
        extraction: ``boxed``: the last box, for rewards. ``lenient``, for evaluation, the first there is of: a
            mathematical answer marked as final (``final answer``, ``<answer>``, ``####``) behind the last box; the last
            box; the last answer marked as final; the last one behind "answer is" and its like, Chinese forms too; the
            last formula, unless a number stands on a later line; the last number.
    """
    text = spoken(completion)
    if extraction == "boxed":
        return last_box(text)
    box, tail = _last_box(text), text[-_TAIL:]
    marked = sorted(_marked(tail))
    if box is not None:
        before = box.place - (len(text) - len(tail))
        later = [
            found.text
            for found in marked
            if found.strong and found.place > before and _STATED.match(found.text) and _TELLING.search(found.text)
        ]
        return (later[-1] if later else box.text) or None
    for wanted in (True, False):
        said = [found.text for found in marked if found.strong is wanted]
        if said:
            return said[-1]
    return _last_formula_or_number(tail)


def _marked(text: str) -> Iterator[_Found]:
    """Answers behind markers, in any order."""
    for match in _MARKER.finditer(text):
        final = bool(match.group(1))
        connector = _CONNECTOR.match(text, match.end()) or (_HEADING.match(text, match.end()) if final else None)
        answer = _answer_behind(text[connector.end() : connector.end() + _SPAN]) if connector else None
        if answer:
            yield _Found(match.start(), answer, final)
    for match in _CHOSEN.finditer(text):
        yield _Found(match.start(), match.group(1), strong=False)
    for match in _HASHES.finditer(text):
        line = text[match.end() : match.end() + _SPAN].partition("\n")[0].strip()
        if line and (_STATED.match(line) or last_box(line)) and len(_PROSE.findall(line)) <= 2:
            yield _Found(match.start(), last_box(line) or line, strong=True)
    start = text.rfind(_OPENING_TAG)
    end = text.find(_CLOSING_TAG, start)
    if 0 <= start < end and (inside := text[start + len(_OPENING_TAG) : end].strip()):
        yield _Found(start, last_box(inside) or _answer_behind(inside) or inside, strong=True)


def _answer_behind(text: str) -> str | None:
    """The answer that a text begins with, or None where it goes on with a sentence."""
    text = text.lstrip(_BEFORE).removeprefix("- ").strip("`")
    for opening, closing in _DISPLAYS.items():
        if text.startswith(opening):
            inside, closed, _ = text[len(opening) :].partition(closing)
            return (last_box(inside) or inside.strip() or None) if closed else None
    sentence = _sentence(text)
    boxed = last_box(sentence)
    if boxed:
        return boxed
    letter = _LETTER.match(sentence)
    if letter:
        return letter.group(1)
    if _SUBJECT.match(sentence):
        verbs = list(_VERB.finditer(sentence))
        if not verbs:
            return None
        sentence = sentence[verbs[-1].end() :].strip()
    return sentence if _is_answer(sentence) else None


def _sentence(text: str) -> str:
    """A text up to the end of its first sentence or a remark outside of formulas, without what marks it."""
    text = text.replace("**", "").replace("__", "")
    formulas = list(_formulas(text))
    end, position = len(text), 0
    for start, stop in [*formulas, (len(text), len(text))]:
        ends = [match for pattern in (_STOP, _ASIDE) if (match := pattern.search(text, position, start))]
        if ends:
            end = min(match.start() for match in ends)
            break
        position = stop
    text = text[:end].strip()
    if formulas and formulas[0][0] == 0 and formulas[0][1] < len(text) and not _TELLING.search(text[formulas[0][1] :]):
        rest = text[formulas[0][1] :]
        if len(rest.split()) > 3:  # more than a unit
            text = text[: formulas[0][1]]
    return text.strip().rstrip(".,;:").strip()


def _formulas(text: str) -> Iterator[tuple[int, int]]:
    """Where the formulas of a text begin and end."""
    closings, opened = {**_DISPLAYS, **_INLINE}, None
    for match in _FORMULA.finditer(text):
        sign = match.group()
        if opened is None:
            if sign in closings and not (sign == "$" and match.start() and text[match.start() - 1] == "\\"):
                opened = (match.start(), closings[sign])
        elif sign == opened[1]:
            if (
                sign == "$"
                and len(_PROSE.findall(text[opened[0] : match.start()])) > 1
                and "\\" not in text[opened[0] : match.start()]
            ):
                opened = (match.start(), sign)  # two prices, and words between them
                continue
            yield opened[0], match.end()
            opened = None


def _is_answer(text: str) -> bool:
    """Whether a text states something: mathematics, or a few words that do not go on with a sentence."""
    if not text or _NO_ANSWER.match(text):
        return False
    words = _PROSE.findall(text)
    return len(words) <= (8 if _TELLING.search(text) else 4)


def _last_formula_or_number(text: str) -> str | None:
    formulas = [(start, end) for start, end in _formulas(text) if any(c.isdigit() for c in text[start:end])]
    numbers = list(_NUMBER.finditer(text))
    if formulas:
        start, end = formulas[-1]
        line_end = text.find("\n", end)
        if line_end < 0 or not numbers or numbers[-1].start() < line_end:
            inside = text[start:end]
            for sign in (*_DISPLAYS.items(), *_INLINE.items()):
                if inside.startswith(sign[0]):
                    return inside[len(sign[0]) : -len(sign[1])].strip() or None
    return numbers[-1].group() if numbers else None
