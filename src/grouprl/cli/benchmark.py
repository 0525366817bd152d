"""Benchmarks from the command line: which ones, in which modes, and what is left behind.

python evaluate.py policy=POLICY benchmark=[gsm8k,math500] mode=[cot,tir]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grouprl.benchmarks import GROUPS, Benchmark
from grouprl.cli.preflight import UsageError, unknown_component
from grouprl.cli.results import read_result, source_commit, versions

RESULTS_FILE = "results.json"
MODES = ("cot", "tir")


def names_of(value: Any, what: str) -> list[str]:
    """Names of a list, ``[a,b]`` or ``a``, in their order."""
    found = OmegaConf.to_container(value) if OmegaConf.is_config(value) else str(value).strip("[] ").split(",")
    names = [str(name).strip(" '\"") for name in found]  # type: ignore[union-attr]
    if not names or "" in names:
        raise UsageError(f"{what}={value}: name at least one.")
    return list(dict.fromkeys(names))


def benchmarks_of(value: Any) -> list[str]:
    """Names of benchmarks; ``all``, ``cot`` and ``tir`` stand for several."""
    known = sorted(Path(str(file)).stem for file in files("grouprl.conf").joinpath("benchmark").iterdir())
    names = [name for given in names_of(value, "benchmark") for name in GROUPS.get(given, (given,))]
    for name in names:
        if name not in known:
            raise UsageError(f"{unknown_component('benchmark', name)} Or several: all, cot, tir.")
    return list(dict.fromkeys(names))


def load_benchmark(name: str) -> Benchmark:
    """A benchmark of `conf/benchmark`."""
    config = OmegaConf.create(files("grouprl.conf").joinpath("benchmark", f"{name}.yaml").read_text(encoding="utf-8"))
    return hydra.utils.instantiate(config, _convert_="all")


def check(config: DictConfig) -> None:
    """Refuse what cannot be evaluated, before a model is loaded."""
    benchmarks_of(config.benchmark)
    for mode in names_of(config.mode, "mode"):
        if mode not in MODES:
            raise UsageError(f"mode={mode}: there is no such mode. Choices: {', '.join(MODES)}.")
    if config.samples < 0 or config.samples == 1 or (config.limit is not None and config.limit < 1):
        raise UsageError("samples: 0 for one greedy completion, or at least 2; limit: at least 1.")
    if config.extraction not in ("lenient", "boxed"):
        raise UsageError(f"extraction={config.extraction}: there is no such rule. Choices: lenient, boxed.")
    if config.data_dir is not None and not Path(config.data_dir).is_dir():
        raise UsageError(f"data_dir={config.data_dir}: there is no such folder. Give one with the JSONL files.")


def run(config: DictConfig, folder: str, name: str) -> None:
    """Evaluate a policy on benchmarks; results as JSON, Markdown, Parquet and TensorBoard."""
    from tqdm import tqdm

    from grouprl.benchmarking import Evaluation, Protocol, digest, limits_of, summarize, write_rows
    from grouprl.cli.build import quiet_libraries
    from grouprl.guards import TrainingError
    from grouprl.policy import load_policy
    from grouprl.tools import SandboxError
    from grouprl.tools.attacks import NOT_STOPPED

    quiet_libraries()
    modes, names = names_of(config.mode, "mode"), benchmarks_of(config.benchmark)
    benchmarks = {name: load_benchmark(name) for name in names}
    try:
        missing = _missing_of_a_group(config, benchmarks)
        for absent in missing:
            print(f"not measured: {absent} (data_dir has no {benchmarks.pop(absent).file})", file=sys.stderr)
        problems = {n: b.problems(config.data_dir, config.limit) for n, b in benchmarks.items()}
        shots = {n: b.exemplar_rows(config.exemplars, config.data_dir) for n, b in benchmarks.items()}
        policy = load_policy(folder, temperature=config.temperature)
        tools = hydra.utils.instantiate(config.tools)
        if "tir" in modes:
            tools.sandbox.check()
            print(f"tools: sandboxed; not limited: {'; '.join(NOT_STOPPED)} (docs/tools.md)", file=sys.stderr)
    except (ValueError, OSError, SandboxError) as error:
        raise UsageError(str(error)) from error
    kept = {key: config[key] for key in ("samples", "temperature", "max_new_tokens", "limit", "seed", "extraction")}
    protocols = {
        mode: Protocol(
            mode=mode,  # type: ignore[arg-type]
            **kept,
            shots=config.shots,
            block=config.block,
            tools=tools,
        )
        for mode in modes
    }
    asked = kept | {"shots": config.shots, "exemplars": config.exemplars, "name": name}
    out = Path(config.out or f"evaluations/{_slug(name)}-{digest(asked)}")
    memory, overlaps = limits_of(policy), contaminated_problems(config.policy)
    results: dict[str, Any] = read_results(out) or {}
    results |= {"policy": name, "versions": versions(), "commit": source_commit(), "template": _template(policy)}
    measured: dict[str, Any] = results.get("measured", {})
    total = len(modes) * sum(map(len, problems.values()))
    with tqdm(total=total, unit="problem", file=sys.stderr, mininterval=1.0) as bar:
        for benchmark_name, benchmark in benchmarks.items():
            for mode, protocol in protocols.items():
                key = f"{benchmark_name}/{mode}"
                bar.set_description(key)
                try:
                    place, shown = out / "samples" / benchmark_name / mode, shots[benchmark_name]
                    evaluation = Evaluation(
                        policy, benchmark, protocol, place, name=name, exemplars=shown, memory=memory
                    )
                    rows = evaluation.run(problems[benchmark_name], bar.update)
                except (ValueError, TrainingError) as error:
                    raise UsageError(str(error)) from error
                measured[key] = {
                    **summarize(rows),
                    "limited": len(problems[benchmark_name]) < benchmark.size,
                    "protocol": evaluation.description,
                    "contamination": _verdict(rows, overlaps, benchmark_name),
                }
                write_rows(out / f"{benchmark_name}-{mode}.parquet", rows)
                results["measured"] = measured
                _write_results(out, results)
    table = markdown(measured, {n: b.title for n, b in benchmarks.items()})
    (out / "results.md").write_text(table + "\n")
    _log(out, measured, table)
    print(f"\n{table}\n\nresults      {out}\nTensorBoard  tensorboard --logdir {out}")


def _missing_of_a_group(config: DictConfig, benchmarks: Mapping[str, Benchmark]) -> list[str]:
    """Members of a group (all, cot, tir) that the data folder does not have; one that was named is an error later."""
    if config.data_dir is None:
        return []
    named = names_of(config.benchmark, "benchmark")
    files_of = {name: benchmark.file for name, benchmark in benchmarks.items() if name not in named}
    return [name for name, file in files_of.items() if file and not (Path(config.data_dir) / file).is_file()]


def contaminated_problems(policy: str) -> Mapping[str, Sequence[int]] | None:
    """Indices of benchmark problems that a run was trained on, by benchmark; None where that was not checked."""
    result = read_result(Path(policy)) if Path(policy).is_dir() else None
    found = (result or {}).get("contamination")
    return None if found is None else {name: report["indices"] for name, report in found.items()}


def _verdict(rows: Sequence[dict[str, Any]], overlaps: Mapping[str, Sequence[int]] | None, name: str) -> dict[str, Any]:
    from grouprl.benchmarking import summarize

    if overlaps is None or name not in overlaps:
        return {"verdict": "not checked"}
    hit = set(overlaps[name])
    if not hit:
        return {"verdict": "no overlap with the training problems"}
    return {
        "verdict": f"trained on {len(hit)} of its problems",
        "without_overlap": summarize(rows, without=sorted(hit)),
    }


def markdown(measured: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """A table of what was measured, one row for each benchmark and mode."""
    lines = [
        "| benchmark | mode | accuracy | questions | truncated | tokens | unparsable | timeouts | contamination |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, summary in measured.items():
        name, _, mode = key.partition("/")
        extra = "".join(
            f", {n} {_percent(summary[n])}"
            for n in summary
            if n.startswith(("pass@", "maj@")) and summary["samples"] > 1
        )
        contamination = summary["contamination"]["verdict"]
        if "without_overlap" in summary["contamination"]:
            contamination += f"; without them {_percent(summary['contamination']['without_overlap']['accuracy'])}"
        lines.append(
            f"| {titles.get(name, name)} | {mode} | {_percent(summary['accuracy'])}{extra} | {summary['questions']}"
            f"{' (limited)' if summary['limited'] else ''} | {100 * summary['truncated']:.1f} % | "
            f"{summary['mean_tokens']:.0f} | {summary['unparsable']} | {summary['timeout']} | {contamination} |"
        )
    return "\n".join(lines)


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['value']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


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


def read_results(out: Path) -> dict[str, Any] | None:
    """What an evaluation folder holds, or None."""
    try:
        return json.loads((out / RESULTS_FILE).read_text())
    except (OSError, ValueError, OmegaConfBaseException):
        return None


def _write_results(out: Path, results: Mapping[str, Any]) -> None:
    temporary = out / f".{RESULTS_FILE}"
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.replace(out / RESULTS_FILE)
