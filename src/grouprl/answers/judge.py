"""What is run in the sandbox to have verifiers score answers: this file's text, with the standard library alone.

Each answer has a process of its own, which is killed after its time: a verifier may evaluate what it is given.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from typing import Any

Verifier = Callable[[str, dict[str, Any]], float]


def judge(requests: str, seconds: float, verifier: Callable[[dict[str, Any]], Verifier]) -> None:
    """Print the scores as a JSON list, a number each, or a text that says why there is none.

    Args:
        requests: A JSON list of pairs: a gold without its scheme, and the readings of an answer.
        seconds: For an answer.
        verifier: The verifier of a gold.
    """
    print()
    print(json.dumps([apart(verifier, json.loads(gold), readings, seconds) for gold, readings in json.loads(requests)]))


def apart(
    verifier: Callable[[dict[str, Any]], Verifier], gold: dict[str, Any], readings: Sequence[str], seconds: float
) -> float | str:
    """The score of the best reading, found in a child process."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2, here):
                os.dup2(nothing, descriptor)
            entry = {"answer": gold["answer"], "metadata": gold["metadata"]}
            best = max(float(verifier(gold)(reading, entry)) for reading in readings)
            os.write(there, repr(best).encode())
        finally:
            os._exit(0)
    os.close(there)
    in_time = bool(select.select([here], [], [], seconds)[0])
    text = os.read(here, 64) if in_time else b""
    os.close(here)
    for end in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        return float(text)
    except ValueError:
        return "no score" if in_time else f"no score within {seconds:g} s"
