r"""What stands behind the number of an answer: units with their powers, words for scale, and things that are counted.

A unit is told by its name (`UNITS`), with its power: ``6 cubic feet`` is not ``6 square feet``. A word for scale is
read as the number it says: ``2 million`` is not ``2``. Other words name what is counted (``12 apples``), but for those
that say something of the number (``10 minus three``, ``5 or more``): they stay, and the answer is not the number alone.
"""

from __future__ import annotations

import re
from fractions import Fraction

_NAMES = {
    "m": "m meter meters metre metres 米", "cm": "cm centimeter centimeters centimetre centimetres 厘米",
    "dm": "dm decimeter decimeters decimetre decimetres 分米", "nm": "nm nanometer nanometers nanometre nanometres",
    "mm": "mm millimeter millimeters millimetre millimetres 毫米",
    "km": "km kilometer kilometers kilometre kilometres 千米 公里",
    "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mi mile miles",
    "s": "s sec secs second seconds 秒", "min": "min mins minute minutes 分钟", "h": "h hr hrs hour hours 小时",
    "ms": "ms millisecond milliseconds 毫秒", "day": "day days 天 日", "week": "week weeks wk wks 周 星期",
    "month": "month months 月 个月", "year": "year years yr yrs 年",
    "g": "g gram grams 克", "kg": "kg kgs kilogram kilograms 千克 公斤", "mg": "mg milligram milligrams 毫克",
    "t": "ton tons tonne tonnes 吨", "lb": "lb lbs pound pounds", "oz": "oz ounce ounces",
    "L": "l L liter liters litre litres 升", "mL": "ml mL milliliter milliliters millilitre millilitres 毫升",
    "gal": "gal gallon gallons", "qt": "qt quart quarts", "pint": "pt pint pints", "cup": "cup cups",
    "dollar": "dollar dollars usd 美元", "cent": "cent cents", "euro": "euro euros eur 欧元", "yuan": "yuan rmb 元",
    "yen": "yen 日元", "rupee": "rupee rupees",
    "deg": "deg degree degrees 度", "rad": "rad rads radian radians 弧度", "degC": "celsius 摄氏度",
    "degF": "fahrenheit",
    "K": "K kelvin kelvins", "Hz": "Hz hertz", "kHz": "kHz", "MHz": "MHz", "GHz": "GHz", "N": "N newton newtons",
    "J": "J joule joules", "kJ": "kJ", "W": "W watt watts", "kW": "kW kilowatt kilowatts", "V": "V volt volts",
    "A": "A amp amps ampere amperes", "Pa": "Pa pascal pascals", "kPa": "kPa", "atm": "atm", "mol": "mol mole moles",
    "eV": "eV", "MeV": "MeV", "erg": "erg ergs", "ohm": "ohm ohms", "acre": "acre acres",
    "ha": "ha hectare hectares 公顷", "bit": "bit bits", "byte": "byte bytes",
}  # fmt: skip
UNITS = {name: unit for unit, names in _NAMES.items() for name in names.split()}
"""Known units by their names."""
_SHORTHAND = {"mph": "mi h^-1", "kph": "km h^-1", "kmh": "km h^-1", "rpm": "rpm", "fps": "ft s^-1"}
_SCALES = {
    "hundred": Fraction(100), "thousand": Fraction(1_000), "million": Fraction(10**6), "billion": Fraction(10**9),
    "trillion": Fraction(10**12), "dozen": Fraction(12), "half": Fraction(1, 2), "halve": Fraction(1, 2),
    "third": Fraction(1, 3), "quarter": Fraction(1, 4), "fourth": Fraction(1, 4), "fifth": Fraction(1, 5),
    "sixth": Fraction(1, 6), "seventh": Fraction(1, 7), "eighth": Fraction(1, 8), "ninth": Fraction(1, 9),
    "tenth": Fraction(1, 10), "twelfth": Fraction(1, 12), "hundredth": Fraction(1, 100),
    "thousandth": Fraction(1, 1_000),
    "万": Fraction(10**4), "亿": Fraction(10**8), "百": Fraction(100), "千": Fraction(1_000),
}  # fmt: skip
_PERCENT = frozenset({"percent", "percents", "pct", "percentage"})
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_BEHIND = {"squared": 2, "cubed": 3}
_NUMBER_WORDS = frozenset(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    """.split()  # noqa: SIM905
)
_SAYING = _NUMBER_WORDS | frozenset(
    """
    plus minus times over by divided multiplied subtract subtracted add added to power root roots factorial choose mod
    modulo remainder point negative positive more less fewer least most than below above under beyond between about
    nearly almost approximately roughly around up down not no never except but without instead or and nor if when where
    while unless for from of is are was equals equal becomes any each every all some many infinitely infinity infinite
    true false yes undefined squared cubed first base log ln sin cos tan pi sqrt even odd prime am pm a p
    """.split()  # noqa: SIM905
)
"""Words that say something of a number, and name nothing that is counted."""
_MOST_WORDS = 5

_DEGREES = re.compile(r"\^\s*(?:\{\s*)?\\circ\s*\}?|\\degree(?![A-Za-z])")
_TEMPERATURE = re.compile(r"(?:\\(?:text|mathrm|rm)\s*\{\s*)?\b([CF])\b\s*\}?")
_ANGLE = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
"""Where degrees are no unit that can be dropped."""
_COMMAND = re.compile(
    r"(?<!\s)\s*\\(text|textnormal|textbf|textit|textrm|textsf|texttt|mbox|hbox|mathrm|mathbf|mathit|operatorname)\s*"
    r"\{([^{}]*)\}"
)
_POWER = re.compile(r"\s*(?:\^\s*(?:\{\s*)?[-\d]+\s*(?:\}\s*)?)?")
_BETWEEN = re.compile(_POWER.pattern + r"(?:(?:/|\.|\\cdot|\\times)\s*)?")
_WORDS = re.compile(
    r"(?<=[\d})])\s*-?((?:[A-Za-z]{2,20}\.?)(?:(?: |/| ?\\cdot |-)[A-Za-z]{1,20}\.?){0,4}(?:\s?\^\s?\{?-?\d\}?)?)\s*$"
)
_LETTER = re.compile(r"([-+]?(?:\d{1,20}(?:\.\d{1,20})?|\\frac\{\d{1,9}\}\{\d{1,9}\}))\s?([smghLNJWV])")
r"""``3s``: a letter that may stand for a unit, behind a number alone."""
_CHINESE = re.compile(r"(?<=[\d})%])\s*([一-鿿]{1,8})\s*$")
_CURRENCY = re.compile(r"^(?:US ?)?([€£¥￥]) ?(?=[\d.])")
_SIGNS = {"€": "euro", "£": "pound sterling", "¥": "", "￥": ""}
_FACTOR = re.compile(r"([A-Za-z一-鿿]+)\.?\s?(?:\^\s?\{?\s?(-?\d)\s?\}?)?|(/|\bper\b)|(\S)")
_WRAPPING = re.compile(r"\\(?:text[a-z]*|[mh]box|math[a-z]+|operatorname)\s*\{([^{}]*)\}")


def split_unit(text: str) -> tuple[str, str]:
    """A tidied answer without its unit, and the unit's name ("" for none, and for what is counted).

    A word for scale becomes a factor: ``2 million dollars`` is ``2000000`` and ``dollar``.
    """
    if len(text) > 2 and text[0] == "[" and text[-1] == "]" and "," not in text and "[" not in text[1:]:
        bare, unit = split_unit(text[1:-1].strip())  # [45 degrees]
        return (bare, unit) if bare != text[1:-1].strip() else (text, "")
    sign, unit = _CURRENCY.match(text), ""
    if sign:
        text, unit = text[sign.end() :], _SIGNS[sign.group(1)]
    if not _ANGLE.search(text) and (degrees := _DEGREES.search(text)):
        kind = _TEMPERATURE.fullmatch(text[degrees.end() :].strip())
        unit = f"deg{kind.group(1)}" if kind else "deg"
        text = text[: degrees.start()] if kind else _DEGREES.sub("", text)
    text = text.strip()
    for start, words in _endings(text):
        bare = text[:start].strip()
        said = _read(words, text[start:])
        if said is None or not bare or bare.endswith("\\"):
            continue
        name, factor, power, percent = said
        return _scaled(bare, factor, power) + ("%" if percent else ""), name or unit
    return text, unit


def units_differ(first: str, second: str) -> bool:
    """Whether two known units contradict each other."""
    return bool(first and second) and first != second


def without_letter(text: str) -> str:
    """An answer that is a number and a letter, which may be a unit (``3s``), as the number; others as they are."""
    match = _LETTER.fullmatch(text)
    return match.group(1) if match else text


def _endings(text: str) -> list[tuple[int, str]]:
    """Where words begin that go on to the end, and the words: of commands, in plain letters, in Chinese."""
    found = []
    command = _first_command(text)
    if command is not None:
        words = _WRAPPING.sub(lambda m: f" {m.group(1)} ", text[command.start() :])
        found.append((command.start(), words))
        last = list(_COMMAND.finditer(text))[-1]
        if last.start() > command.start():
            found.append((last.start(), f"{last.group(2)}{text[last.end() :]}"))
    for pattern in (_WORDS, _CHINESE):
        match = pattern.search(text)
        if match:
            found.append((match.start(), match.group(1)))
    return found


def _first_command(text: str) -> re.Match[str] | None:
    r"""The first of the commands that write a unit up to the end (``3 \text{ m}/\text{s}^2``), or None."""
    first, end, gap = None, len(text), _POWER
    for command in reversed(list(_COMMAND.finditer(text))):
        if not gap.fullmatch(text, command.end(), end):
            break
        if command.start() and text[command.start() - 1] not in "\\(,=":
            first = command
        end, gap = command.start(), _BETWEEN
    return first


def _read(words: str, written: str) -> tuple[str, Fraction, int, bool] | None:
    """Unit, factor, power of the number and whether it is percent, or None where the words are no unit."""
    for sign in ("~", r"\cdot", r"\times", "-"):
        words = words.replace(sign, " ") if sign != "-" or "^" not in words else words
    parts = _FACTOR.findall(" ".join(words.split()))
    factor, power, percent = Fraction(1), 1, False
    while parts and (scale := _scale(parts[0])) is not None and (len(parts) == 1 or parts[1][0].lower() != "of"):
        factor, parts = factor * scale, parts[1:]
    if parts and parts[0][0] in _POWERS_BEHIND:
        power, parts = _POWERS_BEHIND[parts[0][0]], parts[1:]
    if parts and parts[0][0].lower() in _PERCENT:
        percent, parts = True, [part for part in parts[1:] if part[0].lower() not in ("point", "points")]
    if [part[0].lower() for part in parts[:2]] == ["per", "cent"] or (
        [part[2] for part in parts[:1]] == ["per"] and [part[0].lower() for part in parts[1:2]] == ["cent"]
    ):
        percent, parts = True, parts[2:]
    if not parts:
        return ("", factor, power, percent) if factor != 1 or power != 1 or percent else None
    known = _known(parts)
    if known is not None:
        return known, factor, power, percent
    return ("", factor, power, percent) if _is_counted(parts, written) else None


def _scale(part: tuple[str, ...]) -> Fraction | None:
    word = part[0].lower()
    if part[1] or not word:
        return None
    return _SCALES.get(word, _SCALES.get(word.removesuffix("s")))


def _known(parts: list[tuple[str, ...]]) -> str | None:
    """The unit that known names make, in one order, or None."""
    powers: dict[str, int] = {}
    sign, ahead = 1, 1
    last: str | None = None
    for word, exponent, per, other in parts:
        if per:
            sign, last = -1, None
            continue
        lower = word.lower()
        if other or not word:
            return None
        if lower in _POWERS:
            ahead = _POWERS[lower]
            continue
        if lower in _POWERS_BEHIND and last:
            powers[last] *= _POWERS_BEHIND[lower]
            continue
        if lower in ("a", "an", "each", "every") and powers:  # 3 miles an hour
            sign, last = -1, None
            continue
        if lower in _SHORTHAND:
            names = [tuple(name.partition("^")[::2]) for name in _SHORTHAND[lower].split()]
        elif word.startswith(("平方", "立方")) and word[2:] in UNITS:
            names = [(UNITS[word[2:]], "2" if word.startswith("平方") else "3")]
        elif word in UNITS or lower in UNITS:
            names = [(UNITS.get(word) or UNITS[lower], exponent)]
        else:
            return None
        for name, power in names:
            powers[name] = powers.get(name, 0) + sign * ahead * int(power or 1)
            last = name
        ahead = 1
    return " ".join(f"{name}^{power}" if power != 1 else name for name, power in sorted(powers.items()) if power)


def _is_counted(parts: list[tuple[str, ...]], written: str) -> bool:
    """Whether words name things, and say nothing of the number before them."""
    words = [word.lower() for word, _, per, _ in parts if not per]
    if any(other for *_, other in parts) or len(words) > _MOST_WORDS or any(exponent for _, exponent, *_ in parts[:-1]):
        return False
    if all("一" <= character <= "鿿" for character in "".join(words)):
        return True
    in_command = "{" in written
    first_is_named = len(words[0]) >= (2 if in_command else 3)  # 5ab is a product
    if words == ["times"]:
        return True
    return first_is_named and not any(word in _SAYING or word.removesuffix("s") in _SCALES for word in words)


def _scaled(bare: str, factor: Fraction, power: int) -> str:
    if power != 1:
        bare = f"({bare})^{power}"
    if factor == 1:
        return bare
    try:
        value = Fraction(bare.replace(",", "")) * factor
    except (ValueError, ZeroDivisionError):
        return (
            f"({bare})\\cdot {factor.numerator}/{factor.denominator}"
            if factor.denominator != 1
            else f"({bare})\\cdot {factor}"
        )
    return str(value)
