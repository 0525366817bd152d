"""A second, independent reading of an evaluation's answers, so that a fault of the grader shows.

Two readings, where each is at hand: the other extraction (``boxed`` beside ``lenient``), and math-verify (Hugging Face;
``pip install "math-verify[antlr4_9_3]"`` fits beside Hydra). Neither changes a score: the report says how many verdicts
they would give otherwise, with examples.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from grouprl.evaluation.rows import NOT_GRADED, Grading, grade_rows
from grouprl.files import Row

_EXAMPLES = 5
_SECONDS = 3
_LONGEST = 300
"""Characters of an example's texts."""


def audit(rows: Sequence[Row], grading: Grading) -> list[dict[str, Any]]:
    """How other readings judge the samples of a benchmark.

    Args:
        rows: Its graded samples.
        grading: How they were graded.

    Returns:
        Of each reading its ``name``, the samples it ``read``, how many of them ``differ`` from the verdict, and
        ``examples``.
    """
    asked = [row for row in rows if row["status"] != NOT_GRADED]
    other = replace(grading, extraction="boxed" if grading.extraction == "lenient" else "lenient")
    readings = [(f"{other.extraction} extraction", [row["correct"] for row in grade_rows(asked, other)])]
    judge = _math_verify()
    if judge is not None:
        readings.append((judge[0], [judge[1](row["answer"], row["gold"]) for row in asked]))
    return [_compared(name, asked, verdicts) for name, verdicts in readings]


def _compared(name: str, rows: Sequence[Row], verdicts: Sequence[bool | None]) -> dict[str, Any]:
    differing = [
        (row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict not in (None, row["correct"])
    ]
    examples = [
        {
            **{key: row[key] for key in ("index", "sample", "rule")},
            **{key: str(row[key])[:_LONGEST] for key in ("answer", "gold")},
            "verdict": bool(row["correct"]),
            "reading": verdict,
        }
        for row, verdict in differing[:_EXAMPLES]
    ]
    read = sum(verdict is not None for verdict in verdicts)
    return {"name": name, "read": read, "differ": len(differing), "examples": examples}


def _math_verify() -> tuple[str, Callable[[str, str], bool | None]] | None:
    """math-verify's name with its version, and its verdict on an answer; None where it cannot be used."""
    if importlib.util.find_spec("math_verify") is None:
        return None
    from importlib.metadata import version

    try:
        from math_verify import parse, verify

        if not verify(parse("$1$"), parse("$1$")):
            return None
    except Exception:  # noqa: BLE001 - it needs an antlr of its own, and says so in many ways
        return None

    def judged(answer: str, gold: str) -> bool | None:
        if not answer.strip():
            return False
        try:
            sides = [parse(f"\\boxed{{{text}}}", parsing_timeout=_SECONDS) for text in (gold, answer)]
            return bool(verify(*sides, timeout_seconds=_SECONDS)) if all(sides) else None
        except Exception:  # noqa: BLE001 - an opinion that is not had is none
            return None

    return f"math-verify {version('math-verify')}", judged


def lines_of(audits: Sequence[dict[str, Any]]) -> list[str]:
    """An audit in Markdown."""
    lines = []
    for found in audits:
        share = 100 * found["differ"] / max(1, found["read"])
        lines.append(
            f"- {found['name']}: {found['differ']} of {found['read']} verdicts would be others ({share:.1f}%)."
        )
        for example in found["examples"]:
            lines.append(
                f"  - problem {example['index']}: answer `{example['answer']}`, gold `{example['gold']}`: "
                f"{_word(example['verdict'])} ({example['rule']}), there {_word(example['reading'])}"
            )
    return lines


def _word(correct: bool) -> str:
    return "right" if correct else "wrong"
