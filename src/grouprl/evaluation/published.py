"""Numbers of others, set beside measured ones: each with its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grouprl.evaluation.benchmarks import FEW_SHOT, TOOL_TABLE

SOURCES = {
    "c": "claimed by the REPO recipe, no intervals given",
    "q": "Qwen2.5-Math report, arXiv 2409.12122",
    "m": "measured here, with 95% interval",
}


@dataclass(frozen=True)
class PublishedRow:
    """Accuracies of one model in percent, in the order of a table's benchmarks; None where the source has none."""

    model: str
    source: str
    values: tuple[float | None, ...]


FEW_SHOT_ROWS = (
    PublishedRow("Llama-3.1-8B", "c", (56.7, 20.3, 53.1, 51.5, 8.5, 28.5)),
    PublishedRow("Llama-3.1-70B", "c", (85.5, 41.4, 78.1, 75.5, 11.9, 43.3)),
    PublishedRow("Llama-3.1-405B", "c", (89.0, 53.8, None, None, None, None)),
    PublishedRow("Qwen2-1.5B", "c", (58.5, 21.7, 44.8, 55.6, 12.7, 35.6)),
    PublishedRow("Qwen2-7B", "c", (79.9, 44.2, 67.6, 76.7, 37.3, 51.6)),
    PublishedRow("Qwen2-72B", "c", (89.5, 51.1, 79.9, 85.4, 55.9, 72.6)),
    PublishedRow("DeepSeekMath-Base-7B", "c", (64.2, 36.2, 56.5, 71.7, 20.3, 40.7)),
    PublishedRow("DeepSeek-Coder-V2-Lite-Base", "c", (68.3, 38.1, 59.5, 77.8, 25.4, 51.3)),
    PublishedRow("Internlm2-Math-Base-20B", "c", (68.2, 30.4, 63.0, 65.9, 16.9, 40.2)),
    PublishedRow("Qwen2-Math-1.5B-Instruct", "c", (84.2, 69.4, 54.9, 79.6, 59.7, 50.7)),
    PublishedRow("Qwen2.5-Math-1.5B-Instruct", "c", (84.8, 75.8, 57.5, 83.0, 65.5, 54.1)),
    PublishedRow("Qwen2.5-Math-1.5B-REPO", "c", (85.2, 80.2, 60.3, 83.5, 49.2, 56.9)),
    PublishedRow("Qwen2.5-Math-1.5B (base)", "q", (76.8, 49.8, 51.3, 83.0, 47.5, 54.1)),
    PublishedRow("Qwen2.5-Math-1.5B-Instruct", "q", (84.8, 75.8, 57.5, 89.7, None, None)),
)
TOOL_ROWS = (
    PublishedRow("Instruct CoT", "c", (78, 30, 66, 40, 49)),
    PublishedRow("REPO CoT", "c", (83, 33, 72, 52, 54)),
    PublishedRow("Instruct TIR", "c", (80, 33, 69, 41, 50)),
    PublishedRow("REPO TIR", "c", (84, 40, 73, 53, 55)),
    PublishedRow("Instruct CoT", "q", (75.8, 29.4, 65.5, 38.1, 47.7)),
    PublishedRow("Instruct TIR", "q", (79.9, 33.5, 67.8, 49.2, 54.8)),
)
NOTES = (
    "The claimed few-shot row of Qwen2.5-Math-1.5B-Instruct takes CMATH and GaoKao Math QA from the base model, and "
    "gives GaoKao 2023 EN's 65.5 as GaoKao Math Cloze (compare the rows of the report).",
    "The recipe trains on problems of the MATH-500 test set, which are test problems of MATH.",
    "Exemplars here are chosen as docs/evaluation.md says; those behind the other rows are not these.",
)

Measured = Mapping[tuple[str, str], Mapping[str, Any]]
"""Summaries by (benchmark, mode)."""


def recipe_tables(measured: Mapping[str, Measured], titles: Mapping[str, str]) -> str:
    """The recipe's two tables in Markdown, with the rows that were measured here.

    Args:
        measured: Summaries of each policy by its name.
        titles: Title of each benchmark.
    """
    first = _table("Few-shot chain of thought", FEW_SHOT, FEW_SHOT_ROWS, measured, ("cot",), titles)
    second = _table(
        "Qwen2.5-Math-1.5B, chain of thought and tools", TOOL_TABLE, TOOL_ROWS, measured, ("cot", "tir"), titles
    )
    legend = [f"{letter}: {text}" for letter, text in SOURCES.items()]
    return "\n".join([first, "", second, "", *legend, "-: not in the source.", *NOTES])


def _table(
    title: str,
    benchmarks: Sequence[str],
    rows: Sequence[PublishedRow],
    measured: Mapping[str, Measured],
    modes: Sequence[str],
    titles: Mapping[str, str],
) -> str:
    lines = [f"### {title}", "", f"| model | {' | '.join(titles[name] for name in benchmarks)} |"]
    lines.append("|---|" + "---|" * len(benchmarks))
    for row in rows:
        cells = ["-" if value is None else f"{value:g} {row.source}" for value in row.values]
        lines.append(f"| {row.model} | {' | '.join(cells)} |")
    for policy in measured or {"yours": {}}:
        for mode in modes:
            name = policy if len(modes) == 1 else f"{policy}, {mode.upper()}"
            cells = [_cell(measured.get(policy, {}).get((benchmark, mode))) for benchmark in benchmarks]
            lines.append(f"| **{name}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "not measured"
    value = summary["accuracy"]
    part = f" of {summary['questions']}" if summary.get("limited") else ""
    return f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]{part} m"
