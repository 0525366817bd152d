r"""What stands behind the number of an answer: units with their powers, words for scale, and things that are counted.

A unit is told by its name, with its power: ``6 cubic feet`` is not ``6 square feet``. A word for scale is read as the
number it says: ``2 million`` is not ``2``. Other words name what is counted (``12 apples``), but for those that say
something of the number (``10 minus three``, ``5 or more``): they stay, and the answer is not the number alone. Where
both answers name things, these are not other things: ``5 miles north`` is not ``5 miles south``.
"""

from __future__ import annotations

import re
from fractions import Fraction

from grouprl.answers.text import as_number, without_thousands
from grouprl.answers.unit_names import (
    ADJECTIVES,
    GLUED,
    JOINING,
    POWERS,
    POWERS_BEHIND,
    SAYING,
    SAYING_IN_CHINESE,
    SCALES,
    SHORTHAND,
    unit_of,
)

_PERCENT = frozenset({"percent", "percents", "pct", "percentage"})
_MOST_WORDS = 6
_THINGS = "#"
"""Stands before words that are no unit, in what `split_unit` gives."""
_GENERIC = "unit"

_DEGREES = re.compile(r"\^\s*(?:\{\s*)?\\circ\s*\}?|\\degree(?![A-Za-z])")
_TEMPERATURE = re.compile(r"(?:\\(?:text|mathrm|rm)\s*\{\s*)?\b([CF])\b\s*\}?")
_ANGLE = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
"""Where degrees are no unit that can be dropped."""
_COMMAND = re.compile(
    r"(?<!\s)\s*\\(text|textnormal|textbf|textit|textrm|textsf|texttt|mbox|hbox|mathrm|operatorname)\s*\{([^{}]*)\}"
)
_UNITS_ALONE = ("mathrm", "operatorname")
"""Commands in which other words are no things, but names of functions and points."""
_WHOLE = re.compile(r"\\(?:text[a-z]*|[mh]box|mathrm)\s?\{\s?(\d[^{}]*)\}")
r"""``\text{5 cm}``"""
_POWER = re.compile(r"\s*(?:\^\s*(?:\{\s*)?[-\d]+\s*(?:\}\s*)?)?")
_BETWEEN = re.compile(_POWER.pattern + r"(?:(?:/|\.|\\cdot|\\times)\s*)?")
_WORDS = re.compile(
    r"(?:(?<=[\d})])|(?<=\\pi))( ?)-?((?:[A-Za-z]{2,20}\.?)(?:(?: |/| ?\\cdot |-)[A-Za-z]{1,20}\.?){0,5}"
    r"(?: ?\^ ?\{?-?\d\}?)?) ?$"
)
_LETTER = re.compile(
    r"([-+]?(?:\d{1,20}(?:\.\d{1,20})?|\\frac\{\d{1,9}\}\{\d{1,9}\}))"
    r"(?:\s?[smghLNJWV]| [smghLNJWVA](?:\^\s?\{?\s?[23]\s?\}?)?(?:/[A-Za-z]{1,3}(?:\^\s?\{?\s?-?\d\s?\}?)?)?)"
)
r"""``3s`` and ``9.8 m/s^2``: letters that may stand for a unit, behind a number alone."""
_CHINESE = re.compile(r"(?<=[\d})%])\s*([一-鿿]{1,8})\s*$")
_CURRENCY = re.compile(r"^(?:US ?)?([€£¥￥\ue000]) ?(?=[\d.])")
_SIGNS = {"€": "euro", "£": "pound sterling", "¥": "yuan", "￥": "yuan", "\ue000": "dollar"}
_FACTOR = re.compile(r"(/|\bper\b)|([A-Za-z一-鿿]+)\.?\s?(?:\^\s?\{?\s?(-?\d)\s?\}?)?|(\S)")
_WRAPPING = re.compile(r"\\(?:text[a-z]*|[mh]box|math[a-z]+|operatorname)\s*\{([^{}]*)\}")
_SCALED_NUMBER = re.compile(
    r"-?(?:\d{1,40}(?:\.\d{1,40})?|\.\d{1,40}|\\frac\{\d{1,20}\}\{\d{1,20}\}|\d{1,20}/\d{1,20})"
)

_COUNT = re.compile(r"(?:[-+\d.,/ {}%]|\\frac)+")
"""Numbers, which things may be counted by: ``2\\frac13`` too, and no letters."""

Part = tuple[str, str, str, str]
"""Per, word, exponent, or anything else."""


