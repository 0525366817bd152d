"""The evaluation script: benchmarks, or a group of completions for one problem with reward parts and advantages."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from grouprl.cli import benchmark
from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.help import help_text
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, guarded, overrides_of, readable
from grouprl.cli.config.saved import read_values, run_of
from grouprl.cli.environment import fetched_policy, prepare
from grouprl.data.checks import place
from grouprl.data.exemplars import read_exemplars
from grouprl.files import Shape, check_shape
from grouprl.policy.fetch import MODELS, SOURCES, Source
from grouprl.policy.folder import check_policy_folder
from grouprl.runtime.checks import check_threads
from grouprl.sampling.checks import stop_texts
from grouprl.training import signals
from grouprl.training.records import CONFIG_FILE, POLICY_FOLDER, RESULT_FILE, WITHHELD

PROGRAM = "evaluate.py"
_TEXTS = ("prompt", "answer", "system")
_OF_A_PROMPT = frozenset({"answer", "group_size", "style", "system", "stop", "reward", "advantage"})
_OF_BENCHMARKS = frozenset(
    {"mode", "samples", "limit", "shots", "extraction", "audit", "data_dir", "out", "accept_changed", "block", "tools"}
)
"""Options that the one of ``prompt=`` and ``benchmark=`` reads, and the other does not."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``evaluate.py`` and ``grouprl-evaluate``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(help_text("evaluate"))
        return
    with signals.listening():
        try:
            _do(arguments)
        except signals.Stopped:
            print(
                f"{PROGRAM}: stopped. The same command goes on after the last block of problems that was done.",
                file=sys.stderr,
            )
        except SystemExit:
            if not signals.received:
                raise
    if signals.received:
        raise SystemExit(signals.exit_code())


def _do(arguments: list[str]) -> None:
    """Do what a command line says."""
    multirun = bool({"-m", "--multirun"} & set(arguments))
    configs = guarded(lambda: _compose(overrides_of(arguments), multirun=multirun), PROGRAM)
    if {"--cfg", "-c"} & set(arguments):
        for config in configs:
            print(OmegaConf.to_yaml(config, resolve=True))
        return
    folders = guarded(lambda: [policy_folder(config.policy, config.source) for config in configs], PROGRAM)
    prepare()
    for config, folder in zip(configs, folders, strict=True):
        if config.benchmark is not None:
            guarded(lambda c=config, f=folder: benchmark.run(c, f, _name_of(c.policy)), PROGRAM)  # type: ignore[misc]
        else:
            guarded(lambda c=config, f=folder: _show_group(c, f), PROGRAM)  # type: ignore[misc]


def _compose(overrides: Sequence[str], *, multirun: bool) -> list[DictConfig]:
    """Compose and check each job. Texts are taken as they are typed: Hydra's grammar would trip over ``$x = 1$``."""
    texts: dict[str, str] = {}
    others: list[str] = []
    swept: dict[str, list[str]] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        if key in _TEXTS:
            texts[key] = value
        elif key in ("policy", "benchmark"):  # to Hydra names of groups, of which there can be but one option
            swept[key] = [value] if value.startswith("[") or not multirun else value.split(",")
        else:
            others.append(readable(override))
    jobs = check_command("evaluate", others, multirun=multirun)
    configs = []
    for job, chosen in itertools.product(jobs, itertools.product(*swept.values())):
        config = without_hydra(job)
        for key, value in [*texts.items(), *zip(swept, chosen, strict=True)]:
            config[key] = None if value == "null" and key != "prompt" else value.replace("${", r"\${")
        given = {*texts, *(other.partition("=")[0] for other in others)}
        _take_layout_of_run(config, given)
        _check(config)
        _refuse_unread(config, given)
        configs.append(config)
    return configs


def _take_layout_of_run(config: DictConfig, given: set[str]) -> None:
    """A run's policy is asked as it was trained to be, unless the command line says otherwise."""
    folder = run_of(config.policy)
    run = read_values(folder)
    if run is None:
        return
    where = f"{folder / CONFIG_FILE}, prompt"
    shape: Shape = {"style?": str, **dict.fromkeys(("system?", "exemplars?"), (str, type(None)))}
    asked = dict(check_shape(run.get("prompt", {}), shape, where))
    keys = {"style", "system"}
    if config.benchmark is None:  # which has exemplars and ends of its own
        keys |= {"exemplars", "stop"}
        sampler = check_shape(run.get("sampler", {}), {"stop?": list}, where.replace("prompt", "sampler"))
        asked["stop"] = sampler.get("stop", [])
    for key in keys - given:
        config[key] = asked.get(key, config[key])
        if str(config[key]).startswith(WITHHELD):
            raise UsageError(
                f"{key}: it was a path outside the working folder, which is not written down. Add: {key}=TEXT"
            )


