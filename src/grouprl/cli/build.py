"""From a composed configuration to objects. The only place where components are instantiated."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra.utils
import lightning as L
import torch
from hydra.errors import InstantiationException
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from transformers.utils import logging as transformers_logging

from grouprl.batch import Prompts
from grouprl.cli.config.inputs import package_digest
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.schema import GROUPS
from grouprl.data.checks import place
from grouprl.evaluation.benchmarks import BenchmarkProblem
from grouprl.evaluation.results import digest
from grouprl.module import GroupRLModule
from grouprl.policy.digests import config_digest, weights_digest
from grouprl.policy.policy import Policy
from grouprl.rewards.controls import WrongLabelReward
from grouprl.rewards.isolation import IsolatedReward, importable, load_object
from grouprl.rewards.own import try_reward
from grouprl.runtime.machine import accelerator_of, describe, precision_for, use_determinism, use_threads
from grouprl.studies.plan import read_plan
from grouprl.training import beforehand
from grouprl.training.advice import Advice
from grouprl.training.callbacks import HeldoutFile, MetricsFile, Progress, RewardFailures, SavePolicy
from grouprl.training.checkpoint import Checkpoints
from grouprl.training.datamodule import PromptDataModule
from grouprl.training.selection import benchmark_problems, check_overlap, solved_sometimes
from grouprl.training.shared import SharedStart
from grouprl.training.show.board import Overview, Samples
from grouprl.training.stopping import GracefulStop

_OF_THE_START = (
    "policy",
    "adapter",
    "sampler",
    "prompt",
    "temperature",
    "max_new_tokens",
    "group_size",
    "eval_samples",
    "seed",
    "trainer",
)
"""Options that samples of the untrained policy depend on, beside its weights and the problems."""


@dataclass(frozen=True)
class Run:
    """The objects of one run."""

    module: GroupRLModule
    data: PromptDataModule
    trainer: L.Trainer
    stop: GracefulStop
    contamination: dict[str, Any] | None = None
    """Overlap of the training problems with each benchmark; None: not checked."""

    def digests(self) -> dict[str, str]:
        """Digests of what was loaded, from a hub or from files, by name."""
        data, policy = self.data, self.module.policy
        splits = (data.train_prompts, data.heldout_prompts)
        return {
            "weights": weights_digest(policy),
            "config": config_digest(policy),
            "heldout": digest({"all": [data.heldout_prompts.problems, data.heldout_prompts.answers]}),
            "problems": digest({"all": [(part.problems, part.answers, part.intermediate) for part in splits]}),
            "prompts": digest({"all": [part.token_ids for part in splits]}),
        }


def build(
    config: DictConfig,
    folder: Path,
    *,
    config_hash: str = "",
    purge_step: int | None = None,
    threads: int | None = None,
    precision: str | None = None,
) -> Run:
    """Instantiate a run's components. A component that refuses its arguments becomes a `UsageError`.

    Args:
        config: The composed configuration.
        folder: Run folder.
        config_hash: Hash that its checkpoints carry.
        purge_step: From which iteration on TensorBoard does not show what was logged before; None: it shows all.
        threads: CPU threads where the configuration does not say: those of a run that is resumed.
        precision: The same of the trainer's precision.
    """
    _check_accelerator(config)
    find_own_files()
    use_determinism(config.deterministic)
    names = ("advantage", "loss", "sampler", "filter")
    advantage, loss, sampler, group_filter = (component(config, group) for group in names)
    reward, splits = build_reward(config), component(config, "data")
    sources = _benchmark_problems(config)
    try:
        splits, contamination = check_overlap(
            splits, sources, allow=config.overlap.allow, drop=config.overlap.action == "drop"
        )
        L.seed_everything(config.seed, verbose=False)
        policy: Policy = component(config, "policy")
        use_threads(config.threads or threads, policy.weights, devices=_devices(config))
        parts = (policy, sampler, reward, advantage, loss, component(config, "optimizer"))
        module = GroupRLModule(*parts, filter=group_filter, **_options_for(GroupRLModule, config))
        _try_optimizer(module)
        data = PromptDataModule(
            splits, policy, rounds=group_filter.rounds, **_options_for(PromptDataModule, config), **config.prompt
        )
        try_reward(reward, data.train_prompts.take([0]), sampler.group_size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    stop = GracefulStop(config.stop_grace_s)
    config = _with_trainer(config, policy.weights, precision)
    shared = [SharedStart(folder.parent, _start_key(config, module, data))] if read_plan(folder.parent) else []
    evaluates = len(data.heldout_prompts) > 0
    # What an interrupted iteration drew in TensorBoard is not shown beside its repetition.
    logger = TensorBoardLogger(str(folder), name="", version="", default_hp_metric=False, purge_step=purge_step)
    callbacks = [*shared, *_callbacks(config, folder, stop, config_hash, evaluates)]
    trainer = _build_trainer(config, logger, callbacks, evaluates)
    try:
        if config.prefilter.samples:
            draw = beforehand.drawing(module, trainer, config.prefilter.samples)
            data.train_prompts = _solved_sometimes(config, folder, module, data, draw)
        if isinstance(reward, WrongLabelReward):
            _find_labels(config, folder, module, data, reward, beforehand.drawing(module, trainer, reward.samples))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Run(module, data, trainer, stop, contamination)


def _start_key(config: DictConfig, module: GroupRLModule, data: PromptDataModule) -> str:
    """Digest of all that the evaluation before training depends on."""
    options: Any = OmegaConf.to_container(config, resolve=True)
    return digest(
        {
            "options": {name: options[name] for name in _OF_THE_START},
            "weights": [weights_digest(module.policy), config_digest(module.policy)],
            "heldout": [data.heldout_prompts.token_ids, data.heldout_prompts.answers],
            "machine": describe(str(options["trainer"].get("precision"))),
            "package": package_digest(),
        }
    )


def _devices(config: DictConfig) -> int:
    devices = config.trainer.get("devices", 1)
    return devices if isinstance(devices, int) and devices > 0 else 1


def _options_for(factory: Callable[..., Any], config: DictConfig) -> dict[str, Any]:
    """The options of a run that a class takes as keywords of the same name."""
    parameters = inspect.signature(factory).parameters.values()
    options = (p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in GROUPS)
    return {name: config[name] for name in options if name in config}


def _benchmark_problems(config: DictConfig) -> dict[str, list[BenchmarkProblem]]:
    """Problems of the benchmarks that training problems are compared with; none where that makes no sense or is off."""
    folder, names = config.overlap.data_dir, config.overlap.benchmarks
    named_data = "name" in config.data or "path" in config.data  # and not made by the package itself
    if not named_data or not names:
        return {}
    from_hub = "name" in config.data and not place(str(config.data.name)).exists()
    if folder is None and not from_hub:
        print("overlap with benchmarks: not checked (set overlap.data_dir=FOLDER of benchmark files to check it)")
        return {}
    return benchmark_problems(names, folder)


def _solved_sometimes(
    config: DictConfig, folder: Path, module: GroupRLModule, data: PromptDataModule, draw: beforehand.Draw
) -> Prompts:
    """The training prompts whose problems the policy solves neither always nor never."""
    wanted, prompts = config.prefilter, data.train_prompts
    sampled = [prompts.problems, prompts.answers, wanted.samples, config.seed]
    asked = digest({"sampled": sampled, "weights": weights_digest(module.policy)})
    counts = beforehand.solved_before(folder, len(prompts), asked)
    if counts is None:
        counts = beforehand.count_solved(draw, prompts, seed=config.seed)
        beforehand.keep_solved(folder, counts, asked)
    least, most = wanted.min_correct, wanted.samples - 1 if wanted.max_correct is None else wanted.max_correct
    kept = solved_sometimes(counts, least, most)
    print(f"prefilter: {len(kept)} of {len(prompts)} problems solved {least} to {most} of {wanted.samples} times")
    if not kept:
        raise ValueError(f"prefilter.min_correct={least}, max_correct={most}: no problem is left. Widen them.")
    return prompts.take(kept)


def _find_labels(
    config: DictConfig,
    folder: Path,
    module: GroupRLModule,
    data: PromptDataModule,
    reward: WrongLabelReward,
    draw: beforehand.Draw,
) -> None:
    """Let the reward find the wrong answers that it pays for, or take those of an earlier sitting."""
    prompts = data.drawn_prompts()
    asked = digest({"sampled": [reward.samples, config.seed], "weights": weights_digest(module.policy)})
    reward.labels.update(beforehand.labels_before(folder, asked) or {})
    missing = [place for place, problem in enumerate(prompts.problems) if problem not in reward.labels]
    if not missing:
        return
    beforehand.find_labels(reward, draw, prompts.take(missing), seed=config.seed)  # of more steps those that are new
    beforehand.keep_labels(folder, reward.labels, asked)
    labelled = sum(label is not None for label in reward.labels.values())
    print(f"wrong labels: {labelled} of {len(reward.labels)} problems have a wrong answer in {reward.samples} samples")


def quiet_libraries() -> None:
    """Silence what libraries say about themselves; warnings about a run stay."""
    transformers_logging.disable_progress_bar()
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Prompts are made in no time, the model is in eval mode on purpose, the position in the data is in the checkpoint,
    # and the last is internal to Lightning.
    own = ("does not have many workers", "in eval mode", "overridden `transfer_batch", "dataloader is not resumable")
    for message in (*own, "isinstance.treespec"):
        warnings.filterwarnings("ignore", f".*{message}.*")


def find_own_files() -> None:
    """Let ``_target_`` name a module in the folder the script was started from."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def component(config: DictConfig, group: str) -> Any:
    """Instantiate one component of a group or axis. An advantage or an axis of a loss may be a plain function."""
    node = OmegaConf.select(config, group.replace("/", "."))
    node = _with_own_code(group.replace("/", "."), node)
    try:
        return hydra.utils.instantiate(node, _convert_="all")
    except InstantiationException as error:
        raise UsageError(_cause(error, group)) from error


