"""The evaluation script: a group of completions for one problem, with reward parts and advantages."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from grouprl.cli.config import without_hydra
from grouprl.cli.helptext import help_text
from grouprl.cli.preflight import UsageError, check_command, guarded, overrides_of
from grouprl.model_folder import check_policy_folder

PROGRAM = "evaluate.py"
_TEXTS = ("policy", "prompt", "answer", "system")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``evaluate.py`` and ``grouprl-evaluate``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(help_text("evaluate"))
        return
    config = guarded(lambda: _compose(overrides_of(arguments)), PROGRAM)
    if {"--cfg", "-c"} & set(arguments):
        print(OmegaConf.to_yaml(config, resolve=True))
        return
    folder = guarded(lambda: policy_folder(config.policy), PROGRAM)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    guarded(lambda: _show_group(config, folder), PROGRAM)


def _compose(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration. Texts are taken as they are typed: Hydra's grammar would trip over ``$x = 1$``."""
    texts, others = {}, []
    for override in overrides:
        key, _, value = override.partition("=")
        if key in _TEXTS:
            texts[key] = value
        else:
            others.append(override)
    config = without_hydra(check_command("evaluate", others, multirun=False)[0])
    if "prompt" not in texts:
        raise UsageError("prompt has no value. Add: prompt='What is $3 + 4$?'")
    if config.group_size < 2 or config.seed < 0 or config.max_new_tokens < 1:
        raise UsageError("group_size is at least 2, max_new_tokens at least 1, seed at least 0.")
    for key, value in texts.items():
        config[key] = value.replace("${", r"\${")
    return config


def policy_folder(policy: str) -> str:
    """The Hugging Face folder or hub id that ``policy`` names: itself, or the policy inside a run folder."""
    if (Path(policy) / "result.json").is_file():
        policy = str(Path(policy) / "policy")
        if not Path(policy).is_dir():
            raise UsageError(f"policy={policy}: the run has saved no policy yet. Finish it, or name another run.")
    try:
        check_policy_folder(policy)
    except ValueError as error:
        raise UsageError(str(error).replace("policy.path=", "policy=")) from error
    return policy


def _show_group(config: DictConfig, folder: str) -> None:
    from grouprl import prompts as prompt_layout
    from grouprl.cli.build import build_reward, component, find_own_files, quiet_libraries
    from grouprl.data import Problem
    from grouprl.policy import load_policy
    from grouprl.rewards import as_rewards
    from grouprl.sampling import GroupSampler

    quiet_libraries()
    find_own_files()
    advantage, reward = component(config, "advantage"), build_reward(config)
    try:
        policy = load_policy(folder, temperature=config.temperature)
        problem = Problem(config.prompt, config.answer or "")
        prompts = prompt_layout.encode(policy.tokenizer, [problem], style=config.style, system=config.system)
        sampler = GroupSampler(group_size=config.group_size, max_new_tokens=config.max_new_tokens)
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
