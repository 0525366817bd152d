"""Publish a run as a Hugging Face folder with a model card: ``python -m grouprl.training.export run=RUN out=DIR``.

Adapters are merged, weights are safetensors, and the card is made from what the run wrote down: components and options,
seed, commit and versions, data, overlap with benchmarks, and measured accuracies with their intervals.
"""

from __future__ import annotations

import difflib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grouprl.answers.grading import GRADER_VERSION
from grouprl.evaluation.benchmarks import load_benchmark
from grouprl.evaluation.results import RESULTS_FILE, read_results
from grouprl.files import read_yaml, replacing_files
from grouprl.training.records import CONFIG_FILE, POLICY_FOLDER, read_result

_OPTIONS = ("run", "out", "evaluation", "name", "allow_unfinished")
_SHOWN = {"pass@1": "pass@1, held-out problems", "greedy": "greedy accuracy, held-out problems"}
_OPTIONS_SHOWN = (
    "steps", "prompts_per_step", "group_size", "ppo_epochs", "minibatches", "eps_low", "eps_high", "beta", "lr",
    "temperature", "max_new_tokens",
)  # fmt: skip


class ExportError(ValueError):
    """A run that cannot be exported; the text says why and what to do."""


def export(
    run: Path, out: Path, *, evaluation: Path | None = None, name: str | None = None, allow_unfinished: bool = False
) -> Path:
    """Write the policy of a run, whole, with tokenizer, generation config and model card.

    Args:
        run: Run folder.
        out: Folder to write; it must not hold anything yet.
        evaluation: Folder that ``evaluate.py`` wrote for this policy, whose results go into the card.
        name: Name in the card; None: the run's.
        allow_unfinished: Export the last saved policy of a run that was not finished.
    """
    result, config = read_result(run), read_yaml(run / CONFIG_FILE, {"data?": dict})
    if result is None or config is None:
        raise ExportError(f"run={run}: not a run folder (it needs result.json and config.yaml).")
    if result["state"] != "finished" and not allow_unfinished:
        raise ExportError(
            f"run={run}: the run is {result['state']}. Finish it (python train.py {shlex.quote(f'resume={run}')}), "
            "or add allow_unfinished=true for the policy it saved last."
        )
    folder = _policy_folder(run)
    measured = read_results(evaluation) if evaluation else None
    if evaluation and measured is None:
        raise ExportError(f"evaluation={evaluation}: it holds no {RESULTS_FILE}. Give a folder that evaluate.py wrote.")
    if out.exists() and any(out.iterdir()):
        raise ExportError(f"out={out}: there is something in it already. Give another folder.")
    with replacing_files(out) as place:
        _save(folder, place)
        (place / "README.md").write_text(card(result, config, measured, name=name or result["run"]), encoding="utf-8")
    return out


def _policy_folder(run: Path) -> Path:
    saved = [run / POLICY_FOLDER, *sorted((run / "policies").glob("*"), reverse=True)]
    for folder in saved:
        if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
            return folder
    raise ExportError(f"run={run}: it has saved no policy yet.")


def _save(folder: Path, out: Path) -> None:
    from grouprl.policy.load import load_policy

    policy = load_policy(str(folder))
    model = policy.base
    settings = model.generation_config
    assert settings is not None
    settings.do_sample, settings.temperature, settings.top_p, settings.top_k = False, None, None, None
    settings.eos_token_id, settings.pad_token_id = list(policy.eos_ids), policy.tokenizer.pad_token_id
    model.config._name_or_path = ""  # the folder it was loaded from
    model.save_pretrained(str(out), safe_serialization=True)
    policy.tokenizer.save_pretrained(str(out))


