"""What is said of a command line that cannot be used: one screen that names key, value and way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig

from grouprl.checks import no_such_option
from grouprl.cli.config.compose import compose_job, options_of
from grouprl.cli.config.schema import FOLDERS, FROM_TRL, GROUPS, RENAMED, StudyConfig

ONE_BY_ONE = "Entries of a mapping are written one by one, as in data.levels.3=0.5."
_ADDED = {
    "data.options": "data.options.min_numbers=3",
    "policy.chat_template_kwargs": "policy.chat_template_kwargs.enable_thinking=false",
    "chat_template_kwargs": "chat_template_kwargs.enable_thinking=false",
}
"""Mappings with names of their own, whose entries are added; an example of one."""


class UsageError(Exception):
    """A command line that cannot be run. Its text is shown alone, without a traceback."""


def explain(config_name: str, error: Exception, overrides: Sequence[str]) -> str:
    """A message for an error of Hydra or OmegaConf."""
    text = "\n".join(_chain(error))
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match.group(1)
        written = next((o for o in overrides if o.lstrip("+~").startswith(key + "=")), key)
        converted = re.search(r"Value '(.*?)' .*could not be converted to (\w+)", text)
        if converted:
            return f"{written}: expected {_article(converted.group(2))}, got {converted.group(1)!r}."
        if "/" in key:
            return _no_such_axis(key, written)
        parent, known = _keys_beside(config_name, key, overrides)
        if parent != key.rpartition(".")[0]:  # there is none of that name
            return unknown_key(config_name, key[len(parent) :].lstrip("."), written, known, parent)
        if key.rpartition(".")[2] in known:
            return _no_mapping(written, key)
        if parent in _ADDED and not written.startswith("+"):
            return f"{written}: entries of {parent} are added. Write +{written}."
        group = key.rpartition(".")[0].replace(".", "/")
        if not known and "none" in (options := options_of(group)):
            choices = ", ".join(option for option in options if option != "none")
            return f"{written}: {group}=none has no options. Choose one that has: {group}={choices}."
        if f"{group}=custom" in overrides and not written.startswith("+"):
            return f"{written}: not in the configuration. Write +{written} to give it to your own class or function."
        return unknown_key(config_name, key, written, known)
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, option = match.groups()
        while group not in GROUPS and "/" in group:  # the option was written with a slash
            group, _, rest = group.rpartition("/")
            option = f"{rest}/{option}"
        return no_such_option(group, option, options_of(group))
    return _of_a_value(text, overrides) or f"the configuration cannot be composed: {first_line(error)}"


def _of_a_value(text: str, overrides: Sequence[str]) -> str | None:
    """A message for an option whose value is of another kind; None: the error is of something else."""
    if match := re.search(r"Value '(.*?)' [^\n]*?(\w+)(?: \(type \w+\))?\s+full_key: (\S+)", text):
        return f"{match.group(3)}={match.group(1)}: expected {_article(match.group(2))}."
    if match := re.search(r"Incompatible value 'None' for field of type '(\w+)'\s+full_key: (\S+)", text):
        return f"{match.group(2)}=null: expected {_article(match.group(1))}."
    if match := re.search(r"field '\w+' is not Optional\s+full_key: (\S+)", text):
        return f"{match.group(1)}=null: it needs a value."
    if match := re.search(r"Error merging override ([^\n=]+)=", text):
        written = next((o for o in overrides if o.startswith(f"{match.group(1)}=")), match.group(1))
        return _no_mapping(written, match.group(1))
    return None


def _no_mapping(written: str, key: str) -> str:
    if written.startswith("+") and "." in key:
        parent = key.lstrip("+").rpartition(".")[0]
        return f"{written}: {parent} is one value here, and has no options below it."
    example = f"Its entries are added one by one, as in +{_ADDED[key]}." if key in _ADDED else ONE_BY_ONE
    return f"{written}: this value cannot be used for {key}. {example}"


def unknown_key(config_name: str, key: str, written: str, known: Iterable[str], above: str | None = None) -> str:
    """What to say of an option that is not there, among those that are: its new name, where it was renamed.

    Args:
        config_name: ``train`` or ``evaluate``.
        key: The option.
        written: What was written.
        known: Names of the options beside it.
        above: What these are options of; None: the same as the option.
    """
    parent, _, name = key.rpartition(".") if above is None else (above, "", key.replace(".", "_"))
    known = sorted({str(k) for k in known if not str(k).startswith("_") and k != "hydra"})
    new = RENAMED.get(key, "")
    if new and (new.rpartition(".")[0] != parent or new.rpartition(".")[2] in known):
        axis = new.rpartition(".")[0].replace(".", "/")
        others = f", or choose another {axis} first" if axis in GROUPS and "/" in axis else ""
        return f"{written}: {key} is called {new} now{others}."
    if key in FROM_TRL:
        return f"{written}: TRL's {key} is {FROM_TRL[key]} here. See python {config_name}.py --help."
    if key in FOLDERS and config_name == "train":
        return f"{written}: unknown option '{key}'. A run's folder is hydra.run.dir=DIR, a sweep's study=NAME."
    axes = {group.rpartition("/")[2]: group for group in GROUPS if "/" in group and group.startswith(parent)}
    if name not in known and (near := difflib.get_close_matches(name, axes, n=1)):
        return f"{written}: unknown option '{key}'. Did you mean {axes[near[0]]}=OPTION?"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{f'{parent}.' if parent else ''}{close[0]}'?" if close else ""
    there = f" Options here: {', '.join(f'{parent}.{k}' for k in known) or 'none'}." if parent and not close else ""
    unknown = key if above is None else f"{above}.{key}".lstrip(".")
    return f"{written}: unknown option '{unknown}'.{hint}{there} See python {config_name}.py --help."


def _no_such_axis(key: str, written: str) -> str:
    if key in GROUPS:
        parent, _, axis = key.rpartition("/")
        return (
            f"{written}: the chosen {parent} has no {axis}. Choose another {parent} ({', '.join(options_of(parent))})."
        )
    close = difflib.get_close_matches(key, GROUPS, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{written}: there is no group '{key}'.{hint} Groups: {', '.join(GROUPS)}."


def _keys_beside(config_name: str, key: str, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """The option that the key's parts are of, as far as there is one, and the names of its options."""
    groups = [o for o in overrides if o.partition("=")[0] in GROUPS]
    parts = key.split(".")[:-1]
    try:
        node: Any = compose_job(config_name, groups)
    except Exception as error:  # noqa: BLE001 - only a hint is lost, and the message says which key is wrong
        return ".".join(parts), [f"(not listed: {type(error).__name__})"]
    for place, part in enumerate(parts):
        if part not in node or not isinstance(node[part], DictConfig):
            parts = parts[:place]
            break
        node = node[part]
    of_a_study = StudyConfig.__dataclass_fields__ if config_name == "train" and not parts else ()
    return ".".join(parts), [*map(str, node), *of_a_study]


def _chain(error: BaseException | None) -> list[str]:
    texts: list[str] = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return texts


def first_line(error: BaseException) -> str:
    """The first line of what an error, or one behind it, says."""
    return next((line for text in _chain(error) for line in text.splitlines() if line.strip()), type(error).__name__)


def _article(kind: str) -> str:
    kinds = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
    return kinds.get(kind, f"a {kind}")