def _check(config: DictConfig) -> None:
    if (config.benchmark is None) == (not config.prompt):
        raise UsageError("give benchmark=[gsm8k,math500] or a problem: prompt='What is $3 + 4$?' (one of the two).")
    for key, least in {"group_size": 2, "seed": 0, "max_new_tokens": 1, "block": 1}.items():
        if config[key] < least:
            raise UsageError(f"{key}={config[key]}: give at least {least}.")
    if not 0 < config.temperature < float("inf"):
        raise UsageError(f"temperature={config.temperature}: give a finite number above 0.")
    if config.source not in SOURCES:
        raise UsageError(f"source={config.source}: choose one of {', '.join(SOURCES)}.")
    if config.source != "auto" and config.policy not in MODELS:
        raise UsageError(f"source={config.source}: it is of policy={', '.join(MODELS)} alone. Leave it out.")
    if config.seed >= 2**31:
        raise UsageError(f"seed={config.seed}: give a number below {2**31}.")
    try:
        check_threads(config.threads)
        if config.benchmark is None:
            read_exemplars(config.exemplars, "exemplars")
            stop_texts("stop", config.stop)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if config.benchmark is not None:
        if config.stop:
            raise UsageError(
                "stop: a benchmark's completions end as its paper has it. Leave it out, or give prompt=TEXT."
            )
        benchmark.check(config)


def _refuse_unread(config: DictConfig, given: Collection[str]) -> None:
    """An option that nothing reads is a misunderstanding, and would be taken for one that has an effect."""
    asked, other = ("benchmark", "prompt") if config.benchmark is not None else ("prompt", "benchmark")
    unread = _OF_A_PROMPT if asked == "benchmark" else _OF_BENCHMARKS
    for name in sorted({key.lstrip("+~").partition(".")[0] for key in given} & unread):
        raise UsageError(f"{name}: nothing reads it with {asked}=, it is an option of {other}=. Leave it out.")


def _name_of(policy: str) -> str:
    """A policy's name in results: no path of this machine."""
    path = Path(policy)
    return path.name if path.is_absolute() else policy.rstrip("/")


def policy_folder(policy: str, source: Source = "auto") -> str:
    """The Hugging Face folder or hub id that ``policy`` names: itself, the policy of a run, or one that is fetched."""
    if (place(policy) / RESULT_FILE).is_file():
        policy = str(place(policy) / POLICY_FOLDER)
        if not Path(policy).is_dir():
            raise UsageError(f"policy={policy}: the run has saved no policy yet. Finish it, or name another run.")
    try:
        check_policy_folder(policy)
    except ValueError as error:
        raise UsageError(str(error).replace("policy.path=", "policy=")) from error
    return fetched_policy(policy, source)


def _show_group(config: DictConfig, folder: str) -> None:
    from grouprl.cli.build import build_reward, component, find_own_files, quiet_libraries
    from grouprl.data import prompts as prompt_layout
    from grouprl.data.rows import Problem
    from grouprl.policy.load import load_policy
    from grouprl.rewards.base import as_rewards
    from grouprl.runtime.machine import use_determinism, use_threads
    from grouprl.sampling.group import GroupSampler

    quiet_libraries()
    find_own_files()
    advantage, reward = component(config, "advantage"), build_reward(config)
    try:
        use_determinism(config.deterministic)
        policy = load_policy(folder, **{key: config[key] for key in benchmark.OF_THE_POLICY})
        use_threads(config.threads, policy.weights)
        problem = Problem(config.prompt, config.answer or "")
        layout = {"style": config.style, "system": config.system, "exemplars": read_exemplars(config.exemplars)}
        prompts = prompt_layout.encode(policy.tokenizer, [problem], **layout)
        room = (policy.context or 10**9) - len(prompts.token_ids[0])
        longest = max(1, min(config.max_new_tokens, room))
        sampler = GroupSampler(config.group_size, max_new_tokens=longest, stop=tuple(config.stop))
        rollouts = sampler(policy, prompts, seed=config.seed)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    rewards = as_rewards(reward(rollouts.completions, prompts), rollouts.completions)
    advantages = advantage(rewards.values, valid=rewards.valid, parts=rewards.parts)
    for sample, text in enumerate(rollouts.completions[0]):
        parts = "  ".join(f"{name} {float(part[0, sample]):g}" for name, part in rewards.parts.items())
        cut = "  (cut off at max_new_tokens)" if rollouts.truncated[0, sample] else ""
        head = f"reward {rewards.values[0, sample]:.2f}  advantage {advantages[0, sample]:+.2f}"
        print(f"--- {sample + 1}/{config.group_size}  {head}  ({parts}){cut}\n{text}")
    if config.answer is None:
        print("\nNo answer=... was given, so that no completion counts as correct.")


if __name__ == "__main__":
    main()
