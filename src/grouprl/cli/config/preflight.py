"""Checks of a command line before anything heavy is imported: each failure is one message that says what to do."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import grouprl
from grouprl.checks import quoted
from grouprl.cli.config.compose import compose_job, options_of, without_hydra
from grouprl.cli.config.messages import ONE_BY_ONE, UsageError, explain, first_line, unknown_key
from grouprl.cli.config.schema import GROUPS, READ_BY_COMPONENTS
from grouprl.cli.config.sizes import notes_on_size
from grouprl.cli.config.values import check_components, check_values, takes
from grouprl.files import FileError
from grouprl.training import signals

_FLAGS = ("-h --help", "-m --multirun", "-r --run", "--hydra-help", "--version", "--resolve")
_FLAGS_WITH_VALUES = (
    *("-c --cfg", "-p --package", "-i --info", "-sc --shell-completion"),
    *("-cp --config-path", "-cn --config-name", "-cd --config-dir", "--experimental-rerun"),
)
_PLACES = ("hydra.run.dir", "hydra.sweep.dir", "out")
"""Options that name a folder which is made."""
_TINY_CLIP, _LARGE_CLIP = 0.01, 0.05
"""Clips of a sequence's ratio are below, those of a token's above."""
_EXAMPLES = {
    "policy.path": "FOLDER_OR_HUB_ID",
    "data.path": "FILE.jsonl",
    "data.name": "DATASET_OR_FOLDER",
    "data.generator": "countdown",
}
_OWN = {"reward": "my_reward", "optimizer": "torch.optim.Adam"}
"""What is named where a ``_target_`` is missing; elsewhere My and the group."""


class _FlagParser(argparse.ArgumentParser):
    """Hydra's flags, so that overrides can be told from them."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        for flag in _FLAGS:
            self.add_argument(*flag.split(), action="store_true")
        for flag in _FLAGS_WITH_VALUES:
            self.add_argument(*flag.split(), nargs="?" if "info" in flag else None)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """The overrides among command-line arguments, told from Hydra's own flags and their values."""
    flags, others = _FlagParser().parse_known_args(list(arguments))
    if flags.version:
        print(f"grouprl {grouprl.__version__}")
        raise SystemExit(0)
    if flags.experimental_rerun:
        raise UsageError("--experimental-rerun: what it reads is a program. Go on with a run by resume=RUN.")
    unknown_flags = [argument for argument in others if argument.startswith("-")]
    if unknown_flags:
        raise UsageError(f"{unknown_flags[0]}: there is no such flag. Options are written key=value; see --help.")
    return others


def readable(override: str) -> str:
    """An override whose value Hydra's grammar cannot read is a text in quotation marks: ``policy.path=~/a (1)``.

    Of several values between commas each is one; lists and mappings are left as they are.
    """
    key, _, value = override.partition("=")
    if not key or override.startswith("-") or value.startswith(("[", "{")) or _reads(override):
        return override
    texts = [text if _reads(f"{key}={text}") else quoted(text) for text in value.split(",")]
    found = f"{key}={','.join(texts)}"
    return found if all(value.split(",")) and _reads(found) else override


