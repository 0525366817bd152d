"""The commands as entry points: Ctrl-C ends them in one line wherever it meets them, in imports, too."""

from __future__ import annotations

import importlib
import signal
import sys


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
        importlib.import_module(f"grouprl.cli.{name}").main()
    except KeyboardInterrupt:
        print(f"{name}.py: stopped. Give the command again.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