def split_unit(text: str) -> tuple[str, str]:
    """A tidied answer without its unit, and what was behind it, for `units_differ` ("" for nothing).

    A word for scale becomes a factor: ``2 million dollars`` is ``2000000`` and ``dollar``.
    """
    whole = _WHOLE.fullmatch(text)
    text = whole.group(1).strip() if whole else text
    if len(text) > 2 and text[0] == "[" and text[-1] == "]" and "," not in text and "[" not in text[1:]:
        bare, unit = split_unit(text[1:-1].strip())  # [45 degrees]
        return (bare, unit) if bare != text[1:-1].strip() else (text, "")
    sign, unit = _CURRENCY.match(text), ""
    if sign:
        text, unit = text[sign.end() :], _SIGNS[sign.group(1)]
    text = text.replace("\ue000", "")
    if not _ANGLE.search(text) and (degrees := _DEGREES.search(text)):
        kind = _TEMPERATURE.fullmatch(text[degrees.end() :].strip())
        unit = f"deg{kind.group(1)}" if kind else "deg"
        text = text[: degrees.start()] if kind else _DEGREES.sub("", text)
    text = text.strip()
    for start, words, are_things in _endings(text):
        bare = text[:start].strip()
        said = _read(words, are_things=are_things)
        if said is None or not bare or bare.endswith("\\"):
            continue
        name, factor, power, percent = said
        if name.startswith(_THINGS) and not _COUNT.fullmatch(bare):
            continue
        scaled = _scaled(bare, factor, power)
        if scaled is not None:
            return scaled + ("%" if percent else ""), name or unit
    return text, unit


def units_differ(first: str, second: str) -> bool:
    """Whether what stands behind two numbers contradicts each other: other units, or other things."""
    if not first or not second or first == second:
        return False
    (unit, _, things), (other, _, other_things) = first.partition(_THINGS), second.partition(_THINGS)
    unit, other = unit.strip(), other.strip()
    if unit != other and (unit or things) and (other or other_things):
        generic = [name.startswith(_GENERIC) for name in (unit, other)]
        return all(generic) or not any(generic)
    mine, yours = ({_singular(word) for word in words.split()} for words in (things, other_things))
    return bool(mine and yours) and not (mine <= yours or yours <= mine)


def without_letter(text: str) -> str:
    """An answer that is a number and letters, which may be a unit (``3s``), as the number; others as they are."""
    match = _LETTER.fullmatch(text)
    return match.group(1) if match else text


def _singular(word: str) -> str:
    return word.removesuffix("s")


def _endings(text: str) -> list[tuple[int, str, bool]]:
    """Where words begin that go on to the end, the words, and whether they may be things that are counted."""
    found = []
    commands = list(_COMMAND.finditer(text))
    first = _first_command(text, commands)
    if first is not None:
        words = _WRAPPING.sub(lambda m: f" {m.group(1)} ", text[first.start() :])
        are_things = all(c.group(1) not in _UNITS_ALONE for c in commands if c.start() >= first.start())
        found.append((first.start(), words, are_things))
        last = commands[-1]
        if last.start() > first.start():
            found.append((last.start(), f"{last.group(2)}{text[last.end() :]}", last.group(1) not in _UNITS_ALONE))
    plain = _WORDS.search(text)
    if plain:
        glued = not plain.group(1) and not text[: plain.start()].endswith("\\pi")
        beginning = re.match(r"[A-Za-z]+", plain.group(2))
        if not glued or (beginning is not None and beginning.group() in GLUED):
            found.append(
                (plain.start(), plain.group(2), not glued and beginning is not None and len(beginning.group()) > 2)
            )
    chinese = _CHINESE.search(text)
    if chinese:
        found.append((chinese.start(), chinese.group(1), True))
    return found


def _first_command(text: str, commands: list[re.Match[str]]) -> re.Match[str] | None:
    r"""The first of the commands that write a unit up to the end (``3 \text{ m}/\text{s}^2``), or None."""
    first, end, gap = None, len(text), _POWER
    for command in reversed(commands):
        if not gap.fullmatch(text, command.end(), end):
            break
        if command.start() and text[command.start() - 1] not in "\\(,=":
            first = command
        end, gap = command.start(), _BETWEEN
    return first


