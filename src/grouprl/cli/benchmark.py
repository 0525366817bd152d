"""Benchmarks from the command line: which ones, in which modes, and what is left behind.

python evaluate.py policy=POLICY benchmark=[gsm8k,math500] mode=[cot,tir]
"""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra.utils
from omegaconf import DictConfig

from grouprl.checks import choice
from grouprl.cli.config.inputs import package_digest
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.saved import run_of
from grouprl.cli.jobs.locks import alone
from grouprl.data.checks import place
from grouprl.evaluation.audit import audit, lines_of
from grouprl.evaluation.benchmarks import Benchmark, BenchmarkProblem, benchmarks_of, load_benchmark, names_of
from grouprl.evaluation.kept import SETTINGS_FILE, refuse_changed
from grouprl.evaluation.results import digest, markdown, read_results, summarize, verdict_of, write_results
from grouprl.evaluation.rows import Grading
from grouprl.files import Row, refuse_links, write_parquet, write_text
from grouprl.training.records import LOCK_FILE, read_result, source_commit, versions

if TYPE_CHECKING:
    from grouprl.data.exemplars import Exemplar
    from grouprl.evaluation.runner import EvaluationSettings
    from grouprl.policy.policy import Policy

MODES = ("cot", "tir")
OF_THE_POLICY = ("temperature", "chat_template_kwargs", "skip_special_tokens")
"""Options that a policy is loaded with."""
_OF_THE_ANSWERS = ("samples", "temperature", "max_new_tokens", "limit", "seed", "extraction", "shots")
"""Options that decide what is sampled and how it is graded."""


def check(config: DictConfig) -> None:
    """Refuse what cannot be evaluated, before a model is loaded."""
    try:
        benchmarks_of(config.benchmark)
        for mode in names_of(config.mode, "mode"):
            choice("mode", mode, MODES)
        choice("extraction", config.extraction, ("lenient", "boxed"))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if config.shots is not None and config.shots < 0:
        raise UsageError(f"shots={config.shots}: give at least 0, or null for what each benchmark says.")
    if config.samples < 0 or config.samples == 1 or (config.limit is not None and config.limit < 1):
        raise UsageError("samples: 0 for one greedy completion, or at least 2; limit: at least 1.")
    if config.data_dir is not None and not place(config.data_dir).is_dir():
        raise UsageError(f"data_dir={config.data_dir}: there is no such folder. Give one with the JSONL files.")


@dataclass(frozen=True)
class _Work:
    """All that is to be measured, loaded."""

    policy: Policy
    benchmarks: dict[str, Benchmark]
    problems: dict[str, list[BenchmarkProblem]]
    exemplars: dict[str, list[Exemplar]]
    settings: dict[str, EvaluationSettings]
    """By mode."""
    inputs: dict[str, str]
    """Digests of the policy and of the package, by name."""


def run(config: DictConfig, folder: str, name: str) -> None:
    """Evaluate a policy on benchmarks; results as JSON, Markdown, Parquet and TensorBoard.

    Args:
        config: The composed options.
        folder: Hugging Face folder or hub id of the policy.
        name: What results call it.
    """
    from grouprl.cli.build import quiet_libraries

    quiet_libraries()
    work = _load(config, folder)
    asked = {key: config[key] for key in (*_OF_THE_ANSWERS, "exemplars", "data_dir")} | work.inputs
    out = Path(config.out or f"evaluations/{_slug(name)}-{digest(asked)}")
    refuse_links(out)
    _results_in(out, work, config.accept_changed)  # before anything in the folder is touched
    with alone(out, "out"):
        _run(config, work, out, name)


def _run(config: DictConfig, work: _Work, out: Path, name: str) -> None:
    from grouprl.runtime.machine import describe, differences

    results = _results_in(out, work, config.accept_changed)
    results |= {"policy": name, "versions": versions(), "commit": source_commit(), "template": _template(work.policy)}
    machine = describe(str(work.policy.dtype).removeprefix("torch."))
    before = results.get("machine") or {}
    for key, (old, new) in differences(before, machine).items():
        print(f"note: {key} is {new}, and was {old} for what is kept in {out}", file=sys.stderr)
    if differences(before, machine):
        results["machines_before"] = [*results.get("machines_before", ()), before]
    results |= {"inputs": work.inputs, "machine": machine}
    measured = results.setdefault("measured", {})
    audited = list[str]()
    for key, rows, summary in _measure(work, out, config.accept_changed, contaminated_problems(config.policy)):
        measured[key] = summary
        if config.audit:
            audits = audit(rows, Grading.of(work.benchmarks[key.partition("/")[0]], config.extraction))
            summary["audit"] = audits
            audited += ["", f"{key}, read by others:", "", *lines_of(audits)]
        write_parquet(out / f"{key.replace('/', '-')}.parquet", rows)
        write_results(out, results)
    table = markdown(measured, {n: b.title for n, b in work.benchmarks.items()})
    table = "\n".join([table, *audited])
    write_text(out / "results.md", table + "\n")
    _log(out, measured, table)
    print(f"\n{table}\n\nresults      {out}\nTensorBoard  tensorboard --logdir {shlex.quote(str(out))}")


