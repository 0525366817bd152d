"""Types and one-line descriptions of the options, and the old names of renamed ones. Values live in `conf/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class PromptConfig:
    """How problems become prompts."""

    style: str = MISSING
    """auto, chat or plain."""
    system: str | None = MISSING
    """System message."""
    exemplars: str | None = MISSING
    """JSONL file of worked examples before each problem: problem, solution, answer."""
    context: int | None = MISSING
    """Most tokens of prompt and completion together, if fewer than the model's."""
    overlong: str = MISSING
    """Problems that do not fit the context: refuse or drop."""


@dataclass
class PrefilterConfig:
    """Keep the problems that the policy solves sometimes, before training."""

    samples: int = MISSING
    """Samples of each training problem, 0: keep all."""
    min_correct: int = MISSING
    """Right ones at least."""
    max_correct: int | None = MISSING
    """Right ones at most, null: all but one."""


@dataclass
class OverlapConfig:
    """Whether training problems are test problems of a benchmark, before training."""

    benchmarks: Any = MISSING
    """Those to compare with: one, [several], all, cot, tir, or [] for none."""
    data_dir: str | None = MISSING
    """Folder of their JSONL files, null: the hub."""
    allow: list[str] = MISSING
    """Benchmarks that may be trained on."""
    action: str = MISSING
    """What is done about other overlaps: refuse, or drop the problems."""


