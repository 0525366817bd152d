"""Final answers as text: brought to one spelling, and read as plain numbers and choices where they are that."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from fractions import Fraction

MAX_ANSWER = 400
"""Longer answers are compared as text alone."""
_MARKS = 30
"""Combining marks on one character."""

_CHARACTERS = str.maketrans(
    {
        "√": r"\sqrt ", "π": r"\pi ", "×": r"\times ", "÷": r"\div ", "∞": r"\infty ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "±": r"\pm ", "·": r"\cdot ",
        "⋅": r"\cdot ", "−": "-", "–": "-", "—": "-", "°": r"^\circ ", "≈": r"\approx ", "∈": r"\in ", "′": "'",
        "’": "'", "∅": r"\emptyset ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ",
        "θ": r"\theta ", "λ": r"\lambda ", "μ": r"\mu ", "φ": r"\phi ", "ω": r"\omega ", "ρ": r"\rho ",
        "∘": r"^\circ ", "º": r"^\circ ", "˚": r"^\circ ", "∠": r"\angle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
        "⌈": r"\lceil ", "⌉": r"\rceil ", "⩽": r"\le ", "≦": r"\le ", "⩾": r"\ge ", "≧": r"\ge ", "∙": r"\cdot ",
        "‑": "-", "‐": "-", "σ": r"\sigma ", "ε": r"\epsilon ", "ϵ": r"\epsilon ", "τ": r"\tau ", "ξ": r"\xi ",
        "η": r"\eta ", "Δ": r"\Delta ", "Σ": r"\Sigma ", "Ω": r"\Omega ", "Φ": r"\Phi ", "Γ": r"\Gamma ",
        "㎡": r"\text{ m}^2", "㎥": r"\text{ m}^3", "㎢": r"\text{ km}^2", "㎠": r"\text{ cm}^2", "…": "...",
        "、": ",", "。": ".", "〈": "(", "〉": ")", "⁄": "/", "【": "[", "】": "]", "⟨": r"\langle ", "⟩": r"\rangle ",
        "ℝ": r"\reals ", "ℤ": r"\integers ", "ℕ": r"\naturals ", "ℚ": r"\rationals ", "ℂ": r"\complexes ",
    }
    | {chr(0x2460 + n): rf"\text{{({n + 1})}}" for n in range(20)}  # circled numbers, of which NFKC makes digits
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f", "")
)  # fmt: skip
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱᵃᵇᶜᵈᵉᶠᵍʰʲᵏˡᵐᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉₊₋ₐₑₒₓₕₖₗₘₙₚₛₜ"
_RAISED = re.compile(f"[{_SUPERSCRIPTS}]+")
_LOWERED = re.compile(f"[{_SUBSCRIPTS}]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_SETS = {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes"}
_NUMBER_SET = re.compile(r"\\(?:mathbb|Bbb)\s*(?:\{\s*)?([RZNQC])(?![A-Za-z])\s*\}?|\\math(?:bf|rm)\s*\{\s*([RZ])\s*\}")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z])")
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\s*\.?", " "),
        (r"(?<=\d)(?:\\[,!: ]|~| |\{,\}\\!|,\\!|\{,\})\s*(?=\d{3}(?!\d))", ","),
        (r"(?<!\\)\\[,:;! ]|~|\\q?quad(?![A-Za-z])|\\(?:displaystyle|limits|rm|bf|hfill|,)(?![A-Za-z])", " "),
        (r"\\([dtc])frac(?![A-Za-z])", r"\\frac"),
        (r"\\\$ ?(?=[\d.])", "\ue000"),
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
        (r"\\(?:nice|s)frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:textcolor|color)\s?\{[^{}]*\}|\\tag\s?(?:\d|\{[^{}]*\})|\\(?:large|Large|huge)(?![A-Za-z])", " "),
        (r"\\emph(?![A-Za-z])", r"\\text"),
        (r"\^\s?\{?\s?\\prime\s?\}?", "'"),
        (r"\\varphi(?![A-Za-z])", r"\\phi"),
        (r"\\varepsilon(?![A-Za-z])", r"\\epsilon"),
        (r"\\mathrm\s?\{\s?d\s?\}|\\mathrm d", "d "),
        (r"\\textcircled\s*(?:\{\s*)?(\d)\s*\}?", r"\\text{(\1)}"),
        (r"\\sqrt\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}"),
        (r"\\(?:text|mbox|mathrm|textrm)\s*\{\s*(and|or)\s*\}", r" \1 "),
        (r"\\bar(?![A-Za-z])", r"\\overline"),
        (r"\*\*", "^"),
        (r"(?<![\d)}!])!=", r"\\ne "),
        (r"\{([^{}\\]*)\\choose(?![A-Za-z])([^{}\\]*)\}", r"\\binom{\1}{\2}"),
        (r"\^(\{[^{}]*\}|[A-Za-z0-9])\s?_(\{[^{}]*\}|[A-Za-z0-9])", r"_\2^\1"),
        (r"^(?<!\d)(\d+)(?:\^\s?\{?\s?)?(?:\\(?:text|mathrm)\s?\{\s?)?(?:st|nd|rd|th)(?![A-Za-z])\s?\}?\s?\}?$", r"\1"),
    )
)
_SPACE = re.compile(r"\s+")
_LEADING_SIGN = re.compile(r"^(?:=|\\approx(?![A-Za-z]))\s*")
_TIGHT = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])|(?<=[A-Za-z]) (?=\d)|(?<=\d) (?=[A-Za-z])")
_WRAPPED = re.compile(
    r"\\(?:text|textnormal|mbox|hbox|textbf|mathbf|textrm|mathrm|textit|textsf|texttt|mathit|underline)\s*\{([^{}]*)\}"
)
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:\{(-?\d+)\}|(\d))\s*(?:\{(-?\d+)\}|(\d))")

_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:,\d{3})+)(?!\d|,\d)")
_FRACTION = re.compile(r"([-+]?)\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:/[-+]?\d+)?")
_CHOICES = re.compile(
    r"(?:(?:故|应)?选择?[:：]? ?|[Oo]ption |[Cc]hoice )?"
    r"(\(?[A-J]\)?(?: ?(?:, ?|; ?|& ?|and )?(?:and )?\(?[A-J]\)?){0,9})"
)
"""Letters of choices and nothing else."""
_CHOICE = re.compile(r"(?:(?:故|应)?选择?[:：]? ?|[Oo]ption |[Cc]hoice )?\(?([A-J])(?:\)|[.:]|(?= ))\s?(.*)", re.DOTALL)
"""A letter, and what it stands for."""
_ANOTHER_CHOICE = re.compile(
    r"(?<![A-Za-z\d])\(?[A-J](?:[.:)]|$)|(?<![A-Za-z])or(?![A-Za-z])|(?<![A-Za-z])no(?![A-Za-z])"
)


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
    answer = answer.strip()
    if answer.startswith("**") and answer.endswith("**"):  # bold in Markdown
        answer = answer.strip("*")
    text = _with_scripts(answer.translate(_CHARACTERS))
    text = _NUMBER_SET.sub(lambda m: f"\\{_SETS[m.group(1) or m.group(2)]} ", nfkc(text).translate(_CHARACTERS))
    if r"\begin" not in text:  # where two backslashes end a row
        text = _DOUBLED.sub(r"\\", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _SPACE.sub(" ", text).strip().strip("`").strip()
    text = text if text.endswith("..") else text.rstrip(".,;:").strip()  # 0.333... is not 0.333
    return _LEADING_SIGN.sub("", text.removesuffix("\\").strip())


def _with_scripts(text: str) -> str:
    """Raised and lowered digits as exponents and indices, and fractions of one sign as fractions."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda m: f"^{{{unicodedata.normalize('NFKC', m.group())}}}", text)
    text = _LOWERED.sub(lambda m: f"_{{{unicodedata.normalize('NFKC', m.group())}}}", text)
    return _VULGAR.sub(
        lambda m: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", m.group()).split("⁄")), text
    )


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
    text = unwrap(text).strip()
    if match := _CHOICES.fullmatch(text):
        letters = re.findall("[A-J]", match.group(1))
        return "".join(sorted(letters)) if len(set(letters)) == len(letters) else None
    match = _CHOICE.fullmatch(text)
    if match is None or _ANOTHER_CHOICE.search(match.group(2)):
        return None
    marked = text[match.end(1) : match.end(1) + 1] in (".", ":", ")")
    return match.group(1) if marked else None