def _read(words: str, *, are_things: bool) -> tuple[str, Fraction, int, bool] | None:
    """Unit and things, factor, power of the number and whether it is percent, or None where the words are neither."""
    for sign in ("~", r"\cdot", r"\times", "-"):
        words = words.replace(sign, " ") if sign != "-" or "^" not in words else words
    words = words.replace("每", " per ").replace("percent", " percent ")
    if any(part in words for part in SAYING_IN_CHINESE):
        return None
    parts = [part for found in _FACTOR.findall(" ".join(words.split())) for part in _split_scale(found)]
    factor, power, percent = Fraction(1), 1, False
    while parts and (scale := SCALES.get(_plain(parts[0]), SCALES.get(_singular(_plain(parts[0]))))) is not None:
        if len(parts) > 1 and (scale < 1 or _plain(parts[1]) == "of"):
            return None  # 12 fourth graders, and 3 fifths of it
        factor, parts = factor * scale, parts[1:]
    if parts and _plain(parts[0]) in POWERS_BEHIND:
        power, parts = POWERS_BEHIND[_plain(parts[0])], parts[1:]
    if parts and _plain(parts[0]) in _PERCENT:
        percent, parts = True, [part for part in parts[1:] if _plain(part) not in ("point", "points")]
    elif parts and parts[0][0] and len(parts) > 1 and _plain(parts[1]) == "cent":
        percent, parts = True, parts[2:]
    changed = factor != 1 or power != 1 or percent
    if not parts:
        return ("", factor, power, percent) if changed else None
    for end in range(len(parts), -1, -1):
        known = _known(parts[:end]) if end else ""
        if known is not None and (end == len(parts) or (are_things and _are_things(parts[end:], behind=bool(end)))):
            rest = " ".join(_plain(part) or "per" for part in parts[end:])
            return f"{known}{f' {_THINGS}{rest}' if rest else ''}".strip(), factor, power, percent
    return None


def _plain(part: Part) -> str:
    """The word of a part, in small letters; "" where it is none or has an exponent."""
    return "" if part[2] else part[1].lower()


def _split_scale(part: Part) -> list[Part]:
    """Chinese words for scale apart from the unit behind them: ``万元``, but not ``千克``."""
    word, found = part[1], list[Part]()
    while len(word) > 1 and word[0] in "百千万亿" and unit_of(word) is None:
        found.append(("", word[0], "", ""))
        word = word[1:]
    return [*found, (part[0], word, part[2], part[3])]


def _known(parts: list[Part]) -> str | None:
    """The unit that known names make, in one order, or None."""
    powers: dict[str, int] = {}
    sign, ahead = 1, 1
    last: str | None = None
    for per, word, exponent, other in parts:
        lower = word.lower()
        if per or (lower in ("a", "an", "each", "every") and powers):  # 3 miles an hour
            sign, last = -1, None
            continue
        if other or not word:
            return None
        if lower in POWERS:
            ahead = POWERS[lower]
            continue
        if lower in POWERS_BEHIND and last:
            powers[last] *= POWERS_BEHIND[lower]
            continue
        if lower in SHORTHAND:
            names = [tuple(name.partition("^")[::2]) for name in SHORTHAND[lower].split()]
        elif word[:2] in ("平方", "立方") and (known := unit_of(word[2:])) is not None:
            names = [(known, "2" if word[:2] == "平方" else "3")]
        elif (known := unit_of(word)) is not None:
            names = [(known, exponent)]
        else:
            return None
        for name, power in names:
            powers[name] = powers.get(name, 0) + sign * ahead * int(power or 1)
            last = name
        ahead = 1
    if ahead != 1 or not powers or (parts and parts[-1][0]):
        return None
    return " ".join(f"{name}^{power}" if power != 1 else name for name, power in sorted(powers.items()) if power)


def _are_things(parts: list[Part], *, behind: bool) -> bool:
    """Whether words name things, and say nothing of the number before them; ``behind``: a unit stands before them."""
    words = [_plain(part) for part in parts if not part[0]]
    if not all(words) or any(part[3] for part in parts) or not 0 < len(words) <= _MOST_WORDS:
        return False
    if all("一" <= character <= "鿿" for character in "".join(words)):
        return not {"平方", "立方"} & set(words)
    if words == ["times"]:
        return True
    if len(words[0]) < (1 if behind else 2) or words[-1] in ADJECTIVES or words[-1] in JOINING or words[0] in JOINING:
        return behind and words[-1] in ADJECTIVES and len(words) == 1 and words[0] not in SAYING
    return not any(_says_something(word) for word in words if word not in JOINING)


def _says_something(word: str) -> bool:
    return word in SAYING or _singular(word) in SCALES or word in SCALES or word.endswith("fold")


def _scaled(bare: str, factor: Fraction, power: int) -> str | None:
    """A number with its factor or power; None where there is one and what stands before it is no plain number."""
    if factor == 1 and power == 1:
        return bare
    plain = without_thousands(bare)
    value = as_number(plain) if _SCALED_NUMBER.fullmatch(plain) else None
    if value is None or (power != 1 and value < 0):  # -3 squared may be 9, or -9
        return None
    return str(value**power * factor)
