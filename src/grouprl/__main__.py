"""``python -m grouprl COMMAND ...``: the commands by their names."""

from __future__ import annotations

import sys

from grouprl.cli import commands

COMMANDS = ("train", "evaluate", "compare", "verify")


def main() -> None:
    """Do the command that the first argument names, with the others."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        told = f"{name}: there is no such command. " if name and name not in ("-h", "--help") else ""
        print(f"{told}python -m grouprl {'|'.join(COMMANDS)} [key=value ...]; each has --help.", file=sys.stderr)
        raise SystemExit(2 if told or not name else 0)
    sys.argv = [f"{name}.py", *sys.argv[2:]]
    getattr(commands, name)()


if __name__ == "__main__":
    main()
