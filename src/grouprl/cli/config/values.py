"""Values of a composed configuration that cannot work, alone or together; nothing heavy is imported."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import math
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grouprl.checks import choice, on_one_device
from grouprl.cli.config.compose import shipped_targets, without_hydra
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.saved import interpolations, other_keys
from grouprl.cli.config.schema import GROUPS, RENAMED_CLASSES
from grouprl.data.checks import place
from grouprl.data.exemplars import read_exemplars
from grouprl.data.rows import check_first_row
from grouprl.evaluation.benchmarks import benchmarks_of, contaminated_by, with_same_problems
from grouprl.policy.fetch import SOURCES
from grouprl.policy.folder import check_policy_folder, model_context
from grouprl.rewards.checks import ON_UNSCORABLE
from grouprl.runtime.checks import ON_OUT_OF_MEMORY, check_threads, halve_on_one_device
from grouprl.sampling.checks import vllm_installed

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
_AT_LEAST = {
    "steps": 1,
    "prompts_per_step": 1,
    "group_size": 2,
    "ppo_epochs": 1,
    "minibatches": 1,
    "max_new_tokens": 1,
    "eval_samples": 1,
    "final_eval_samples": 1,
    "micro_batch_size": 0,
    "micro_batch_tokens": 0,
    "warmup_steps": 0,
    "beta": 0,
    "eval_every": 0,
    "checkpoint_every": 0,
    "save_policy_every": 0,
    "max_skipped_steps": 0,
    "stop_grace_s": 0,
}


_OF_LAUNCHERS = ("MASTER_ADDR", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "LSB_JOBID")
"""Variables of the environment by which processes of several nodes find each other."""
_OF_THE_LOOP = {
    "deterministic": "Use deterministic.",
    "accumulate_grad_batches": "Use micro_batch_size or micro_batch_tokens.",
    "gradient_clip_val": "Use max_grad_norm.",
    "max_steps": "Use steps.",
    "max_epochs": "Use steps and ppo_epochs.",
    "val_check_interval": "Use eval_every.",
    "check_val_every_n_epoch": "Use eval_every.",
    "logger": "Runs are logged to TensorBoard in their folder.",
    "callbacks": "Use the library for callbacks of your own: grouprl.GroupRLModule.",
    "enable_checkpointing": "Use checkpoint_every.",
    "max_time": "Use steps.",
    "fast_dev_run": "Use steps=1.",
    "limit_train_batches": "Use steps.",
    "limit_val_batches": "Use data.heldout_size.",
    "overfit_batches": "Use data.train_size.",
}


def check_values(config: DictConfig) -> None:
    """Refuse values that cannot work, alone or together."""
    values = OmegaConf.to_container(without_hydra(config), resolve=True)
    for name in other_keys(values):
        raise UsageError(f"{name}: a key that is no text cannot be saved with a run. Put it in quotes: '{name}'.")
    for key, text in interpolations(values):
        raise UsageError(f"{key}={text}: a run's saved configuration cannot hold the text ${{. Write it otherwise.")
    checks = (_check_numbers, _check_selection, check_components, _check_batches, _check_trainer, _check_together)
    try:
        for check in (*checks, _check_sampler, _check_contamination, _check_policy, _check_own_code, _check_data):
            check(config)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _check_numbers(config: DictConfig) -> None:
    for group in ("policy", "data", "reward", "advantage", "loss", "sampler", "filter", "trainer", "optimizer"):
        if not isinstance(config.get(group), DictConfig):
            raise UsageError(f"{group}: a run needs one. Leave it as it is, or choose another: {group}=OPTION.")
    if not 0 <= config.seed < 2**31:
        raise UsageError(f"seed={config.seed}: give at least 0 and less than 2147483648.")
    for key in ("lr", "temperature", "max_grad_norm", "beta", "eps_high"):
        if not math.isfinite(config[key]):
            raise UsageError(f"{key}={config[key]}: give a finite number.")
    dtype = config.policy.get("dtype", "float32")
    choice("policy.dtype", dtype, ("float32", "float64", "bfloat16"))
    for key, least in _AT_LEAST.items():
        if config[key] is not None and config[key] < least:
            why = " (an advantage compares the completions of a group)" if key == "group_size" else ""
            raise UsageError(f"{key}={config[key]}: give at least {least}{why}.")
    for key in ("lr", "temperature", "max_grad_norm", "eps_low", "eps_high", "target_kl", "mismatch_tolerance"):
        if config[key] is not None and not config[key] > 0:
            raise UsageError(f"{key}={config[key]}: give a number above 0.")
    check_threads(config.threads)
    choice("on_unscorable", config.on_unscorable, ON_UNSCORABLE)
    choice("on_out_of_memory", config.on_out_of_memory, ON_OUT_OF_MEMORY)
    halve_on_one_device(config.on_out_of_memory, config.trainer.get("devices", 1))
    for key in ("system", "exemplars"):
        if config.prompt[key] in ("None", "none"):
            raise UsageError(f"prompt.{key}={config.prompt[key]}: write null for none.")
    for key, choices in {"style": ("auto", "chat", "plain"), "overlong": ("refuse", "drop")}.items():
        choice(f"prompt.{key}", config.prompt[key], choices)


def _check_batches(config: DictConfig) -> None:
    if config.prompts_per_step % config.minibatches:
        divisors = [n for n in range(1, config.prompts_per_step + 1) if config.prompts_per_step % n == 0]
        raise UsageError(
            f"minibatches={config.minibatches}: a minibatch holds whole groups, so it must divide "
            f"prompts_per_step={config.prompts_per_step}. Choose one of {', '.join(map(str, divisors))}."
        )
    devices = config.trainer.get("devices", 1)
    if isinstance(devices, int) and devices < 1 and devices != -1:
        raise UsageError(f"trainer.devices={devices}: give at least 1, or -1 for all.")
    if isinstance(devices, int) and devices > 0 and config.prompts_per_step % (devices * config.minibatches):
        raise UsageError(
            f"trainer.devices={devices}: each device takes the same number of groups of each minibatch, so that "
            f"prompts_per_step={config.prompts_per_step} must be a multiple of devices x minibatches = "
            f"{devices * config.minibatches}."
        )


def _check_trainer(config: DictConfig) -> None:
    if config.trainer.get("precision") in ("bf16-true", "16-true"):
        raise UsageError(
            f"trainer.precision={config.trainer.precision}: rotary positions and small updates are rounded away. "
            "Use trainer.precision=bf16-mixed."
        )
    if config.trainer.get("precision") == "16-mixed":
        raise UsageError(
            "trainer.precision=16-mixed: gradients are scaled there, and the clip and the guards of this loop read "
            "them as they are. Use trainer.precision=bf16-mixed, or 32-true."
        )
    if config.trainer.get("precision") not in ("auto", "32-true", "32", 32, "bf16-mixed", "64-true", None):
        raise UsageError(f"trainer.precision={config.trainer.precision}: choose one of auto, 32-true, bf16-mixed.")
    if config.trainer.get("precision") == "64-true":
        raise UsageError("trainer.precision=64-true: use policy.dtype=float64 for float64 weights and arithmetic.")
    if config.trainer.get("num_nodes", 1) != 1 and not any(name in os.environ for name in _OF_LAUNCHERS):
        raise UsageError(
            f"trainer.num_nodes={config.trainer.num_nodes}: nothing here says where the other nodes are, and the run "
            "would wait for them for ever. Start it on each by a launcher (torchrun, SLURM, MPI), or leave it out."
        )
    for key, instead in _OF_THE_LOOP.items():
        if key in config.trainer:
            raise UsageError(f"trainer.{key}={config.trainer[key]}: the training loop has this in hand. {instead}")


def check_components(config: DictConfig) -> None:
    """What a component would refuse, before it is imported."""
    for node in _targets(without_hydra(config)):
        check = check_of(str(node["_target_"]))
        if check is not None:
            names = inspect.signature(check).parameters
            _refuse_other_types(node, typing.get_type_hints(check))
            if all(name in node for name in names):  # else it is left to the component, whose defaults are its own
                check(**{name: node[name] for name in names})


def _refuse_other_types(node: DictConfig, types: Mapping[str, Any]) -> None:
    """Options of a component whose values are of other types than its check takes."""
    for name in [name for name in types if name in node]:
        kinds = typing.get_args(types[name]) or (types[name],)
        value = node[name]
        is_number = float in kinds and isinstance(value, int) and not isinstance(value, bool)
        if Any not in kinds and type(value) not in kinds and not is_number:
            expected = " or ".join(_WORDS[kind] for kind in kinds)
            raise UsageError(f"{node._get_full_key(name)}={value}: expected {expected}.")


def check_of(target: str) -> Callable[..., None] | None:
    """The check of a component of this package, or None where it has none: see `grouprl.checks`.

    ``grouprl.losses.gates.ClipGate``: the function ``clip_gate`` of `grouprl.losses.checks`.
    """
    top, _, inside = target.partition(".")
    package, name = inside.partition(".")[0], target.rpartition(".")[2]
    if top != "grouprl" or importlib.util.find_spec(f"grouprl.{package}.checks") is None:
        return None
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return getattr(importlib.import_module(f"grouprl.{package}.checks"), snake, None)


def takes(target: str, name: str) -> bool:
    """Whether a component takes an argument, read from its source, not imported. Others' code is trusted."""
    module, _, member = target.rpartition(".")
    if not module.startswith("grouprl."):
        return True
    for item in _source_of(module):
        if isinstance(item, ast.FunctionDef) and item.name == member:
            return name in {argument.arg for argument in (*item.args.args, *item.args.kwonlyargs)}
        if isinstance(item, ast.ClassDef) and item.name == member:
            made = [part for part in item.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
            if made:
                return name in {argument.arg for argument in (*made[0].args.args, *made[0].args.kwonlyargs)}
            return name in {getattr(part.target, "id", "") for part in item.body if isinstance(part, ast.AnnAssign)}
    return True


def _defines(module: str, name: str) -> bool:
    return any(getattr(item, "name", "") == name for item in _source_of(module))


def _source_of(module: str) -> list[ast.stmt]:
    """The statements of a module of this package; none where there is no such module."""
    file = Path(str(files("grouprl"))).joinpath(*module.split(".")[1:]).with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else []


def _targets(node: Any) -> Iterator[DictConfig]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from _targets(value)


def _check_together(config: DictConfig) -> None:
    """Options that contradict each other."""
    if config.save_merged and not config.adapter:
        raise UsageError("save_merged=true: there is no adapter to merge. Add adapter=lora, or leave it out.")
    if config.advantage.get("ties") == "random" and "seed" not in config.advantage:
        raise UsageError("advantage.ties=random: choose advantage=rank_random, whose order is drawn from the seed.")
    for option in ("resume_fall_back", "accept_changed"):
        if config[option] and not config.resume:
            raise UsageError(f"{option}={config[option]}: nothing is resumed. Add resume=RUN_DIR, or leave it out.")
    if config.keep_checkpoints < 1 and config.checkpoint_every != 0:
        raise UsageError(
            f"keep_checkpoints={config.keep_checkpoints}: keep at least 1, or set checkpoint_every=0 for none."
        )


def _check_sampler(config: DictConfig) -> None:
    """What a sampler needs of the rest of the run."""
    sampler, correction = _class_of(config.sampler), _class_of(config.loss.get("correction"))
    if sampler == "VLLMSampler":
        if not on_one_device(config.trainer.get("devices", 1)):
            raise UsageError(
                f"trainer.devices={config.trainer.devices}: sampler=vllm serves one device. Use trainer.devices=1, "
                "or sampler=group."
            )
        vllm_installed()
    full = config.trainer.get("precision") in ("32-true", "auto") and config.policy.get("dtype") != "bfloat16"
    if sampler == "GroupSampler" and full and correction in ("TruncatedWeights", "MaskedWeights"):
        raise UsageError(
            f"loss/correction: the weights of {correction} are for draws of another arithmetic. In float32 "
            "sampler=group records the trainer's own logprobs, so every weight would be 1. Use loss/correction=none, "
            "or sampler=vllm, or a reduced precision (trainer.precision=bf16-mixed)."
        )


def _class_of(node: Any) -> str:
    return str((node or {}).get("_target_", "")).rpartition(".")[2]


def _check_selection(config: DictConfig) -> None:
    """Which problems are trained on."""
    choice("overlap.action", config.overlap.action, ("refuse", "drop"))
    if config.overlap.data_dir is not None and not place(config.overlap.data_dir).is_dir():
        raise UsageError(
            f"overlap.data_dir={config.overlap.data_dir}: there is no such folder. Give one with JSONL files."
        )
    samples, least, most = (config.prefilter[key] for key in ("samples", "min_correct", "max_correct"))
    if not samples and most is not None:
        raise UsageError(f"prefilter.max_correct={most}: nothing is filtered. Add prefilter.samples=N, of 2 at least.")
    if samples and (samples < 2 or not 0 <= least <= (samples if most is None else most) <= samples):
        raise UsageError(
            f"prefilter.samples={samples} min_correct={least} max_correct={most}: give at least 2 samples, "
            "and 0 <= min_correct <= max_correct <= samples."
        )


def _check_own_code(config: DictConfig) -> None:
    """Modules that the user names must be there; only that is looked up, nothing is run."""
    for group in (group.replace("/", ".") for group in GROUPS):
        node = OmegaConf.select(config, group)
        if not isinstance(node, DictConfig) or "_target_" not in node:
            continue
        target = str(node["_target_"])
        if ".py:" in target:
            if not Path(os.path.expanduser(target.rpartition(":")[0])).is_file():
                raise UsageError(f"{group}._target_={target}: there is no such file. Write PATH/FILE.py:NAME.")
            continue
        module = target.rpartition(".")[0]
        if not module:
            raise UsageError(f"{group}._target_={target}: write module.name, or PATH/FILE.py:NAME.")
        if "" not in sys.path:
            sys.path.insert(0, "")
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            raise UsageError(f"{group}._target_={target}: there is no module {module.partition('.')[0]!r} here.")
        if module.startswith("grouprl.") and not _defines(module, target.rpartition(".")[2]):
            raise UsageError(f"{group}._target_={target}: there is no such name.{_new_path(target)}")


def _new_path(target: str) -> str:
    """Where a name of this package is found, for those who knew it elsewhere."""
    name = target.rpartition(".")[2]
    name = RENAMED_CLASSES.get(name, name)
    paths = [shipped for shipped in shipped_targets() if shipped.endswith(f".{name}")]
    if paths:
        return f" It is {paths[0]} now."
    return " The public names: python -c 'import grouprl; print(dir(grouprl))'."


def _check_policy(config: DictConfig) -> None:
    path, context = str(config.policy.get("path", "tiny")), config.prompt.context
    if context is not None and config.max_new_tokens >= context:
        raise UsageError(
            f"max_new_tokens={config.max_new_tokens}: prompt.context={context} holds the prompt too. "
            "Use a smaller max_new_tokens or a larger prompt.context."
        )
    if (source := config.policy.get("source", "auto")) not in SOURCES:
        raise UsageError(f"policy.source={source}: choose one of {', '.join(SOURCES)}.")
    check_policy_folder(path)
    context = model_context(path, source)
    if context is not None and config.prompt.context is not None and config.prompt.context > context:
        raise UsageError(f"prompt.context={config.prompt.context}: the model's context is {context} tokens.")
    if context is not None and config.max_new_tokens >= context:
        raise UsageError(
            f"max_new_tokens={config.max_new_tokens}: the model's context is {context} tokens, prompt included. "
            "Use a smaller max_new_tokens."
        )


def _check_data(config: DictConfig) -> None:
    """A file's first row has the columns that are read, and worked examples are some."""
    read_exemplars(config.prompt.exemplars)
    data = config.data
    for key in ("path", "heldout_path"):
        if data.get(key) is not None:
            check_first_row(f"data.{key}", data[key], data.get("columns"), data.get("bad_rows", "refuse"))


def _check_contamination(config: DictConfig) -> None:
    """A data set whose name and split say that it is a benchmark's test set."""
    for key in ("path", "heldout_path", "name"):
        if not isinstance(config.data.get(key), str | None):
            raise UsageError(f"data.{key}={config.data[key]}: give one, as a text.")
    if config.overlap.benchmarks:  # none of them where the list is empty, or null
        benchmarks_of(config.overlap.benchmarks)
    name, split = config.data.get("name"), config.data.get("split")
    benchmarks = contaminated_by(name, split) if name and split else ()
    if benchmarks and not set(benchmarks) & with_same_problems(config.overlap.allow):
        raise UsageError(
            f"data.name={name} data.split={split}: these are test problems of "
            f"{' and '.join(benchmarks)}; a policy trained on them cannot be measured there. "
            f"Train on a training split, or add overlap.allow=[{benchmarks[0]}] to go on all the same."
        )