def _reads(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def check_command(
    config_name: str, overrides: Sequence[str], *, multirun: bool, quiet: bool = False
) -> list[DictConfig]:
    """Compose and check every job of a command line; the composed jobs, or a `UsageError`.

    What is odd about them is said, each thing once, unless ``quiet`` is set.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UsageError(
            f"cannot read the command line: {first_line(error)}. "
            "Write options as key=value, and quote what holds spaces."
        ) from error
    for override in parsed:
        _refuse_spelling(override, multirun=multirun)
    jobs = _jobs_of(parsed) if multirun else [list(overrides)]
    checked = [check_job(config_name, job) for job in jobs]
    if config_name == "train" and not quiet:
        notes = (notes_on_clips, notes_on_size, notes_on_warmup)
        for note in dict.fromkeys(note for job in checked for of in notes for note in of(job)):
            print(note, file=sys.stderr)
    return checked


def choices_of(parsed: Sequence[Override]) -> dict[str, list[str]]:
    """The values of each option as Hydra writes them, in the order of a command line.

    Of an option that is given twice the last value counts.
    """
    choices: dict[str, list[str]] = {}
    for override in parsed:
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices[key] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            choices[key] = list(override.sweep_string_iterator())
        else:
            raise UsageError(f"{override.input_line}: an interval has no end of values. List them: {key}=A,B,C.")
    return choices


def _jobs_of(parsed: Sequence[Override]) -> list[list[str]]:
    """The overrides of each job of a sweep, the last swept option changing fastest."""
    choices = choices_of(parsed)
    return [[f"{k}={v}" for k, v in zip(choices, job, strict=True)] for job in itertools.product(*choices.values())]


def _refuse_spelling(override: Override, *, multirun: bool) -> None:
    """What Hydra would take for something else than was meant."""
    line = override.input_line or ""
    key, value = override.key_or_group, line.partition("=")[2]
    group = key.replace(".", "/")
    if not key:
        raise UsageError(
            f"{line}: there is no option before the equals sign. Options are written key=value; see --help."
        )
    if override.is_delete() and group not in GROUPS:
        raise UsageError(f"{line}: an option has a value, and is not taken away. Write {key}=VALUE.")
    if key == "resume" and value in ("", "''", '""'):
        raise UsageError("resume=: it names no run (is a variable empty?). Give resume=RUN_FOLDER, or leave it out.")
    if key == "study" and value in ("", "''", '""'):
        raise UsageError("study=: it is empty. Give the study a name, or leave it out.")
    if key == "study" and (value.startswith("/") or ".." in value.strip("'\"").split("/")):
        raise UsageError(f"{line}: a study's name, under which it lies in runs/. Elsewhere: hydra.sweep.dir=DIR.")
    if key in _PLACES and value.strip("'\"").startswith("~"):
        full = value.strip("'\"").replace("~", "$HOME", 1)
        raise UsageError(f"{line}: a folder called ~ would be made. Write the path in full, or {key}={full}.")
    if value == "{}":
        raise UsageError(f"{line}: it changes nothing. {ONE_BY_ONE}")
    if "${oc.env" in line:
        raise UsageError(
            f"{key}: values of the environment are not taken, as they would be written down "
            "beside the run. Write the value itself, or keep secrets to the libraries that read them (HF_TOKEN)."
        )
    if override.is_sweep_override() and not multirun:
        a_list = "" if key in GROUPS else f", or write {key}=[{value}] for a list"
        raise UsageError(f"{key}={value}: several values need a sweep. Add -m to run one job each{a_list}.")
    if group in GROUPS and "/" in group and key != group:
        raise UsageError(
            f"{line}: an axis is written with a slash: {group}=OPTION. Choices: {', '.join(options_of(group))}."
        )
    if group in GROUPS and (override.is_delete() or override.is_add() or value in ("null", "")):
        raise UsageError(
            f"{line}: a run has one {group}, which is chosen and not added, removed or empty: {group}=OPTION. "
            f"Choices: {', '.join(options_of(group))}."
        )


def check_job(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose and check one job."""
    try:
        config = compose_job(config_name, overrides)
        _refuse_missing(config)
        _refuse_added_options(config_name, config, overrides)
        OmegaConf.resolve(without_hydra(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(config_name, error, overrides)) from error
    _refuse_bare_targets(overrides)
    if config_name == "evaluate":
        _check_tools(config, overrides)
    if config_name == "train":
        check_values(config)
        _refuse_unread(config, overrides)
    return config


def _refuse_added_options(config_name: str, config: DictConfig, overrides: Sequence[str]) -> None:
    """``+key=value`` makes Hydra accept any key, and ``+group.key=value`` one that nothing may read."""
    added = [key for key in (override.partition("=")[0] for override in overrides) if key.startswith("+")]
    known = {*map(str, compose_job(config_name, [])), *GROUPS} if added else set()
    for written in added:
        key = written.lstrip("+")
        parent, _, name = key.rpartition(".")
        if "/" not in key and (first := key.partition(".")[0]) not in {*known, "hydra"}:
            raise UsageError(unknown_key(config_name, first, written, known))
        node = OmegaConf.select(config, parent) if parent else None
        if not isinstance(node, DictConfig) or parent.startswith("hydra"):
            continue
        group = parent.replace(".", "/")
        if group in GROUPS and "none" in options_of(group) and "_target_" not in node:
            choices = ", ".join(option for option in options_of(group) if option != "none")
            raise UsageError(f"{written}: {group}=none has no options. Choose one that has: {group}={choices}.")
        target, typed = str(node.get("_target_", "")), OmegaConf.get_type(node)
        beside = [str(field) for field in node if field != name]
        if (target and not takes(target, name)) or (
            not target and name not in getattr(typed, "__annotations__", (name,))
        ):
            raise UsageError(unknown_key(config_name, key, written, beside))


def _refuse_bare_targets(overrides: Sequence[str]) -> None:
    """Another class with the arguments of the option that was chosen."""
    for override in overrides:
        parent, _, name = override.partition("=")[0].lstrip("+").rpartition(".")
        group = parent.replace(".", "/")
        if name == "_target_" and "custom" in options_of(group) and f"{group}=custom" not in overrides:
            raise UsageError(f"{override}: its options would still be those of the default. Add {group}=custom.")


def _refuse_unread(config: DictConfig, overrides: Sequence[str]) -> None:
    """An option that is set in vain: no chosen component refers to it, or another value undoes it."""
    read = set(_references(without_hydra(config)))
    for override in overrides:
        key = override.partition("=")[0].lstrip("+")
        if key in READ_BY_COMPONENTS and key not in read:
            raise UsageError(f"{override}: no component of this run reads {key}. Leave it out, or refer to ${{{key}}}.")
        if key == "warmup_steps" and config.warmup_steps >= config.steps:
            raise UsageError(f"{override}: with steps={config.steps} the learning rate never reaches lr. Use fewer.")


def notes_on_clips(config: DictConfig) -> Iterator[str]:
    """A clip and a ratio level that were not made for each other: both run, and one of them does nothing, or all."""
    eps, ratio = config.loss.gate.get("eps_high"), str(config.loss.ratio.get("_target_"))
    if eps is not None and eps < _TINY_CLIP and not ratio.endswith(".SequenceRatio"):
        yield (
            f"note: eps_low={config.eps_low:g} eps_high={eps:g} are a clip for loss/ratio=sequence (loss=gspo sets "
            "it). With another ratio level give your own, such as eps_low=0.2 eps_high=0.2."
        )
    if eps is not None and eps > _LARGE_CLIP and ratio.endswith(".SequenceRatio"):
        yield (
            f"note: loss/ratio=sequence stays near 1, and eps_high={eps:g} hardly ever acts: loss=gspo takes "
            "eps_low=3e-4 eps_high=4e-4."
        )
    if eps is not None and ratio.endswith(".GeometricRatio"):
        yield "note: loss/ratio=geometric clips by itself, and loss/gate=clip clips once more. Use loss/gate=none."


def notes_on_warmup(config: DictConfig) -> Iterator[str]:
    """A warm-up by default that is as long as the run."""
    if config.warmup_steps >= config.steps and config.warmup_steps > 0:
        yield (
            f"note: with steps={config.steps} and warmup_steps={config.warmup_steps} the learning rate never reaches "
            "lr. Give fewer, as warmup_steps=0."
        )


def _references(node: Any) -> Iterator[str]:
    """Names of the options that the values of a configuration refer to."""
    if isinstance(node, DictConfig):
        for _, value in node.items_ex(resolve=False):
            yield from _references(value)
    elif isinstance(node, ListConfig):
        for value in node._iter_ex(resolve=False):
            yield from _references(value)
    elif isinstance(node, str):
        yield from re.findall(r"\$\{([\w.]+)\}", node)


def _check_tools(config: DictConfig, overrides: Sequence[str]) -> None:
    """The tools of an evaluation: read where mode is tir, and needed there."""
    unread = [o for o in overrides if o.lstrip("+~").startswith("tools")]
    modes = config.mode if isinstance(config.mode, ListConfig) else [config.mode]
    if unread and "tir" not in modes:
        raise UsageError(f"{unread[0]}: tools are used in mode=tir alone. Add mode=tir, or leave it out.")
    for key in ("tools", "tools.sandbox"):
        if "_target_" not in (OmegaConf.select(config, key) or {}):
            raise UsageError(f"{key}: mode=tir needs it. Change its options, as in tools.rounds=4.")
    try:
        check_components(config)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _refuse_missing(config: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(without_hydra(config)))
    if missing:
        hints = " ".join(f"{key}={_example_of(key)}" for key in missing)
        raise UsageError(f"{', '.join(missing)} has no value. Add: {hints}")


def _example_of(key: str) -> str:
    group, _, name = key.rpartition(".")
    if name != "_target_":
        return _EXAMPLES.get(key, "VALUE")
    own = _OWN.get(group, f"My{group.rpartition('.')[2].title()}")
    return own if "." in own else f"my_file.{own}"


def guarded(check: Callable[[], Any], program: str) -> Any:
    """Run a check; a `UsageError`, or a file that cannot be used, ends the program with its text and exit code 2."""
    try:
        return check()
    except (UsageError, FileError, FloatingPointError) as error:
        signals.raise_if_received()  # it may be what a signal left half done
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
