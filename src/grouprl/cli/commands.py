"""The commands as entry points: Ctrl-C ends them in one line wherever it meets them, in imports, too.

So does a text that is taken for a file and is longer than a file's name may be.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys

from grouprl.cli.streams import lasting_streams


def train() -> None:
    """``train.py`` and ``grouprl-train``."""
    _run("train")


def evaluate() -> None:
    """``evaluate.py`` and ``grouprl-evaluate``."""
    _run("evaluate")


def compare() -> None:
    """``compare.py`` and ``grouprl-compare``."""
    _run("compare")


def verify() -> None:
    """``verify.py`` and ``grouprl-verify``."""
    _run("verify")


def _run(name: str) -> None:
    try:
        with lasting_streams():  # of help, too, as in --help | head
            importlib.import_module(f"grouprl.cli.{name}").main()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        text = os.fsdecode(error.filename or "")
        option = next((word.partition("=")[0] for word in sys.argv[1:] if "=" in word and text[:60] in word), text[:60])
        print(f"{name}.py: {option}: no file has so long a name ({len(text)} characters).", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"{name}.py: stopped. Give the command again.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
