"""The block itself: run as a script is, with the value of a last line that is an expression printed."""

from __future__ import annotations

import _ast
import contextlib
import os
import sys
import traceback
from typing import Any

NAME = "block.py"
AST_ALONE = 0x400  # ast.PyCF_ONLY_AST, without importing ast


def run(code: str) -> int:
    """Run code; its exit code. An error is shown as the last line of its traceback."""
    exit_code = 0
    sys.path[:] = filter(os.path.exists, sys.path)  # what the caller's interpreter names and the block is not shown
    try:
        execute(code)
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:  # noqa: BLE001 - shown to the policy
        print("".join(traceback.format_exception_only(error)).strip().splitlines()[-1])
        exit_code = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    return exit_code


def execute(code: str) -> None:
    """Run code in a module of its own; print the last expression unless it is None."""
    tree = compile(code, NAME, "exec", AST_ALONE, dont_inherit=True)
    assert isinstance(tree, _ast.Module)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(tree, NAME, "exec", dont_inherit=True), names)
    if isinstance(last, _ast.Expr):
        value = eval(compile(_ast.Expression(last.value), NAME, "eval", dont_inherit=True), names)
        if value is not None:
            print(value)
