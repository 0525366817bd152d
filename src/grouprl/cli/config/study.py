"""Options of a study, which say how its runs are done and judged and are no options of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.messages import UsageError, first_line
from grouprl.cli.config.preflight import check_job, choices_of
from grouprl.cli.config.schema import StudyConfig

if TYPE_CHECKING:
    from grouprl.studies.plan import StudyPlan, Tuning

DECIDED, SEED, REFUSE, WARN = "decided", "seed", "refuse", "warn"
_NAMED_AFTER = "hydra.job.config.override_dirname"
_TEXTS = ("baseline", "question")
_POLICY = ("policy", "policy.path")
TUNE_GRID, TUNE_SEEDS = (0.25, 0.5, 1.0, 2.0, 4.0), (1000, 1001)


def split_study(overrides: Sequence[str], *, multirun: bool) -> tuple[StudyConfig, list[str]]:
    """The options of a study among overrides, and the others.

    Raises:
        UsageError: One of them without ``-m``, or with a value that it cannot have.
    """
    names = StudyConfig.__dataclass_fields__
    ours = [o for o in overrides if o.partition("=")[0] in names]
    if ours and not multirun:
        raise UsageError(f"{ours[0]}: it is an option of a study. Add -m, and arms and seeds: -m advantage=rank,zscore")
    config = OmegaConf.structured(StudyConfig)
    for override in ours:
        key, _, text = override.partition("=")
        if key in _TEXTS:  # as it is: names of arms hold signs of their own
            config[key] = text.strip("'\"")
            continue
        try:
            parsed = OverridesParser.create().parse_override(override)
            if parsed.is_sweep_override():
                raise UsageError(f"{override}: give one value. What is swept are options of runs.")
            value = parsed.value()
            if isinstance(getattr(config, key, None), ListConfig) and not isinstance(value, list):
                value = [value]
            OmegaConf.update(config, parsed.key_or_group, value)
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(f"{override}: {first_line(error)}") from error
    found: Any = OmegaConf.to_object(config)
    _check(found)
    return found, [o for o in overrides if o not in ours]


def _check(study: StudyConfig) -> None:
    if study.jobs < 1:
        raise UsageError(f"jobs={study.jobs}: give 1 or more.")
    if study.until not in (None, DECIDED):
        raise UsageError(f"until={study.until}: write until={DECIDED}, or leave it out.")
    if study.on_noop not in (REFUSE, WARN):
        raise UsageError(f"on_noop={study.on_noop}: choose {REFUSE} or {WARN}.")
    if study.tune is None and (study.tune_grid or study.tune_seeds):
        raise UsageError("tune_grid and tune_seeds belong to tune=lr. Add it.")
    if study.looks and not study.until:
        raise UsageError(f"looks={study.looks}: they belong to until={DECIDED}. Add it.")


def short_names(overrides: Sequence[str], shared: Sequence[str] | None = None) -> list[str]:
    """The override with which run folders are named after what is swept, and not after what all runs share.

    Args:
        overrides: Of a batch.
        shared: Those of them that all runs of the study share; None: those that the batch does not sweep.
    """
    if any(override.startswith(_NAMED_AFTER) for override in overrides):
        return []
    parsed = OverridesParser.create().parse_overrides(list(overrides if shared is None else shared))
    swept = {o.key_or_group for o in parsed if o.is_sweep_override()}
    keys = [o.key_or_group for o in parsed if o.key_or_group not in swept and not o.key_or_group.startswith("hydra")]
    return [f"{_NAMED_AFTER}.exclude_keys=[{','.join(dict.fromkeys([SEED, 'study', *keys]))}]"] if keys else []


def check_arms(study: StudyConfig, plan: StudyPlan) -> list[str]:
    """What is to be said of arms that can differ by chance alone, or not at all.

    Raises:
        UsageError: Two arms are the same to the bit, and nobody said that they may be.
    """
    from grouprl.studies.noop import no_ops

    said: dict[str, list[str]] = {}
    for name, base in plan.bases.items():
        jobs = {arm: check_job("train", [*plan.common, *base, *own]) for arm, own in plan.arms.items()}
        arms: Any = {arm: OmegaConf.to_container(without_hydra(job), resolve=True) for arm, job in jobs.items()}
        if any(arm["data"].get("heldout_size") == 0 and not arm["data"].get("heldout_path") for arm in arms.values()):
            raise UsageError("data.heldout_size=0: arms are compared by held-out problems. Give some, or one arm.")
        for pair in no_ops(arms):
            if pair.how == "same" and study.on_noop == REFUSE:
                where = "" if len(plan.bases) == 1 else f"on {name} "
                raise UsageError(
                    f"{where}{pair}. Leave one of them out, or go on with on_noop={WARN}: their runs have equal bits."
                )
            said.setdefault(f"note: {pair}", []).append(name)
    every = len(plan.bases)
    return [f"{note}{'' if len(bases) == every else f' (on {chr(44).join(bases)})'}." for note, bases in said.items()]


def swept_options(overrides: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Values of each swept option, in the order of a command line, and the other overrides."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    choices = choices_of(parsed)
    return {k: v for k, v in choices.items() if k in swept}, [
        f"{k}={v[0]}" for k, v in choices.items() if k not in swept
    ]


def planned(study: StudyConfig, overrides: Sequence[str]) -> StudyPlan:
    """The plan of a command line.

    Raises:
        UsageError: It cannot be one.
    """
    from grouprl.studies.decomposition import CONTROLS
    from grouprl.studies.plan import plan_of

    swept, common = swept_options(overrides)
    for key, values in swept.items():
        if twice := [value for value in values if values.count(value) > 1]:
            raise UsageError(f"{key}={','.join(values)}: {twice[0]} is there twice. Give each value once.")
    looks = tuple(study.looks)
    if study.until and (alone := [override for override in common if override.startswith(f"{SEED}=")]):
        raise UsageError(f"{alone[0]}: until={DECIDED} takes a seed for each run. Give a range, or leave it out.")
    if study.until:
        looks = _looks(study, swept)
        swept = swept | {SEED: swept.get(SEED) or [str(seed) for seed in range(looks[-1])]}
        swept[SEED] = swept[SEED][: looks[-1]]
    if SEED in study.arms:
        raise UsageError("arms=[seed]: seeds are repetitions of an arm.")
    common = [override for override in common if not override.startswith("hydra")]
    tuning = _tuning(study, swept, common)
    try:
        plan = plan_of(
            swept,
            [override for override in common if tuning is None or override.partition("=")[0] != tuning.option],
            arm_keys=study.arms,
            question=study.question,
            controls=CONTROLS if study.controls else (),
            metric=study.metric,
            margin=study.margin,
            looks=looks,
            baseline=study.baseline,
            tuning=tuning,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if study.until and len(plan.arms) < 2:
        raise UsageError(f"until={DECIDED}: there is one arm, and nothing to decide. Sweep some: advantage=rank,zscore")
    return plan


def _tuning(study: StudyConfig, swept: dict[str, list[str]], common: list[str]) -> Tuning | None:
    """What every arm tries before: multiples of the value that the first one has."""
    from grouprl.studies.plan import Tuning

    if study.tune is None:
        return None
    if study.tune in swept:
        raise UsageError(f"tune={study.tune}: it is swept already. Leave one of them out.")
    first = [f"{key}={values[0]}" for key, values in swept.items()]
    value = OmegaConf.select(check_job("train", [*common, *first]), study.tune)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise UsageError(f"tune={study.tune}: it is {value}. Name an option that is a number above 0, such as lr.")
    grid, seeds = sorted(study.tune_grid or TUNE_GRID), tuple(study.tune_seeds or TUNE_SEEDS)
    if len(grid) < 3 or len(set(grid)) < len(grid) or grid[0] <= 0:
        raise UsageError(f"tune_grid={grid}: give three or more multiples above 0, such as [0.5,1,2].")
    shared = [seed for seed in seeds if str(seed) in swept.get(SEED, ())]
    if shared or not seeds:
        raise UsageError(f"tune_seeds={list(seeds)}: seed {shared[0] if shared else ''} is the study's. Give others.")
    return Tuning(study.tune, tuple(f"{value * factor:g}" for factor in grid), seeds)


def _looks(study: StudyConfig, swept: dict[str, list[str]]) -> tuple[int, ...]:
    from grouprl.studies.show.step import LOOKS

    seeds = len(swept.get(SEED, ()))
    if study.looks:
        if seeds and seeds < study.looks[-1]:
            raise UsageError(f"looks={study.looks}: {seeds} seeds are given. Give as many as the last look takes.")
        return tuple(study.looks)
    if not seeds:
        return LOOKS
    if seeds < LOOKS[0]:
        raise UsageError(
            f"until={DECIDED}: {seeds} seeds are given, and its first look is after {LOOKS[0]}. Give more, leave them "
            "out, or give looks of your own: looks=[...]."
        )
    return (*(look for look in LOOKS if look < seeds), seeds)


def launcher(study: StudyConfig, overrides: Sequence[str]) -> list[str]:
    """Overrides with which Hydra does several runs at once, the cores divided among them."""
    keys = {override.partition("=")[0] for override in overrides}
    if study.jobs == 1:
        return []
    if "hydra/launcher" in keys:
        raise UsageError(f"jobs={study.jobs}: hydra/launcher is given as well. Use one of them.")
    threads = [] if "threads" in keys else [f"threads={_threads(study.jobs, overrides)}"]
    return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={study.jobs}", *threads]


def one_precision(jobs: Iterable[DictConfig]) -> list[str]:
    """The override that holds all runs to bfloat16 where this machine would choose it for each of them.

    So a study that is taken up on another kind of processor is another study, and not one of mixed arithmetic.
    """
    from grouprl.policy.folder import weights_in
    from grouprl.runtime.machine import accelerator_of, precision_for

    found = {
        precision_for(
            weights_in(str(job.policy.path), job.policy.get("source", "auto")) or 0,
            accelerator_of(str(job.trainer.get("accelerator"))),
            job.policy.get("dtype", "float32"),
        )[0]
        if job.trainer.get("precision") == "auto"
        else ""
        for job in jobs
    }
    return ["trainer.precision=bf16-mixed"] if found == {"bf16-mixed"} else []


def _threads(jobs: int, overrides: Sequence[str]) -> int:
    """Of each run: its share of the cores, and no more than the smallest of the study's policies gains by."""
    from grouprl.policy.folder import weights_in
    from grouprl.runtime.machine import cores, threads_for

    swept, common = swept_options(overrides)
    policies = [swept.get(key, [None]) for key in _POLICY]
    first = [f"{key}={values[0]}" for key, values in swept.items() if key not in _POLICY]
    found = [max(1, cores() // jobs)]
    for values in itertools.product(*policies):
        chosen = [f"{key}={value}" for key, value in zip(_POLICY, values, strict=True) if value is not None]
        policy = check_job("train", [*common, *first, *chosen]).policy
        weights = weights_in(str(policy.path), policy.get("source", "auto"))
        found += [threads_for(weights, cores(), devices=jobs)] if weights else []
    return min(found)