def card(result: Mapping[str, Any], config: Mapping[str, Any], measured: Mapping[str, Any] | None, *, name: str) -> str:
    """The model card: metadata with ``model-index``, and the same for people."""
    from huggingface_hub import EvalResult, ModelCardData

    rows = [*_heldout(result, config), *_benchmarks(measured)]
    evaluations = [
        EvalResult(
            task_type="text-generation",
            dataset_type=row["dataset"],
            dataset_name=row["title"],
            metric_type=row["metric"],
            metric_value=round(100 * row["value"], 2),
            metric_args={
                "confidence_interval_95": [round(100 * row["low"], 2), round(100 * row["high"], 2)],
                "questions": row["questions"],
                "mode": row["mode"],
            },
        )
        for row in rows
    ]
    data = ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["grouprl", "reinforcement-learning", "math"],
        eval_results=evaluations or None,
    )
    table = [
        f"| {row['title']} | {row['metric']} | {row['mode']} | {100 * row['value']:.1f} "
        f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}] | {row['questions']} |"
        for row in rows
    ]
    choices = {key: value for key, value in result.get("choices", {}).items() if value}
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        "Trained with grouprl by group-relative reinforcement learning.",
        "## Recipe",
        _bullets({"overrides": " ".join(result.get("overrides", [])) or "none (the defaults)", **choices}),
        _bullets(
            {key: config[key] for key in _OPTIONS_SHOWN if key in config}
            | {"iterations done": result.get("iterations")}
        ),
        "## Provenance",
        _bullets({"seed": result.get("seed"), "commit": result.get("commit"), **result.get("versions", {})}),
        "## Data",
        _bullets({key: value for key, value in config.get("data", {}).items() if value not in (None, "")}),
        f"Overlap with benchmarks: {contamination_verdict(result)}",
        "## Measured",
        f"95% intervals; grader version {GRADER_VERSION}. Held-out problems are of the training distribution.",
        "| what | metric | mode | percent | questions |\n|---|---|---|---|---|\n"
        + "\n".join(table or ["| nothing | | | | |"]),
    ]
    return "\n\n".join(parts) + "\n"


def contamination_verdict(result: Mapping[str, Any]) -> str:
    """What a run knows of its training problems' overlap with benchmarks."""
    found = result.get("contamination")
    if found is None:
        return "not checked."
    hit = {name: report["test_overlapping"] for name, report in found.items() if report["test_overlapping"]}
    if not hit:
        return f"none found (checked: {', '.join(found)})."
    return "; ".join(f"{count} problems of {name}" for name, count in hit.items()) + " are among the training problems."


def _heldout(result: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    metrics, data = result.get("metrics", {}), config.get("data", {})
    source = str(data.get("name") or Path(str(data.get("path", "embedded task"))).name)
    rows = []
    for key, title in _SHOWN.items():
        place = f"heldout/{key}/after"
        if place in metrics:
            rows.append(
                {"dataset": source, "title": title, "metric": key, "mode": "as trained", "value": metrics[place]}
                | {"low": metrics[f"{place}/low"], "high": metrics[f"{place}/high"]}
                | {"questions": int(metrics[f"{place}/count"])}
            )
    return rows


def _benchmarks(measured: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    rows = []
    for key, summary in (measured or {}).get("measured", {}).items():
        name, _, mode = key.partition("/")
        benchmark = load_benchmark(name)
        rows.append(
            {"dataset": benchmark.dataset or name, "title": benchmark.title, "metric": "accuracy", "mode": mode}
            | summary["accuracy"]
            | {"questions": summary["questions"]}
        )
    return rows


def _bullets(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: `{value}`" for key, value in values.items() if value is not None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m grouprl.training.export``."""
    try:
        values = _parse(list(sys.argv[1:] if arguments is None else arguments))
        out = export(
            Path(values["run"]),
            Path(values["out"]),
            evaluation=Path(values["evaluation"]) if "evaluation" in values else None,
            name=values.get("name"),
            allow_unfinished=json.loads(values.get("allow_unfinished", "false").lower()),
        )
    except (ValueError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{out}: AutoModelForCausalLM.from_pretrained({str(out)!r}), AutoTokenizer.from_pretrained({str(out)!r})")


def _parse(arguments: Sequence[str]) -> dict[str, str]:
    values = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if key not in _OPTIONS or not sign or not value:
            close = difflib.get_close_matches(key, _OPTIONS, n=1)
            hint = f" Did you mean {close[0]}=...?" if close else ""
            raise ExportError(f"{argument}: write KEY=VALUE with a key of {', '.join(_OPTIONS)}.{hint}")
        values[key] = value
    if values.get("allow_unfinished", "false").lower() not in ("true", "false"):
        raise ExportError(f"allow_unfinished={values['allow_unfinished']}: true or false.")
    missing = [key for key in ("run", "out") if key not in values]
    if missing:
        raise ExportError(
            f"{' and '.join(missing)} has no value. Write: python -m grouprl.training.export run=RUN out=DIR"
        )
    return values


if __name__ == "__main__":
    main()