@dataclass
class TrainConfig:
    """The options of a run. Each docstring is what ``--help`` shows."""

    steps: int = MISSING
    """RL iterations"""
    prompts_per_step: int = MISSING
    """prompts of an iteration"""
    group_size: int = MISSING
    """completions per prompt"""
    ppo_epochs: int = MISSING
    """PPO epochs over each rollout"""
    minibatches: int = MISSING
    """optimizer steps of an epoch"""
    micro_batch_size: int = MISSING
    """sequences at once, 0: any"""
    micro_batch_tokens: int = MISSING
    """tokens at once, 0: any"""
    on_out_of_memory: str = MISSING
    """or halve and go on"""
    eps_low: float = MISSING
    """lower side of the clip"""
    eps_high: float = MISSING
    """upper side of the clip"""
    beta: float = MISSING
    """KL coefficient, 0: no reference"""
    lr: float = MISSING
    """peak learning rate"""
    warmup_steps: int = MISSING
    """iterations of warm-up"""
    lr_decay: bool = MISSING
    """linear decay to a tenth"""
    max_grad_norm: float = MISSING
    """largest gradient norm"""
    temperature: float = MISSING
    """of sampling and training"""
    max_new_tokens: int = MISSING
    """longest completion"""
    mask_truncated: bool = MISSING
    """leave truncated out"""
    mismatch_tolerance: float | None = MISSING
    """sampler against trainer"""
    target_kl: float | None = MISSING
    """end the epochs past this KL"""
    max_skipped_steps: int = MISSING
    """in a row, non-finite"""
    on_unscorable: str = MISSING
    """drop_group, stop"""
    seed: int = MISSING
    """seed of everything"""
    repeat: str | None = MISSING
    """other draws, by a name"""
    deterministic: bool = MISSING
    """same bits every time"""
    threads: int | None = MISSING
    """of the CPU, or by model size"""
    resume: str | None = MISSING
    """run folder to go on with"""
    resume_fall_back: bool = MISSING
    """skip damaged ones"""
    accept_changed: list[str] = MISSING
    """allowed to differ"""
    stop_grace_s: float = MISSING
    """time to end in, 0: no limit"""
    eval_every: int = MISSING
    """0: before and after"""
    eval_samples: int = MISSING
    """of a held-out problem"""
    final_eval_samples: int = MISSING
    """at the end"""
    checkpoint_every: int | None = MISSING
    """0: none, or by time"""
    keep_checkpoints: int = MISSING
    """the newest are kept"""
    save_policy_every: int = MISSING
    """0: at the end"""
    save_merged: bool = MISSING
    """save LoRA merged, too"""
    study: str = MISSING
    """folder of a sweep under runs/"""
    prefilter: PrefilterConfig = field(default_factory=PrefilterConfig)
    overlap: OverlapConfig = field(default_factory=OverlapConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    optimizer: Any = MISSING
    policy: Any = MISSING
    adapter: Any = MISSING
    data: Any = MISSING
    reward: Any = MISSING
    advantage: Any = MISSING
    loss: Any = MISSING
    sampler: Any = MISSING
    filter: Any = MISSING
    trainer: Any = MISSING


@dataclass
class StudyConfig:
    """Options of ``train.py -m``. Each docstring is what ``--help`` shows."""

    jobs: int = 1
    """runs at once, the cores divided"""
    margin: float = 1.0
    """points that do not matter"""
    metric: str = "final"
    """or area under the curve"""
    baseline: str | None = None
    """arm that others are compared with"""
    arms: list[str] = field(default_factory=list)
    """bases that are arms, [policy]"""
    until: str | None = None
    """decided: stop as soon as it is"""
    looks: list[int] = field(default_factory=list)
    """numbers of seeds to look after"""
    controls: bool = False
    """rewards that do not know"""
    tune: str | None = None
    """lr: the same grid for each arm"""
    tune_grid: list[float] = field(default_factory=list)
    """multiples that are tried"""
    tune_seeds: list[int] = field(default_factory=list)
    """none of the study's"""
    on_noop: str = "refuse"
    """or warn: arms that cannot differ"""
    question: str = ""
    """what is asked, in words"""


@dataclass
class EvaluateConfig:
    """Options of ``evaluate.py``."""

    policy: str = MISSING
    """run, folder or hub id"""
    source: str = MISSING
    """of policy=smollm2: hub, package"""
    chat_template_kwargs: dict[str, Any] = MISSING
    """names it asks for"""
    skip_special_tokens: bool = MISSING
    """left out of texts"""
    benchmark: Any = MISSING
    """one, [several], or all, cot, tir"""
    mode: Any = MISSING
    """cot, tir, or [cot,tir]"""
    samples: int = MISSING
    """of each problem, 0: one greedy"""
    limit: int | None = MISSING
    """only the first problems"""
    shots: int | None = MISSING
    """exemplars, or the benchmark's"""
    exemplars: str | None = MISSING
    """JSONL of your own exemplars"""
    extraction: str = MISSING
    """where answers are read, or boxed"""
    audit: bool = MISSING
    """read by others, too"""
    data_dir: str | None = MISSING
    """folder of JSONL files, or the hub"""
    out: str | None = MISSING
    """folder of results"""
    accept_changed: list[str] = MISSING
    """allowed to differ"""
    block: int = MISSING
    """problems done at once"""
    prompt: str = MISSING
    """a problem, instead of benchmarks"""
    answer: str | None = MISSING
    """its gold answer, if known"""
    group_size: int = MISSING
    """completions to draw of it"""
    temperature: float = MISSING
    """sampling temperature"""
    max_new_tokens: int = MISSING
    """longest completion"""
    seed: int = MISSING
    """seed of the draws"""
    deterministic: bool = MISSING
    """same bits every time"""
    threads: int | None = MISSING
    """of the CPU, or by model size"""
    style: str = MISSING
    """auto, chat or plain"""
    system: str | None = MISSING
    """system message of prompt="""
    stop: Any = MISSING
    """texts that end what prompt= gives"""
    tools: Any = MISSING
    reward: Any = MISSING
    advantage: Any = MISSING


GROUPS = (
    "policy", "adapter", "data", "reward", "advantage", "loss", "loss/gate", "loss/ratio", "loss/aggregation",
    "loss/kl", "loss/correction", "sampler", "sampler/tools", "filter", "optimizer", "trainer", "experiment",
)  # fmt: skip
"""The groups of components, the axes of one after it."""

READ_BY_COMPONENTS = ("eps_low", "eps_high", "beta", "lr", "group_size", "temperature")
"""Options that do nothing where no component refers to them."""

RENAMED = {
    "kl_stop": "target_kl",
    "clip_norm": "max_grad_norm",
    "ratio_tolerance": "mismatch_tolerance",
    "save_every": "checkpoint_every",
    "prefilter.least": "prefilter.min_correct",
    "prefilter.most": "prefilter.max_correct",
    "allow_contaminated": "overlap.allow",
    "benchmarks_dir": "overlap.data_dir",
    "check_benchmarks": "overlap.benchmarks",
    "on_overlap": "overlap.action",
    "loss.gate.ratio_max": "loss.gate.dual_clip",
    "sampler.tool_rounds": "sampler.tools.rounds",
    "sampler.tool_rounds.rounds": "sampler.tools.rounds",
}
"""Options by their old names, and what they are called now."""

FROM_TRL = {
    "num_generations": "group_size",
    "num_iterations": "ppo_epochs",
    "max_completion_length": "max_new_tokens",
    "learning_rate": "lr",
    "max_steps": "steps",
    "epsilon": "eps_low",
    "epsilon_high": "eps_high",
    "delta": "loss.gate.dual_clip",
    "kl_coef": "beta",
    "loss_type": "loss",
    "importance_sampling_level": "loss/ratio",
    "scale_rewards": "advantage",
    "mask_truncated_completions": "mask_truncated",
    "model_name_or_path": "policy.path",
    "output_dir": "hydra.run.dir (of a sweep study)",
    "save_steps": "checkpoint_every",
    "eval_steps": "eval_every",
}
"""What options of TRL's GRPOTrainer are called here."""
FOLDERS = ("run_dir", "out_dir", "outdir", "out", "output", "log_dir", "logdir", "save_dir", "dir", "folder")
"""What others call the folder of a run."""
RENAMED_CLASSES = {"DetachedRatioGate": "CispoGate", "SoftGate": "SapoGate"}
"""Classes that a ``_target_`` may name, likewise."""
