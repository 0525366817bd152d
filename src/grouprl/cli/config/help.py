"""``python train.py --help``: options, component groups with their axes, and examples on one screen."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Mapping
from typing import Any

from grouprl.cli.config.compose import compose_job, options_of
from grouprl.cli.config.schema import (
    GROUPS,
    EvaluateConfig,
    OverlapConfig,
    PrefilterConfig,
    PromptConfig,
    StudyConfig,
    TrainConfig,
)

WIDTH = 100
"""Columns of the longest line."""
_EXAMPLES = {
    "train": (
        ("python train.py -m advantage=rank,zscore eps_high=0.2,0.28", "a sweep of four runs"),
        ("python train.py -m loss=repo,grpo until=decided jobs=2", "a study, and its verdict"),
        ("python train.py loss=dapo loss/gate=cispo steps=300", "a preset, and another choice on an axis"),
        ("python train.py policy=hf policy.path=DIR data=jsonl", "your own model, and a data.path=FILE"),
        ("python train.py --cfg job --resolve", "show the configuration and stop"),
    ),
    "evaluate": (
        ("python evaluate.py policy=RUN benchmark=[gsm8k,math500] mode=[cot,tir]", "on benchmarks"),
        ("python evaluate.py prompt='What is $3 + 4 + 5$?'", "the embedded policy"),
        ("python evaluate.py policy=runs/sweep/RUN prompt='Find x if $2x + 3 = 9$.' answer=3", "a trained one"),
    ),
}
_CONFIGS = {"train": TrainConfig, "evaluate": EvaluateConfig}
_NODES = {"prompt": PromptConfig, "prefilter": PrefilterConfig, "overlap": OverlapConfig}
"""Options that have options of their own."""


def help_text(config_name: str) -> str:
    """The help of a script, in lines of at most `WIDTH` columns."""
    config = compose_job(config_name, [])
    sweep = "[-m] " if config_name == "train" else ""
    lines = [f"usage: python {config_name}.py {sweep}[key=value ...] [group=option ...]", "", "options (default):"]
    lines += _two_columns(attribute_docs(_CONFIGS[config_name]), config)
    for node, schema in _NODES.items() if config_name == "train" else ():
        lines += _listed(f"{node}.", list(attribute_docs(schema)))
    if config_name == "train":
        lines += ["options of a study, which -m makes of several runs (default):"]
        lines += _two_columns(attribute_docs(StudyConfig), vars(StudyConfig()))
    lines += ["", "groups, an axis as group/axis ([the default]; an option's own keys: group.key=value):"]
    choices = config.hydra.runtime.choices
    for group in GROUPS:
        if group in choices:
            lines += _listed(f"{group}:", [f"[{o}]" if o == choices[group] else o for o in options_of(group)])
    lines += ["", "examples:"]
    for command, meaning in _EXAMPLES[config_name]:
        lines += [f"  {command}", f"      {meaning}"] if len(command) > 58 else [f"  {command:<58} {meaning}"]
    return "\n".join(lines)


def _two_columns(docs: Mapping[str, str], defaults: Mapping[str, Any]) -> list[str]:
    cells = []
    for key, text in docs.items():
        default = f" ({defaults[key]})" if defaults[key] not in (None, "", []) else ""
        cells.append(f"  {key}{default}: {text}")
    half = (len(cells) + 1) // 2
    column = max(len(cell) for cell in cells[:half])
    return [f"{left:<{column}}{right}".rstrip() for left, right in zip(cells[:half], [*cells[half:], ""], strict=False)]


def _listed(title: str, names: list[str]) -> list[str]:
    indent = " " * 20
    return textwrap.wrap(", ".join(names), WIDTH, initial_indent=f"  {title:<18}", subsequent_indent=indent)


def attribute_docs(config_class: type) -> dict[str, str]:
    """Attribute docstrings of a configuration dataclass, in order."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body[0].body  # type: ignore[attr-defined]
    docs = {}
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docs[field.target.id] = str(after.value.value)  # type: ignore[union-attr]
    return docs
