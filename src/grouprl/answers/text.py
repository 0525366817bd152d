"""Final answers as text: found in a completion, brought to one spelling, and told from their units."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from fractions import Fraction
from typing import Literal

Extraction = Literal["boxed", "lenient"]

MAX_ANSWER = 400
"""Longer answers are compared as text alone."""
_MARKS = 30
"""Combining marks on one character."""

_BOX = re.compile(r"\\f?boxed\s*\{")
_BRACE = re.compile(r"(?<!\\)[{}]")
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_LENIENT = (
    re.compile(r"final answer\s*(?:is|:)\s*(?::\s*)?(.+)", re.IGNORECASE),
    None,  # the last box
    re.compile(r"answer\s*(?:is|:|=)\s*(?::\s*)?(.+)", re.IGNORECASE),
    re.compile(r"(?:答案|结果)\s*(?:是|为|:|：|应为)\s*(?:[:：]\s*)?(.+)"),
)
_LAST_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")

_CHARACTERS = str.maketrans(
    {
        "²": "^2", "³": "^3", "⁴": "^4", "√": r"\sqrt ", "π": r"\pi ", "×": r"\times ", "÷": r"\div ", "∞": r"\infty ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "±": r"\pm ", "·": r"\cdot ",
        "⋅": r"\cdot ", "−": "-", "–": "-", "—": "-", "°": r"^\circ ", "≈": r"\approx ", "∈": r"\in ", "′": "'",
        "’": "'", "∅": r"\emptyset ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ",
        "θ": r"\theta ", "λ": r"\lambda ", "μ": r"\mu ", "φ": r"\phi ", "ω": r"\omega ", "ρ": r"\rho ",
        "、": ",", "。": ".", "〈": "(", "〉": ")", "⁄": "/", "【": "[", "】": "]",
    }
)  # fmt: skip
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\s*\.?", " "),
        (r"(?<=\d)(?:\\[,!: ]|~| |\{,\}\\!|,\\!|\{,\})\s*(?=\d{3}(?!\d))", ","),
        (r"(?<!\\)\\[,:;! ]|~|\\q?quad(?![A-Za-z])|\\(?:displaystyle|limits|rm|bf|hfill|,)(?![A-Za-z])", " "),
        (r"\\([dtc])frac(?![A-Za-z])", r"\\frac"),
        (r"\\\$|\\\(|\\\)|\\\[(?!\d+(?:pt|ex|em))|(?<!\\)\\\]|\$", ""),
        (r"\\%", "%"),
        (r"\\(?:leqslant|leqq|leq)(?![A-Za-z])|<=", r"\\le "),
        (r"\\(?:geqslant|geqq|geq)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\neq(?![A-Za-z])", r"\\ne "),
        (r"\\(?:lbrace|lbrack)(?![A-Za-z])", r"\\{"),
        (r"\\(?:rbrace|rbrack)(?![A-Za-z])", r"\\}"),
        (r"\\(?:mid|vert)(?![A-Za-z])", "|"),
        (r"\\(?:lvert|rvert)(?![A-Za-z])", "|"),
        (r"\\operatorname\*?\s*\{\s*(sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|ln|log)\s*\}", r"\\\1 "),
        (r"\\textcircled\s*(?:\{\s*)?(\d)\s*\}?", r"\\text{(\1)}"),
        (r"\\sqrt\s*(\d+)", r"\\sqrt{\1}"),
        (r"\\(?:text|mbox|mathrm|textrm)\s*\{\s*(and|or)\s*\}", r" \1 "),
        (r"\\math(?:bb|rm)\s*\{\s*[RZ]\s*\}", r"\\reals "),
    )
)
_SPACE = re.compile(r"\s+")
_LEADING_SIGN = re.compile(r"^(?:=|\\approx(?![A-Za-z]))\s*")
_TIGHT = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])|(?<=[A-Za-z]) (?=\d)|(?<=\d) (?=[A-Za-z])")
_WRAPPED = re.compile(r"\\(?:text|mbox|textbf|mathbf|textrm|mathrm|textit)\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:\{(-?\d+)\}|(\d))\s*(?:\{(-?\d+)\}|(\d))")

_DEGREES = re.compile(r"\^\s*(?:\{\s*)?\\circ\s*\}?|\\degree(?![A-Za-z])")
_ANGLE = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
"""Where degrees are no unit that can be dropped."""
_UNIT_COMMAND = re.compile(r"(?<!\s)\s*\\(text|mbox|mathrm|textrm|operatorname)\s*\{([^{}]*)\}")
_UNIT_POWER = re.compile(r"\s*(?:\^\s*(?:\{\s*)?[-\d]+\s*(?:\}\s*)?)?")
_BETWEEN_UNITS = re.compile(_UNIT_POWER.pattern + r"(?:[/.]\s*)?")
_NEXT_UNITS = ("text", "mathrm")
"""Commands that may go on with a unit that another began: ``\\text{m}/\\text{s}``."""
_UNIT_WORDS = re.compile(
    r"(?<=[\d})])\s*((?:square |cubic |sq\.? )?(?:[A-Za-z]{3,}|cm|mm|km|kg|ft|in|hr|mi|lb|oz|ml|mL|m/s|km/h|mph)"
    r"(?:(?:\s+|/)[A-Za-z]{1,}){0,3}(?:\^\{?[23]\}?)?)\s*$"
)
_CHINESE_UNIT = re.compile(r"(?<=[\d})%])\s*[一-鿿]{1,6}\s*$")
_CURRENCY = re.compile(r"^\s*(?:US\s*)?[€£¥￥]\s*(?=[\d.])")
_NO_UNIT = re.compile(r"(?:sin|cos|tan|ln|log|and|or|mod|sqrt|pi|if|when|where|for)\b", re.IGNORECASE)

_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:,\d{3})+)(?![\d,])")
_FRACTION = re.compile(r"([-+]?)\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:/[-+]?\d+)?")
_CHOICE = re.compile(r"\(?([A-J](?:\s*(?:,\s*)?[A-J])*)\)?\s*(?:[.:)].*)?", re.DOTALL)

_UNIT_NAMES = {
    name: unit
    for unit, names in {
        "cm": "cm centimeter centimeters centimetre centimetres", "m": "m meter meters metre metres",
        "km": "km kilometer kilometers", "mm": "mm millimeter millimeters", "in": "in inch inches",
        "ft": "ft foot feet", "mi": "mi mile miles", "s": "s sec second seconds", "min": "min minute minutes",
        "h": "h hr hrs hour hours", "day": "day days", "week": "week weeks", "year": "year years", "kg": "kg kilograms",
        "g": "g gram grams", "dollar": "dollar dollars", "cent": "cent cents",
    }.items()
    for name in names.split()
}  # fmt: skip


def last_box(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}`` with balanced braces, or None. One pass, whatever the text."""
    starts = {match.end() for match in _BOX.finditer(text)}
    opened: list[int] = []
    best: tuple[int, int] | None = None
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.end())
        elif opened:
            start = opened.pop()
            if start in starts and (best is None or start > best[0]):
                best = (start, match.start())
    return text[best[0] : best[1]].strip() if best else None


