"""Types of the dials, and composition of a configuration. Values live in `conf/`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

CONFIG_MODULE = "grouprl.conf"
_MAX_NAME = 150


@dataclass
class PromptConfig:
    """How problems become prompts."""

    style: str = "auto"
    """auto, chat or plain."""
    system: str | None = None
    """System message."""
    context: int | None = None
    """Most tokens of prompt and completion together, if fewer than the model's."""
    overlong: str = "refuse"
    """Problems that do not fit the context: refuse or drop."""


@dataclass
class PrefilterConfig:
    """Keep the problems that the policy solves sometimes, before training."""

    samples: int = 0
    """Samples of each training problem, 0: keep all."""
    least: int = 1
    """Right ones at least."""
    most: int | None = None
    """Right ones at most, null: all but one."""


@dataclass
class TrainConfig:
    """The dials of a run. Each docstring is what ``--help`` shows."""

    steps: int = 1
    """RL iterations"""
    prompts_per_step: int = 1
    """prompts of an iteration"""
    group_size: int = 2
    """completions per prompt"""
    ppo_epochs: int = 1
    """passes over each rollout"""
    minibatches: int = 1
    """optimizer steps in a pass"""
    micro_batch_size: int = 0
    """sequences a pass, 0: any"""
    micro_batch_tokens: int = 8192
    """tokens a pass, 0: any"""
    on_out_of_memory: str = "stop"
    """or halve and go on"""
    eps_low: float = 0.2
    """lower side of the clip"""
    eps_high: float = 0.2
    """upper side of the clip"""
    beta: float = 0.0
    """KL coefficient, 0: no reference"""
    lr: float = 1e-6
    """peak learning rate"""
    warmup_steps: int = 0
    """iterations of warm-up"""
    lr_decay: bool = True
    """linear decay to a tenth"""
    clip_norm: float = 1.0
    """largest gradient norm"""
    temperature: float = 1.0
    """of sampling and training alike"""
    max_new_tokens: int = 96
    """longest completion"""
    mask_truncated: bool = False
    """leave truncated ones out"""
    ratio_tolerance: float | None = None
    """first-step guard, null: by dtype"""
    kl_stop: float | None = None
    """end the PPO epochs past this KL"""
    max_skipped_steps: int = 3
    """non-finite steps before a stop"""
    on_unscorable: str = "drop_sample"
    """or drop_group, or stop"""
    seed: int = 0
    """seed of everything"""
    resume: str | None = None
    """run folder to go on with"""
    resume_fall_back: bool = False
    """from one before a damaged one"""
    stop_grace_s: float = 0.0
    """time to end in, 0: no limit"""
    eval_every: int = 0
    """evaluate each, 0: before and after"""
    eval_samples: int = 4
    """samples of a held-out problem"""
    save_every: int = 1
    """checkpoint each, 0: none"""
    keep_checkpoints: int = 2
    """newest checkpoints kept"""
    save_policy_every: int = 0
    """save each, 0: at the end"""
    save_merged: bool = False
    """save LoRA merged, too"""
    allow_contaminated: list[str] = field(default_factory=list)
    """benchmarks to train on"""
    benchmarks_dir: str | None = None
    """files to look for overlap in"""
    check_benchmarks: Any = "all"
    """benchmarks for that, []: none"""
    on_overlap: str = "refuse"
    """or drop the problems"""
    study: str = "sweep"
    """folder of a sweep under runs/"""
    prefilter: PrefilterConfig = field(default_factory=PrefilterConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    optimizer: Any = None
    policy: Any = None
    adapter: Any = None
    data: Any = None
    reward: Any = None
    advantage: Any = None
    loss: Any = None
    sampler: Any = None
    trainer: Any = None


@dataclass
class EvaluateConfig:
    """Options of ``evaluate.py``."""

    policy: str = "tiny"
    """run folder, Hugging Face folder or hub id"""
    benchmark: Any = None
    """one, [several], or all, cot, tir"""
    mode: Any = "cot"
    """cot, tir, or [cot,tir]"""
    samples: int = 0
    """of each problem, 0: one greedy"""
    limit: int | None = None
    """only the first problems"""
    shots: int | None = None
    """exemplars, null: the benchmark's"""
    exemplars: str | None = None
    """JSONL file of your own exemplars"""
    extraction: str = "lenient"
    """where answers are read, or boxed"""
    data_dir: str | None = None
    """folder of JSONL files, null: the hub"""
    out: str | None = None
    """folder of results"""
    block: int = 32
    """problems done at once"""
    prompt: str = ""
    """one problem, instead of a benchmark"""
    answer: str | None = None
    """its gold answer, if known"""
    group_size: int = 8
    """completions to draw of it"""
    temperature: float = 1.0
    """sampling temperature"""
    max_new_tokens: int = 96
    """longest completion"""
    seed: int = 0
    """seed of the draws"""
    style: str = "auto"
    """layout of prompt=: auto, chat or plain"""
    system: str | None = None
    """system message of prompt="""
    tools: Any = None
    reward: Any = None
    advantage: Any = None


GROUPS = ("policy", "adapter", "data", "reward", "advantage", "loss", "sampler", "trainer", "experiment")


def register() -> None:
    """Make schemas and resolvers known to Hydra. May be called more than once."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def run_name(overrides: str, seed: int) -> str:
    """A folder name from a run's overrides: letters, digits, ``.``, ``_`` and ``-`` alone.

    Where other characters are replaced, or the name is cut, a checksum keeps apart what would become alike.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", overrides).strip("-.")
    if len(name) > _MAX_NAME or name != overrides:
        name = f"{name[:_MAX_NAME]}-{zlib.crc32(overrides.encode()):08x}"
    return "__".join(part for part in (name, f"seed-{seed}") if part)


def compose_job(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of one job, Hydra's own part included."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose(config_name, overrides=list(overrides), return_hydra_config=True)


def without_hydra(config: DictConfig) -> DictConfig:
    """The job's own part of a composed configuration."""
    copy = config.copy()
    OmegaConf.set_readonly(copy, False)
    OmegaConf.set_struct(copy, False)
    copy.pop("hydra", None)
    return copy
