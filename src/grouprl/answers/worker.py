"""What runs in a worker process: compares answers, one JSON line each, until its parent is gone."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from grouprl.answers.process import end_with_parent, ended_after, limit_memory, own_pipes


def work() -> None:
    """Serve standard input; the arguments are memory in MiB and seconds for an answer."""
    try:
        _serve(int(sys.argv[1]), float(sys.argv[2]))
    except BrokenPipeError:  # who asked is gone
        os._exit(1)


def _serve(memory_mb: int, timeout_s: float) -> None:
    requests, answers = own_pipes()
    end_with_parent()

    def say(reply: dict[str, Any]) -> None:
        answers.write(json.dumps(reply).encode() + b"\n")
        answers.flush()

    from grouprl.answers.compare import same

    same(r"\frac{x}{2}+\sqrt{3}", r"\frac{2 x}{4}+\sqrt{3}")  # sympy imports more when it is first used
    limit_memory(memory_mb)
    say({"ready": True})
    for line in requests:
        with ended_after(2 * timeout_s + 1):
            reply = _compared(json.loads(line))
        say(reply)


def _compared(request: dict[str, Any]) -> dict[str, Any]:
    from grouprl.answers.compare import same
    from grouprl.answers.reading.tokens import UnreadableError

    try:
        correct, rule = same(request["prediction"], request["gold"], request["tolerance"])
    except UnreadableError as error:
        return {"status": "unparsable", "rule": str(error)}
    except MemoryError:
        return {"status": "memory", "rule": "out of memory"}
    except Exception as error:  # noqa: BLE001 - whatever a text makes sympy do, it is not this process's end
        return {"status": "unparsable", "rule": type(error).__name__}
    return {"status": "correct" if correct else "wrong", "rule": rule}