def spoken(text: str) -> str:
    """What a completion says: without thinking and without fenced code, where boxes do not count."""
    if "<think>" in text or "</think>" in text:
        head, closed, tail = text.rpartition("</think>")
        text = tail if closed else head + tail.partition("<think>")[0]
        text = text.partition("<think>")[0]
    if "```" not in text:
        return text
    fences = [match.start() for match in _FENCE.finditer(text)]
    kept, position = [], 0
    for start, end in zip(fences[::2], fences[1::2], strict=False):
        kept.append(text[position:start])
        position = text.index("```", end) + 3
    if len(fences) % 2:
        return "".join([*kept, text[position : fences[-1]]])
    return "".join([*kept, text[position:]])


def extract(completion: str, extraction: Extraction = "boxed") -> str | None:
    """The final answer of a completion as it is written there, or None.

    Args:
        completion: A policy's text.
        extraction: ``boxed``: the last box, for rewards. ``lenient``, for evaluation: after "final answer is", the last
            box, after "answer is", the Chinese forms, the last number, in this order.
    """
    text = spoken(completion)
    if extraction == "boxed":
        return last_box(text)
    for pattern in _LENIENT:
        if pattern is None:
            found = last_box(text)
        else:
            matches = list(pattern.finditer(text[-20_000:]))
            found = _sentence(matches[-1].group(1)) if matches else None
        if found:
            return last_box(found) or found
    numbers = _LAST_NUMBER.findall(text[-20_000:])
    return numbers[-1] if numbers else None


def _sentence(text: str) -> str:
    """The answer at the start of a line: up to the end of its sentence, without what marks it."""
    text = re.split(r"(?:\.\s)|。|\n|\bI hope\b", text.strip().replace("**", ""), maxsplit=1)[0]
    return text.strip().rstrip(".").strip()