def _with_own_code(group: str, node: Any) -> Any:
    """A copy of a node for Hydra: a ``_target_`` in a file as in a module, and functions with their arguments given.

    A function is an advantage or an axis of a loss itself; elsewhere it makes the component.
    """
    if not isinstance(node, DictConfig):
        return node
    copy = node.copy()
    OmegaConf.set_struct(copy, False)
    parts = {group: copy} | {f"{group}.{k!s}": value for k, value in copy.items() if isinstance(value, DictConfig)}
    for where, part in parts.items():
        target = part.get("_target_")
        if target is not None and not str(target).startswith("grouprl."):
            try:
                part._target_ = importable(str(target))
                if group.partition(".")[0] in ("advantage", "loss") and "_partial_" not in part:
                    part._partial_ = not inspect.isclass(load_object(part._target_))
            except Exception as error:
                raise UsageError(f"{where}._target_={target}: cannot be imported: {_innermost(error)}") from error
    return copy


def build_reward(config: DictConfig) -> Any:
    """The reward: a plain function runs in a killable worker unless ``isolate`` is false, a class in this process."""
    target = config.reward["_target_"]
    try:
        found = load_object(target)
    except Exception as error:
        raise UsageError(f"reward._target_={target}: cannot be imported: {_innermost(error)}") from error
    options = {str(key): value for key, value in OmegaConf.to_container(config.reward, resolve=True).items()}  # type: ignore[union-attr]
    limits = {name: options.pop(name) for name in ("timeout_s", "memory_mb") if name in options}
    isolate, arguments = options.pop("isolate", None), {k: v for k, v in options.items() if k != "_target_"}
    if isolate if isolate is not None else not inspect.isclass(found):
        return IsolatedReward(target, arguments, **limits)
    if not inspect.isclass(found):
        return functools.partial(found, **arguments)
    try:
        return found(**{name: _made(value) for name, value in arguments.items()})
    except (TypeError, ValueError, InstantiationException) as error:
        raise UsageError(_cause(error, "reward")) from error