def _load(config: DictConfig, folder: str) -> _Work:
    from grouprl.evaluation.exemplars import exemplars_for
    from grouprl.evaluation.runner import EvaluationSettings, inputs_of
    from grouprl.policy.load import load_policy
    from grouprl.runtime.machine import use_determinism, use_threads
    from grouprl.sandbox.attacks import NOT_STOPPED
    from grouprl.sandbox.sandbox import SandboxError

    benchmarks = {name: load_benchmark(name) for name in benchmarks_of(config.benchmark)}
    for absent in _missing_of_a_group(config, benchmarks):
        print(f"not measured: {absent} (data_dir has no {benchmarks.pop(absent).file})", file=sys.stderr)
    modes = names_of(config.mode, "mode")
    try:
        tools = hydra.utils.instantiate(config.tools)
        settings = {
            mode: EvaluationSettings(
                mode=mode,  # type: ignore[arg-type]
                **{key: config[key] for key in _OF_THE_ANSWERS},
                block=config.block,
                tools=tools,
            )
            for mode in modes
        }
        problems = {n: b.problems(config.data_dir, config.limit) for n, b in benchmarks.items()}
        exemplars = {n: exemplars_for(b, config.exemplars, config.data_dir) for n, b in benchmarks.items()}
        use_determinism(config.deterministic)
        policy = load_policy(folder, **{key: config[key] for key in OF_THE_POLICY})
        use_threads(config.threads, policy.weights)
        if "tir" in modes:
            tools.sandbox.check()
            print(f"tools: sandboxed; not limited: {'; '.join(NOT_STOPPED)} (docs/tools.md)", file=sys.stderr)
    except (ValueError, OSError, SandboxError) as error:
        raise UsageError(str(error)) from error
    inputs = inputs_of(policy) | {"grouprl": package_digest()}
    return _Work(policy, benchmarks, problems, exemplars, settings, inputs)


def _results_in(out: Path, work: _Work, accepted: Sequence[str]) -> dict[str, Any]:
    """The results to add to: not those of another policy, or of other code; and files of the user's stay."""
    results = read_results(out) or {}
    names = sorted(file.name for file in out.iterdir()) if out.is_dir() else []
    is_one = any(out.glob(f"samples/*/*/{SETTINGS_FILE}"))  # whose results were removed, or not written yet
    if not results and not is_one and set(names) - {"samples", LOCK_FILE}:
        raise UsageError(
            f"out={out}: it holds other files ({', '.join(n for n in names if n != LOCK_FILE)}) and is no evaluation. "
            "Choose an empty or new out=FOLDER."
        )
    if results:
        try:
            refuse_changed(str(out), results.get("inputs") or {}, work.inputs, accepted)
        except ValueError as error:
            raise UsageError(str(error)) from error
    return results


def _measure(
    work: _Work, out: Path, accepted: Sequence[str], trained_on: Mapping[str, Sequence[int]] | None
) -> Iterator[tuple[str, list[Row], dict[str, Any]]]:
    """Of each benchmark in each mode its key, the rows of all samples and their summary."""
    from tqdm import tqdm

    from grouprl.evaluation.runner import Evaluation, limits_of
    from grouprl.runtime.guards import TrainingError

    memory = limits_of(work.policy)
    total = len(work.settings) * sum(map(len, work.problems.values()))
    with tqdm(total=total, unit="problem", file=sys.stderr, mininterval=1.0) as bar:
        for (which, benchmark), (mode, settings) in itertools.product(work.benchmarks.items(), work.settings.items()):
            bar.set_description(f"{which}/{mode}")
            place, problems = out / "samples" / which / mode, work.problems[which]
            try:
                evaluation = Evaluation(
                    work.policy,
                    benchmark,
                    settings,
                    place,
                    inputs=work.inputs,
                    accepted=accepted,
                    exemplars=work.exemplars[which],
                    memory=memory,
                )
                rows = evaluation.run(problems, bar.update)
            except (ValueError, TrainingError) as error:
                raise UsageError(str(error)) from error
            summary = {
                **summarize(rows),
                "limited": len(problems) < benchmark.size,
                "settings": {**evaluation.description, "inputs": evaluation.inputs},
                **({"accepted_changes": evaluation.accepted_changes} if evaluation.accepted_changes else {}),
                "contamination": verdict_of(rows, trained_on, which),
            }
            yield f"{which}/{mode}", rows, summary


def _missing_of_a_group(config: DictConfig, benchmarks: Mapping[str, Benchmark]) -> list[str]:
    """Members of a group (all, cot, tir) that the data folder does not have; one that was named is an error later."""
    if config.data_dir is None:
        return []
    named = names_of(config.benchmark, "benchmark")
    files_of = {name: benchmark.file for name, benchmark in benchmarks.items() if name not in named}
    return [name for name, file in files_of.items() if file and not (place(config.data_dir) / file).is_file()]


def contaminated_problems(policy: str) -> Mapping[str, Sequence[int]] | None:
    """Indices of benchmark problems that a run was trained on, by benchmark; None where that was not checked."""
    folder = run_of(policy)
    result = read_result(folder) if folder.is_dir() else None
    found = (result or {}).get("contamination")
    return None if found is None else {name: report["indices"] for name, report in found.items()}


def _log(out: Path, measured: Mapping[str, Any], table: str) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out)) as writer:
        for key, summary in measured.items():
            writer.add_scalar(f"benchmark/{key}/accuracy", summary["accuracy"]["value"])
            writer.add_scalar(f"benchmark/{key}/truncated", summary["truncated"])
        writer.add_text("benchmarks", table)


def _template(policy: Any) -> str:
    return "the tokenizer's chat template" if getattr(policy.tokenizer, "chat_template", None) else "plain"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:] or "policy"
