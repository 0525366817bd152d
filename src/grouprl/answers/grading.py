r"""Grading of final answers.

``grade(completion, gold)`` finds the answer in a completion and compares it with the gold answer, by the first rule
that decides: same text, letters of a choice, exact numbers, and last the structures and symbols of `compare`, in worker
processes that can be killed. No text of a model is ever evaluated: `latex` builds sympy objects token by token.
A gold that a verifier of another library decides on is left to `verifiers`, in the sandbox.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from grouprl.answers import text as texts
from grouprl.answers import verifiers
from grouprl.answers.extraction import Extraction, extract, last_box
from grouprl.answers.numerals import numeral
from grouprl.answers.pool import OF_THE_MOMENT, Pool, shared_pool
from grouprl.answers.units import split_unit, units_differ, without_letter

__all__ = ["GRADER_VERSION", "Pool", "Verdict", "compare_answers", "equal", "extract", "grade", "grade_all", "last_box"]


GRADER_VERSION = "3"
"""Changes whenever a verdict may; written beside every score."""


AnswerKind = Literal["auto", "choice"]


Status = Literal["correct", "wrong", "unparsable", "timeout"]


_LONGEST = 100_000


@dataclass(frozen=True)
class Verdict:
    """The outcome of grading."""

    correct: bool
    status: Status
    """``unparsable``: there is no answer, or it is outside of the grammar; ``timeout``: the comparison was killed.

    A timeout says nothing of the answer: the next grading may find another verdict, and none is remembered.
    """
    answer: str | None
    """The answer as found, None where there is none."""
    rule: str
    """What decided: text, choice, number, symbolic, list, tuple, ..., or why nothing could."""


def grade(
    prediction: str,
    gold: str,
    kind: AnswerKind = "auto",
    extraction: Extraction | Literal["none"] = "boxed",
    *,
    tolerance: float = 0.0,
    pool: Pool | None = None,
    cached: bool = True,
) -> Verdict:
    """Grade a completion.

    Args:
        prediction: The completion, or with ``extraction="none"`` the answer itself.
        gold: The gold answer, with or without dollar signs.
        kind: ``choice``: letters alone count; ``auto``: what the gold answer looks like.
        extraction: Where the answer is read: the last ``\\boxed{}`` (the only one for rewards), ``lenient`` (for
            evaluation), see `grouprl.answers.extraction.extract`.
        tolerance: Relative difference that numbers may have.
        pool: Worker processes; by default those this process shares.
        cached: Remember verdicts by (answer, gold).

    Returns:
        The verdict. A reward takes ``timeout`` for a completion that could not be scored, not for a wrong one.
    """
    answer = prediction if extraction == "none" else extract(prediction, extraction)
    if answer is None or not answer.strip():
        return Verdict(False, "unparsable", answer, "no answer")
    status, rule = compare_answers(answer, gold, kind, tolerance=tolerance, pool=pool, cached=cached)
    return Verdict(status == "correct", status, answer, rule)


def grade_all(
    predictions: Sequence[str],
    golds: Sequence[str],
    kind: AnswerKind = "auto",
    extraction: Extraction | Literal["none"] = "boxed",
    *,
    tolerance: float = 0.0,
    pool: Pool | None = None,
) -> list[Verdict]:
    """Grade completions, each by its gold answer, with all worker processes at once.

    Args:
        predictions: The completions.
        golds: The gold answer of each.
        kind: As for `grade`, and so are the others.
        extraction: Where the answers are read.
        tolerance: Relative difference that numbers may have.
        pool: Worker processes.

    Returns:
        The verdicts in the order of the completions.
    """

    def graded(pair: tuple[str, str]) -> Verdict:
        return grade(*pair, kind, extraction, tolerance=tolerance, pool=pool)

    pairs = list(zip(predictions, golds, strict=True))
    different = list(dict.fromkeys(pairs))
    verdicts = _verified([pair for pair in different if verifiers.is_verified(pair[1])], extraction)
    compared = [pair for pair in different if pair not in verdicts]
    with ThreadPoolExecutor((pool or shared_pool()).workers) as threads:
        verdicts.update(zip(compared, threads.map(graded, compared), strict=True))
    return [verdicts[pair] for pair in pairs]


def _verified(
    pairs: Sequence[tuple[str, str]], extraction: Extraction | Literal["none"]
) -> dict[tuple[str, str], Verdict]:
    """The verdicts of verifiers, which are asked for all answers at once."""
    answers = [text if extraction == "none" else extract(text, extraction) for text, _ in pairs]
    asked = [(answer, gold) for answer, (_, gold) in zip(answers, pairs, strict=True) if answer and answer.strip()]
    said = dict(zip(asked, verifiers.verdicts(asked), strict=True))
    found = dict[tuple[str, str], Verdict]()
    for pair, answer in zip(pairs, answers, strict=True):
        status: Status
        status, rule = said.get((answer or "", pair[1]), ("unparsable", "no answer"))
        found[pair] = Verdict(status == "correct", status, answer, rule)
    return found


def compare_answers(
    answer: str,
    gold: str,
    kind: AnswerKind = "auto",
    *,
    tolerance: float = 0.0,
    pool: Pool | None = None,
    cached: bool = True,
) -> tuple[Status, str]:
    """Whether an answer is the gold answer, and the rule that decided."""
    if verifiers.is_verified(gold):
        return verifiers.verdicts([(answer, gold)])[0]
    if pool is not None or not cached or len(answer) > texts.MAX_ANSWER:  # a cache of long texts would fill the memory
        return _compare(answer, gold, kind, tolerance, pool or shared_pool())
    try:
        return _compare_cached(answer, gold, kind, tolerance)
    except _OfTheMomentError as error:
        status, rule = error.args[0]
        return status, rule


def equal(prediction: str, gold: str) -> bool:
    """Whether two answers are the same."""
    return compare_answers(prediction, gold)[0] == "correct"


@functools.lru_cache(maxsize=2**16)
def _compare_cached(answer: str, gold: str, kind: AnswerKind, tolerance: float) -> tuple[Status, str]:
    verdict = _compare(answer, gold, kind, tolerance, shared_pool())
    if verdict[0] == "timeout":
        raise _OfTheMomentError(verdict)  # which is not remembered
    return verdict


class _OfTheMomentError(Exception):
    """A verdict that may be another one the next time."""


def _compare(answer: str, gold: str, kind: AnswerKind, tolerance: float, pool: Pool) -> tuple[Status, str]:
    if answer.strip() == gold.strip():
        return ("correct", "text") if answer.strip() else ("unparsable", "no answer")
    if len(answer) > texts.MAX_ANSWER or len(gold) > texts.MAX_ANSWER:
        return "wrong" if len(answer) <= _LONGEST else "unparsable", "too long"
    answer, gold = texts.tidy(answer), texts.tidy(gold)
    if not answer or not gold:
        return "unparsable", "no answer"
    if texts.key_of(answer) == texts.key_of(gold):
        return "correct", "text"
    wanted = texts.as_choice(gold)
    if kind == "choice" or (wanted and wanted != "I"):
        chosen = texts.as_choice(answer)
        if chosen is not None or kind == "choice":
            return _verdict(chosen is not None and chosen == wanted), "choice"
    decided = _by_number(answer, gold, tolerance)
    if decided is not None:
        return _verdict(decided), "number"
    reply = pool.ask({"prediction": answer, "gold": gold, "tolerance": tolerance})
    return "timeout" if reply["status"] in OF_THE_MOMENT else reply["status"], reply["rule"]


def _by_number(answer: str, gold: str, tolerance: float) -> bool | None:
    """The verdict where both are plain numbers; a percent is its number or a hundredth of it."""
    (answer, unit), (gold, wanted_unit) = split_unit(answer), split_unit(gold)
    if texts.as_number(texts.key_of(gold)) is not None:
        answer = without_letter(answer)
    found, wanted = (_plain_number(side) for side in (answer, gold))
    if found is None or wanted is None:
        return None
    if units_differ(unit, wanted_unit):
        return False
    percents = answer.endswith("%"), gold.endswith("%")
    # 25% is 25, and 0.25; but 0.5% is not a half.
    scales = (1,) if percents[0] == percents[1] else (1, 100) if percents[1] or abs(wanted) >= 1 else (100,)
    for scale in scales:
        a, b = (found / scale, wanted) if percents[0] else (found, wanted / scale)
        if abs(a - b) <= tolerance * max(abs(a), abs(b)):
            return True
    return False


def _plain_number(text: str) -> Fraction | None:
    key = texts.key_of(texts.without_thousands(text)).removesuffix("%")
    value = texts.as_number(key)
    return numeral(texts.unwrap(text)) if value is None and not any(map(str.isdigit, key)) else value


def _verdict(correct: bool) -> Status:
    return "correct" if correct else "wrong"