def _made(value: Any) -> Any:
    """A component that is an argument of another one."""
    is_one = isinstance(value, dict) and "_target_" in value
    return hydra.utils.instantiate(value, _convert_="all") if is_one else value


def _try_optimizer(module: GroupRLModule) -> None:
    """An optimizer that refuses its options does so before anything is sampled; it holds no state yet."""
    try:
        module.make_optimizer(module.trained_parameters())
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        group = module.make_optimizer
        options = ", ".join(f"{name}={value}" for name, value in getattr(group, "keywords", {}).items())
        raise UsageError(f"optimizer: its options are refused ({options}): {_innermost(error)}") from error


def _check_accelerator(config: DictConfig) -> None:
    wanted = config.trainer.get("accelerator", "auto")
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UsageError(
            f"trainer.accelerator={wanted}: torch {torch.__version__} sees no CUDA GPU. "
            "Use trainer=cpu or trainer=auto, or install a CUDA build of torch."
        )


def _callbacks(
    config: DictConfig, folder: Path, stop: GracefulStop, config_hash: str, has_heldout: bool
) -> list[L.Callback]:
    return [
        stop,
        Progress(every=max(1, config.steps // 15)),
        MetricsFile(folder),
        HeldoutFile(folder),
        RewardFailures(folder),
        Advice(),
        Overview(),
        Samples(every=config.eval_every or 25),
        SavePolicy(folder / "policies", every=config.save_policy_every),
        # Last, so that a checkpoint finds all that the others keep.
        Checkpoints(
            folder,
            stop,
            config_hash=config_hash,
            every=config.checkpoint_every,
            keep=config.keep_checkpoints,
            eval_every=config.eval_every if _evaluates(config, has_heldout) else 0,
        ),
    ]


def _evaluates(config: DictConfig, has_heldout: bool) -> bool:
    return has_heldout and 0 < config.eval_every <= config.steps


def _with_trainer(config: DictConfig, weights: int, before: str | None) -> DictConfig:
    """A copy with the accelerator and precision that ``auto`` stands for."""
    config = config.copy()
    OmegaConf.set_struct(config, False)
    trainer = config.trainer
    trainer.accelerator = accelerator_of(str(trainer.get("accelerator", "auto")))
    if trainer.get("precision") == "auto":
        chosen, why = precision_for(weights, str(trainer.accelerator), config.policy.get("dtype", "float32"))
        trainer.precision = before or chosen
        if why and trainer.precision == chosen:
            print(f"precision {chosen}: {why}. trainer.precision=32-true computes in float32")
    return config


def _build_trainer(
    config: DictConfig, logger: TensorBoardLogger, callbacks: list[L.Callback], has_heldout: bool
) -> L.Trainer:
    settings = dict(hydra.utils.instantiate(config.trainer, _target_="builtins.dict", _convert_="all"))
    evaluates = _evaluates(config, has_heldout)
    try:
        return L.Trainer(
            max_epochs=1,
            logger=logger,
            callbacks=callbacks,
            val_check_interval=config.eval_every if evaluates else None,
            check_val_every_n_epoch=None if evaluates else 1,
            limit_val_batches=1.0 if has_heldout else 0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            **settings,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"trainer: {error}") from error


def _cause(error: BaseException, group: str) -> str:
    text = _innermost(error)
    return text if "=" in text.split(":")[0] or group in text else f"{group}: {text}"


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    return text.split("\n")[0] if isinstance(error, TypeError) else text or type(error).__name__
