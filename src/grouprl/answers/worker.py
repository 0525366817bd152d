"""What runs in a worker process: compares answers, one JSON line each, until its parent is gone."""

from __future__ import annotations

import json
import os
import sys

from grouprl.answers.process import end_with_parent, limit_memory


def work() -> None:
    """Serve standard input."""
    try:
        _serve()
    except BrokenPipeError:  # who asked is gone
        os._exit(1)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    end_with_parent()
    from grouprl.answers.compare import same
    from grouprl.answers.tokens import UnreadableError

    same(r"\frac{x}{2}+\sqrt{3}", r"\frac{2 x}{4}+\sqrt{3}")  # sympy imports more when it is first used
    limit_memory(int(sys.argv[1]))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            correct, rule = same(request["prediction"], request["gold"], request["tolerance"])
            reply = {"status": "correct" if correct else "wrong", "rule": rule}
        except UnreadableError as error:
            reply = {"status": "unparsable", "rule": str(error)}
        except Exception as error:  # noqa: BLE001 - whatever a text makes sympy do, it is not this process's end
            reply = {"status": "unparsable", "rule": type(error).__name__}
        print(json.dumps(reply), file=answers, flush=True)
