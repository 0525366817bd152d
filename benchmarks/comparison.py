"""A setting that is compared, and the tables that are made of what was measured."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import Any

import equality
import report
from sides import Setting
from workload import Size, completion_lengths

PHASES = (
    "generation",
    "old and reference",
    "training",
    "- forward",
    "- backward",
    "- optimizer and rest",
    "whole step",
)
"""Phases in the order of the tables; the three with a dash are parts of training."""
SIDES = ("grouprl", "TRL")


@dataclass(frozen=True)
class Job:
    """One setting to compare."""

    size: Size
    setting: Setting
    ratio: str
    pairs: int

    @property
    def title(self) -> str:
        """What it is called in tables."""
        lora = ", LoRA" if self.setting.lora else ""
        ratio = "" if self.ratio == "default" else f", prompt:completion {self.ratio}"
        return f"{self.size.name}, {self.size.sequences} sequences, beta {self.setting.beta:g}{lora}{ratio}"

    @property
    def details(self) -> str:
        """Model and batch in words."""
        size, setting = self.size, self.setting
        micro = setting.micro_batch_size or size.sequences
        return (
            f"{size.layers} layers of {size.hidden}, vocabulary {size.vocabulary:,}; prompts: {size.prompts} of "
            f"{size.prompt_tokens[0]} to {size.prompt_tokens[1]} tokens; completions of each: {size.group} of "
            f"{size.new_tokens[0]} to {size.new_tokens[1]} tokens; {size.epochs} epochs, "
            f"micro-batches of {micro} sequences; "
            f"{'bfloat16 over float32 weights' if setting.bf16 else 'float32'}"
            f"{', gradient checkpointing' if setting.checkpointing else ''}"
            f"{', compiled layers' if setting.compiled else ''}{'' if setting.graphs else ', no CUDA graphs'}"
            f"{', TRL made to score completions alone' if setting.compact_head else ''}"
        )

    @classmethod
    def read(cls, text: str) -> Job:
        """The job that was written with `json.dumps(asdict(job))`."""
        data = json.loads(text)
        size = {name: tuple(value) if isinstance(value, list) else value for name, value in data.pop("size").items()}
        return cls(size=Size(**size), setting=Setting(**data.pop("setting")), **data)


def summary(found: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Median seconds of both sides and ratios TRL/grouprl (least, median, most over the pairs), by phase."""
    rows = {}
    for label in PHASES:
        phase = label.removeprefix("- ")
        seconds = {name: [pair[name].get(phase) for pair in found["pairs"]] for name in SIDES}
        row: dict[str, float | None] = {
            name: None if None in values else statistics.median(values) for name, values in seconds.items()
        }
        if None not in row.values():
            ratios = [theirs / ours for ours, theirs in zip(seconds["grouprl"], seconds["TRL"], strict=True) if ours]
            row |= {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}
        if any(value is not None for value in row.values()):
            rows[label] = row
    return rows


def lines_of(results: list[dict[str, Any]], where: dict[str, Any]) -> list[str]:
    """The report."""
    kind = "wall" if results[0]["job"]["setting"]["wall"] else "CPU"
    lines = report.heading("grouprl and TRL's GRPOTrainer", where)
    lines += [
        f"Ratios are TRL/grouprl of {kind} seconds over interleaved pairs of steps, median (least to most): above 1, "
        "grouprl is faster. Memory is grouprl/TRL of the peak above the built model: below 1, grouprl needs less.",
        "",
    ]
    rows = []
    for result in results:
        phases = result["summary"]
        memory = result.get("memory")
        rows.append(
            [
                result["title"],
                *(spread(phases.get(phase, {})) for phase in ("whole step", "generation", "training")),
                f"{memory['grouprl'] / memory['TRL']:.2f}" if memory else "-",
            ]
        )
    lines += report.table(["setting", "whole step", "generation", "training", "memory"], rows)
    for result in results:
        lines += [f"## {result['title']}", "", f"{result['details']}.", ""]
        lines += [f"Against plain transformers: {equality.describe(result['equality'])}", ""]
        columns = ["phase", "TRL s", "grouprl s", "TRL/grouprl", "least", "most"]
        lines += report.table(
            columns,
            [
                [name, *(number(row.get(key)) for key in ("TRL", "grouprl", "median", "min", "max"))]
                for name, row in result["summary"].items()
            ],
        )
        lines += report.table(["throughput and floor", "TRL", "grouprl", "floor"], floor_rows(result))
        if "memory" in result:
            memory = result["memory"]
            lines += [
                f"Peak memory above the built model: TRL {memory['TRL']:,.0f} MiB, "
                f"grouprl {memory['grouprl']:,.0f} MiB.",
                "",
            ]
    return lines


def floor_rows(result: dict[str, Any]) -> list[list[str]]:
    """Tokens a second, and seconds as multiples of the floors, of both sides."""
    size, rates, least = Job.read(json.dumps(result["job"])).size, result["rates"], result["floors"]
    pairs = range(1, len(result["pairs"]) + 1)
    tokens = sum(int(completion_lengths(size, number).sum()) for number in pairs) / len(pairs)
    seconds = {phase: [result["summary"][phase][name] for name in ("TRL", "grouprl")] for phase in result["summary"]}
    rows = []
    for phase, work, floor in (("generation", tokens, "decode"), ("training", tokens * size.epochs, "training")):
        taken = [*seconds[phase], least[floor]]
        rows.append([f"{phase}, completion tokens/s", *(f"{work / value:,.0f}" for value in taken)])
    for phase, floor in (("generation", "decode"), ("generation", "decode with cache"), ("training", "training")):
        multiples = (f"{value / least[floor]:.2f} x" for value in seconds[phase])
        rows.append([f"{phase} / floor ({floor})", *multiples, f"{least[floor]:.3g} s"])
    rows.append(["memory bandwidth; matrix product", "", "", f"{rates['bytes_per_s'] / 1e9:,.1f} GB/s; "
                 f"{rates['flop_per_s'] / 1e12:,.3g} TFLOP/s"])  # fmt: skip
    return rows


def spread(row: dict[str, float | None]) -> str:
    """A ratio as median (least to most)."""
    return f"{row['median']:.2f} ({row['min']:.2f} to {row['max']:.2f})" if "median" in row else "-"


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"
