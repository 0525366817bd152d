"""``python train.py --help``: dials, component groups and examples on one screen."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap

from grouprl.cli.config import GROUPS, EvaluateConfig, TrainConfig, compose_job
from grouprl.cli.preflight import options_of

_EXAMPLES = {
    "train": (
        ("python train.py", "the default: REPO on the embedded task"),
        ("python train.py -m advantage=rank,zscore eps_high=0.2,0.28", "a sweep of four runs"),
        ("python train.py loss=dapo advantage=rloo steps=300 seed=1", "other components and dials"),
        ("python train.py policy=hf policy.path=DIR data=jsonl data.path=F.jsonl adapter=lora beta=0.04", "your own"),
        ("python train.py --cfg job --resolve", "show the configuration and stop"),
    ),
    "evaluate": (
        ("python evaluate.py policy=RUN benchmark=[gsm8k,math500] mode=[cot,tir]", "on benchmarks"),
        ("python evaluate.py prompt='What is $3 + 4 + 5$?'", "the embedded policy"),
        ("python evaluate.py policy=runs/sweep/RUN prompt='Find x if $2x + 3 = 9$.' answer=3", "a trained one"),
    ),
}
_CONFIGS = {"train": TrainConfig, "evaluate": EvaluateConfig}


def help_text(config_name: str) -> str:
    """The help of a script."""
    config = compose_job(config_name, [])
    sweep = "[-m] " if config_name == "train" else ""
    lines = [f"usage: python {config_name}.py {sweep}[key=value ...] [group=option ...]", "", "dials (default):"]
    cells = []
    for key, text in _attribute_docs(_CONFIGS[config_name]).items():
        default = config[key]
        cells.append(f"  {key} ({default})".replace(" ()", "") + f": {text}")
    half = (len(cells) + 1) // 2
    column = max(len(cell) for cell in cells[:half])
    for left, right in zip(cells[:half], [*cells[half:], ""], strict=False):
        lines.append(f"{left:<{column}}{right}".rstrip())
    lines += ["", "groups (an option's own keys: group.key=value; those for speed and memory: docs/performance.md):"]
    choices = config.hydra.runtime.choices
    for group in GROUPS:
        if group not in choices:
            continue
        options = ", ".join(f"[{o}]" if o == choices[group] else o for o in options_of(group))
        lines += textwrap.wrap(options, 116, initial_indent=f"  {group + ':':<12}", subsequent_indent=" " * 14)
    lines += ["", "examples:"]
    for command, meaning in _EXAMPLES[config_name]:
        lines += [f"  {command}", f"      {meaning}"] if len(command) > 66 else [f"  {command:<66} {meaning}"]
    return "\n".join(lines)


def _attribute_docs(config_class: type) -> dict[str, str]:
    """Attribute docstrings of a configuration dataclass, in order."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body[0].body  # type: ignore[attr-defined]
    docs = {}
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docs[field.target.id] = str(after.value.value)  # type: ignore[union-attr]
    return docs
