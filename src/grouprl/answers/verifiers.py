r"""Golds that another library's verifier decides on: a puzzle has many right answers, and no text is the gold one.

Such a gold is text as well, so that it goes wherever a gold goes: ``reasoning_gym:`` and a JSON object with the
generator's name and settings and the problem's own data. Verifiers evaluate what they are given (`eval`, `parse_expr`):
they are run in the sandbox, each answer in a process of its own.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from grouprl.sandbox.sandbox import Sandbox

SCHEME = "reasoning_gym:"
"""A gold that begins with it is such an object."""
ANSWER_S = 2.0
"""Seconds that a verifier has for an answer."""
LIBRARY = """
from reasoning_gym.factory import DATASETS

def verifier(gold):
    kind, settings = DATASETS[gold["task"]]
    return kind(config=settings(**gold["settings"])).score_answer
"""
"""Finds a gold's verifier, in the sandbox."""
_START_S = 60.0
"""Seconds for the library to be there."""
_MEMORY_MB = 2048
_LONGEST = 20_000
"""Characters of an answer; what is longer is wrong."""
_AT_ONCE = 128
"""Answers of one sandboxed interpreter."""
_KEPT = 2**16

Verified = tuple[Literal["correct", "wrong", "timeout"], str]
"""A status, and what decided."""
Pair = tuple[str, str]
"""An answer and its gold."""


def verified_gold(task: str, settings: Mapping[str, Any], answer: str | None, metadata: Mapping[str, Any]) -> str:
    """The gold of a problem that a verifier of reasoning_gym decides on.

    Args:
        task: The generator's name.
        settings: Its settings.
        answer: An answer that it knows, None where it knows none.
        metadata: The problem's own data.

    Raises:
        TypeError: JSON cannot hold the data.
    """
    gold = {"task": task, "settings": dict(settings), "answer": answer, "metadata": dict(metadata)}
    return SCHEME + json.dumps(gold, ensure_ascii=False)


def is_verified(gold: str) -> bool:
    """Whether a gold is decided on by a verifier: one that `verified_gold` has written."""
    return gold.startswith(f'{SCHEME}{{"task": ')


def readable(gold: str) -> str:
    """A gold as it is shown: of one that is verified, an answer that is right."""
    if not is_verified(gold):
        return gold
    told = json.loads(gold.removeprefix(SCHEME))
    return f"such as {told['answer']}" if told["answer"] is not None else f"any that {told['task']} accepts"


def verdicts(pairs: Sequence[Pair]) -> list[Verified]:
    """The verdict on each answer by its gold; those that a verifier has scored are remembered.

    Raises:
        grouprl.sandbox.sandbox.SandboxError: The sandbox cannot be enforced here.
    """
    with _lock:
        unknown = [pair for pair in dict.fromkeys(pairs) if pair not in _known]
    found = dict(zip(unknown, _asked(unknown), strict=True))
    with _lock:
        told = {**found, **{pair: _known[pair] for pair in pairs if pair in _known}}
        if len(_known) > _KEPT:
            _known.clear()
        _known.update({pair: verdict for pair, verdict in found.items() if verdict[0] != "timeout"})
    return [told[pair] for pair in pairs]


_known: dict[Pair, Verified] = {}
_lock = threading.Lock()


def _asked(pairs: Sequence[Pair]) -> list[Verified]:
    short = [pair for pair in pairs if len(pair[0]) <= _LONGEST]
    scores = dict(zip(short, _scored([short[i : i + _AT_ONCE] for i in range(0, len(short), _AT_ONCE)]), strict=True))
    return [_verdict(scores[pair], pair[1]) if pair in scores else ("wrong", "too long") for pair in pairs]


def _scored(parts: Sequence[Sequence[Pair]]) -> list[float | str]:
    """The scores of all pairs, part by part; where an answer has ended a part, each is asked for by itself."""
    sandbox = Sandbox(timeout_s=_START_S + ANSWER_S * _AT_ONCE, memory_mb=_MEMORY_MB)
    outputs, scores = sandbox.map([_program(part) for part in parts]), list[float | str]()
    for part, output in zip(parts, outputs, strict=True):
        found = _list_in(output.text)
        if len(found) == len(part):
            scores += found
        else:
            scores += ["no score"] if len(part) == 1 else _scored([[pair] for pair in part])
    return scores


def _program(part: Sequence[Pair]) -> str:
    requests = json.dumps([(gold.removeprefix(SCHEME), readings(answer)) for answer, gold in part])
    judge = Path(__file__).with_name("judge.py").read_text(encoding="utf-8")
    return f"{judge}\n{LIBRARY}\njudge({requests!r}, {ANSWER_S}, verifier)"


def _list_in(output: str) -> list[Any]:
    """The JSON list on the last line, [] where there is none."""
    try:
        found = json.loads(output.strip().rpartition("\n")[2])
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _verdict(score: float | str, gold: str) -> Verified:
    name = f"reasoning_gym {json.loads(gold.removeprefix(SCHEME))['task']}"
    if isinstance(score, str):
        return "timeout", f"{name}: {score}"
    return ("correct" if score >= 1.0 else "wrong"), f"{name}: {score:g}"


def readings(answer: str) -> list[str]:
    r"""An answer as it stands, and as plain text where it is written in LaTeX (``3 \times 4`` is ``3 * 4``)."""
    plain = answer.strip().strip("$")
    for pattern, replacement in _PLAIN:
        plain = pattern.sub(replacement, plain)
    return list(dict.fromkeys([answer.strip(), plain.strip()]))


_PLAIN = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|displaystyle|big|Big)(?![A-Za-z])", ""),
        (r"\\(?:times|cdot|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"(\1)/(\2)"),
        (r"\\(?:text|mathrm|mathbf|texttt)\s*\{([^{}]*)\}", r"\1"),
        (r"\\\\|\\newline(?![A-Za-z])", "\n"),
        (r"\\[,;:! ]|~", " "),
        (r"\\([{}%_#$&])", r"\1"),
    )
]