def nfkc(text: str) -> str:
    """Unicode's NFKC form, in linear time: to order a run of combining marks takes quadratic time.

    Of such a run the first 30 stay, as many as Unicode's stream-safe text format has (UAX 15).
    """
    if text.isascii():
        return text
    runs = itertools.groupby(text, _is_combining)
    kept = "".join(
        itertools.chain.from_iterable(itertools.islice(run, _MARKS) if marks else run for marks, run in runs)
    )
    return unicodedata.normalize("NFKC", kept)


@functools.lru_cache(maxsize=2**12)
def _is_combining(character: str) -> bool:
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) > 0


def tidy(answer: str) -> str:
    """One spelling of the same LaTeX, with single spaces; meaning is kept."""
    text = nfkc(answer.translate(_CHARACTERS)).translate(_CHARACTERS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _LEADING_SIGN.sub("", _SPACE.sub(" ", text).strip().rstrip(".,;:").strip())


def split_unit(text: str) -> tuple[str, str]:
    """A tidied answer without its unit, and the unit's name ("" for none)."""
    text = _CURRENCY.sub("", text if _ANGLE.search(text) else _DEGREES.sub("", text)).strip()
    command = _unit_command(text)
    if command and not _NO_UNIT.match(command.group(2).strip()):
        return text[: command.start()].strip(), _unit_name(text[command.start() :])
    match = _UNIT_WORDS.search(text)
    if match and not _NO_UNIT.match(match.group(1)) and not text[: match.start()].rstrip().endswith("\\"):
        return text[: match.start()].strip(), _unit_name(match.group(1))
    match = _CHINESE_UNIT.search(text)
    return (text[: match.start()].strip(), "") if match else (text, "")


def _unit_command(text: str) -> re.Match[str] | None:
    r"""The first of the commands that write a unit up to the end (``3 \text{ m}/\text{s}^2``), or None."""
    first, end, gap = None, len(text), _UNIT_POWER
    for command in reversed(list(_UNIT_COMMAND.finditer(text))):
        if not gap.fullmatch(text, command.end(), end):
            break
        if command.start() and text[command.start() - 1] not in "\\(,=":
            first = command
        if command.group(1) not in _NEXT_UNITS:
            break
        end, gap = command.start(), _BETWEEN_UNITS
    return first


def _unit_name(text: str) -> str:
    plain = _WRAPPED.sub(r"\1", text).strip().lower()
    power = re.search(r"\^\s*(?:\{\s*)?(\d)", plain)
    word = re.sub(r"[^a-z/ ].*", "", plain).strip()
    return _UNIT_NAMES.get(word, "") + (f"^{power.group(1)}" if power and word in _UNIT_NAMES else "")


def units_differ(first: str, second: str) -> bool:
    """Whether two known units contradict each other."""
    return bool(first and second) and first != second


def unwrap(text: str) -> str:
    r"""Text without ``\text{...}`` around its words."""
    return _WRAPPED.sub(r"\1", text).strip()


def key_of(text: str) -> str:
    """What two spellings of one answer share: no white space but between words and numbers."""
    text = _SHORT_FRACTION.sub(
        lambda m: f"\\frac{{{m.group(1) or m.group(2)}}}{{{m.group(3) or m.group(4)}}}", unwrap(text)
    )
    return _TIGHT.sub("", _SPACE.sub(" ", text)).strip()


def without_thousands(text: str) -> str:
    """``1,234`` as ``1234``, outside brackets alone, where the comma separates."""
    if any(bracket in text for bracket in "([{"):
        return text
    return _THOUSANDS.sub(lambda match: match.group(1) + match.group(2).replace(",", ""), text)


def as_number(text: str) -> Fraction | None:
    """The exact value of an integer, decimal or fraction, or None for anything else."""
    if len(text) > MAX_ANSWER:
        return None
    match = _FRACTION.fullmatch(text)
    if match:
        sign, numerator, denominator = match.groups()
        text = f"{int((sign or '+') + '1') * int(numerator)}/{denominator}"
    if not _NUMBER.fullmatch(text) or len(text) > 80:
        return None
    numerator, _, denominator = text.partition("/")
    if not denominator:
        return Fraction(numerator)
    return Fraction(numerator) / int(denominator) if int(denominator) else None


def as_choice(text: str) -> str | None:
    """The letters of a multiple-choice answer in order (``(B)``, ``B. 3``, ``A, C``), or None."""
    match = _CHOICE.fullmatch(unwrap(text).strip())
    return "".join(sorted(set(re.findall("[A-J]", match.group(1))))) if match else None
