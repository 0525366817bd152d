"""What several packages check, as plain functions without torch, and notices that are given once.

Each package of components has a ``checks.py`` of its own beside this one: a function for each component that refuses
some arguments, under the component's name in snake case (``ClipGate``: ``clip_gate``). The component calls it when it
is made, and a command line is checked with it before anything heavy is imported. Each raises a `ValueError` that names
key, value and remedy.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

_log = logging.getLogger(__name__)
_NOT_TEXTS = ("null", "true", "false", "on", "off", "yes", "no", "nan", "inf")


class CommandParser(argparse.ArgumentParser):
    """Of a command whose mistakes are answered in one line."""

    def error(self, message: str) -> NoReturn:
        """Say it, and end with status 2."""
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def choice(key: str, value: Any, choices: Sequence[str]) -> None:
    """One of a few words."""
    if value not in choices:
        raise ValueError(f"{key}={value}: choose one of {', '.join(choices)}.")


def above(key: str, value: float, least: float = 0.0) -> None:
    """A finite number above a bound."""
    if not least < value < float("inf"):
        raise ValueError(f"{key}={value}: give a finite number above {least:g}.")


def on_one_device(devices: Any) -> bool:
    """Whether Lightning's ``devices`` (a number, a list of numbers, either as a text, or ``auto``) is one device."""
    if isinstance(devices, str) and not {"[", ","} & set(devices):
        return devices.strip() == "1"
    if isinstance(devices, int):
        return devices == 1
    return len([number for number in str(devices).strip("[] ").split(",") if number.strip()]) == 1


def no_such_option(group: str, option: str, choices: Sequence[str]) -> str:
    """What to say of an option that a group does not have."""
    close = difflib.get_close_matches(option, choices, n=1)
    hint = f" Did you mean {group}={close[0]}?" if close else ""
    return f"{group}={option}: there is no such {group}.{hint} Choices: {', '.join(choices)}."


@lru_cache(maxsize=256)
def say_once(text: str) -> None:
    """Log a warning, the first time it is asked for in this process."""
    _log.warning(text)


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the entries in which two sets of digests or settings differ."""
    return [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]


def refusal(what: str, changed: Collection[str], accepted: Collection[str], remedy: str) -> str | None:
    """One line about inputs that changed, with the option that accepts them; None where all are accepted.

    Args:
        what: Where they were other inputs, for the beginning of the line.
        changed: Names of the inputs that changed.
        accepted: Names that the user accepted.
        remedy: What else can be done.
    """
    refused = [name for name in changed if name not in accepted]
    if not refused:
        return None
    option = f"accept_changed=[{','.join(map(_in_a_list, dict.fromkeys((*accepted, *changed))))}]"
    quoted = option if re.fullmatch(r"[\w.,=\-/\[\]]+", option, re.ASCII) else shlex.quote(option)
    return f"{what}: {', '.join(refused)} changed since. {remedy}, or accept that: {quoted}"


def _in_a_list(name: str) -> str:
    """A text as an item of a list in Hydra's grammar."""
    plain = re.fullmatch(r"[A-Za-z_][\w.\-/]*", name, re.ASCII) and name.lower() not in _NOT_TEXTS
    return name if plain else quoted(name)


def quoted(text: str) -> str:
    """A text in Hydra's grammar, which reads a backslash as itself but before a quotation mark, where it is doubled."""
    escaped = '\\"'.join(part + part[len(part.rstrip("\\")) :] for part in text.split('"'))
    return f'"{escaped}"'
