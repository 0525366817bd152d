"""Checks of a command line before anything heavy is imported: each failure is one message that says what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grouprl.cli.config import GROUPS, compose_job, without_hydra
from grouprl.cli.values import UsageError, check_values

_KIND_OF_DICT = "Entries of a mapping are written one by one, as in data.levels.3=0.5."
_THROUGH_COMPONENTS = ("eps_low", "eps_high", "beta", "lr", "group_size", "temperature")


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """The overrides among command-line arguments, told from Hydra's own flags and their values."""
    parser = get_args_parser()
    parser.allow_abbrev = False
    known, others = parser.parse_known_args(list(arguments))
    unknown_flags = [argument for argument in others if argument.startswith("-")]
    if unknown_flags:
        raise UsageError(f"{unknown_flags[0]}: there is no such flag. Options are written key=value; see --help.")
    return [*known.overrides, *others]


def check_command(config_name: str, overrides: Sequence[str], *, multirun: bool) -> list[DictConfig]:
    """Compose and check every job of a command line; the composed jobs, or a `UsageError`."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UsageError(
            f"cannot read the command line: {_first_line(error)}\n"
            "Write options as key=value, and quote what holds spaces."
        ) from error
    for override in parsed:
        if "${oc.env" in (override.input_line or ""):
            raise UsageError(
                f"{override.key_or_group}: values of the environment are not taken, as they would be written down "
                "beside the run. Write the value itself, or keep secrets to the libraries that read them (HF_TOKEN)."
            )
        if override.is_sweep_override() and not multirun:
            value = (override.input_line or "").partition("=")[2]
            a_list = f", or write {override.key_or_group}=[{value}] for a list"
            raise UsageError(
                f"{override.key_or_group}={value}: several values need a sweep. Add -m to run one job each"
                f"{'' if override.key_or_group in GROUPS else a_list}."
            )
    jobs = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0] if multirun else [list(overrides)]
    return [check_job(config_name, job) for job in jobs]


def check_job(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose and check one job."""
    try:
        config = compose_job(config_name, overrides)
        _refuse_added_options(config_name, config, overrides)
        _refuse_missing(config)
        OmegaConf.resolve(without_hydra(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(config_name, error, overrides)) from error
    if config_name == "train":
        check_values(config)
        _refuse_unread(config, overrides)
    return config


def _refuse_added_options(config_name: str, config: DictConfig, overrides: Sequence[str]) -> None:
    """``+key=value`` makes Hydra accept any key; at the top level nothing would read it."""
    known = set(compose_job(config_name, []).keys())
    for override in overrides:
        key = override.partition("=")[0]
        if key.startswith("+") and "." not in key and "/" not in key and key.lstrip("+") not in {*known, *GROUPS}:
            raise UsageError(_unknown(config_name, key.lstrip("+"), key, list(map(str, known))))


def _refuse_unread(config: DictConfig, overrides: Sequence[str]) -> None:
    """A dial that is set in vain: no chosen component refers to it, or another value undoes it."""
    written = str(OmegaConf.to_container(without_hydra(config), resolve=False))
    for override in overrides:
        key = override.partition("=")[0].lstrip("+")
        if key in _THROUGH_COMPONENTS and f"${{{key}}}" not in written:
            raise UsageError(f"{override}: no component of this run reads {key}. Leave it out, or refer to ${{{key}}}.")
        group, _, rest = key.partition(".")
        if (
            rest == "_target_"
            and options_of(group)
            and f"{group}=custom" not in overrides
            and "custom" in options_of(group)
        ):
            raise UsageError(f"{override}: its options would still be those of the default. Add {group}=custom.")
        if key == "advantage.seed" and config.advantage.get("ties") not in (None, "random"):
            raise UsageError(f"{override}: read by advantage.ties=random alone. Leave it out.")
        if key == "warmup_steps" and config.warmup_steps >= config.steps:
            raise UsageError(f"{override}: with steps={config.steps} the learning rate never reaches lr. Use fewer.")


def _refuse_missing(config: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(without_hydra(config)))
    if missing:
        examples = {"policy.path": "FOLDER_OR_HUB_ID", "data.path": "FILE.jsonl", "data.name": "DATASET_OR_FOLDER"}
        examples |= {"reward._target_": "my_file.my_reward", "advantage._target_": "my_file.MyAdvantage"}
        hints = " ".join(f"{key}={examples.get(key, 'VALUE')}" for key in missing)
        raise UsageError(f"{', '.join(missing)} has no value. Add: {hints}")


def explain(config_name: str, error: Exception, overrides: Sequence[str]) -> str:
    """A one-screen message for an error of Hydra or OmegaConf."""
    text = "\n".join(_chain(error))
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match.group(1)
        written = next((o for o in overrides if o.lstrip("+~").startswith(key + "=")), key)
        converted = re.search(r"Value '(.*?)' .*could not be converted to (\w+)", text)
        if converted:
            return f"{written}: expected {_article(converted.group(2))}, got {converted.group(1)!r}."
        known = _keys_beside(config_name, key, overrides)
        if key.rpartition(".")[2] in known:
            return f"{written}: this value cannot be used for {key}. {_KIND_OF_DICT}"
        return _unknown(config_name, key, written, known)
    if match := re.search(r"Could not find '([^']+?)/([^'/]+)'", text):
        group, option = match.groups()
        return unknown_component(group, option)
    if match := re.search(r"Value '(.*?)' [^\n]*?(\w+)(?: \(type \w+\))?\s+full_key: (\S+)", text):
        return f"{match.group(3)}={match.group(1)}: expected {_article(match.group(2))}."
    return f"the configuration cannot be composed: {_first_line(error)}"


def _unknown(config_name: str, key: str, written: str, known: Iterable[str]) -> str:
    parent, _, name = key.rpartition(".")
    known = sorted({str(k) for k in known if not str(k).startswith("_") and k != "hydra"})
    close = difflib.get_close_matches(name, known, n=1)
    full = [f"{parent}.{k}" if parent else k for k in known]
    if parent in ("reward", "advantage") and not known:
        return f"{written}: not in the configuration. Write +{written} to give it to your own class or function."
    hint = f" Did you mean '{f'{parent}.' if parent else ''}{close[0]}'?" if close else ""
    script = f"python {config_name}.py --help"
    return f"{written}: unknown option '{key}'.{hint}\nOptions here: {', '.join(full)}.\nSee {script}."


def unknown_component(group: str, option: str) -> str:
    """What to say of an option that a group does not have."""
    choices = options_of(group)
    close = difflib.get_close_matches(option, choices, n=1)
    hint = f" Did you mean {group}={close[0]}?" if close else ""
    return f"{group}={option}: there is no such {group}.{hint}\nChoices: {', '.join(choices)}."


def options_of(group: str) -> list[str]:
    """Names of the options of a component group."""
    package = "grouprl.experiments" if group == "experiment" else "grouprl.conf"
    folder = files(package).joinpath(group)
    if not folder.is_dir():
        return []
    return sorted(Path(str(file)).stem for file in folder.iterdir() if str(file).endswith(".yaml"))


def _keys_beside(config_name: str, key: str, overrides: Sequence[str]) -> list[str]:
    groups = [o for o in overrides if o.partition("=")[0] in GROUPS]
    try:
        node: Any = compose_job(config_name, groups)
        for part in key.split(".")[:-1]:
            node = node[part]
        return list(node)
    except Exception as error:  # noqa: BLE001 - only a hint is lost, and the message says which key is wrong
        return [f"(not listed: {type(error).__name__})"]


def _chain(error: BaseException | None) -> list[str]:
    texts: list[str] = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return texts


def _first_line(error: BaseException) -> str:
    return next((line for text in _chain(error) for line in text.splitlines() if line.strip()), type(error).__name__)


def _article(kind: str) -> str:
    kinds = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
    return kinds.get(kind, f"a {kind}")


def guarded(check: Callable[[], Any], program: str) -> Any:
    """Run a check; a `UsageError` ends the program with its text and exit code 2."""
    import sys

    try:
        return check()
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
