"""``curves.png``: what a run did, on one page."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grouprl.files import check_shape, replacing
from grouprl.training.records import METRICS_FILE, read_metrics

_DRAWN = ("reward", "completion/length", "completion/length_max", "entropy", "groups/without_signal", "tokens/sampled")
_AXIS = "sampled tokens, thousands"
"""Not iterations: where groups are drawn anew, one takes more of them."""
_PARTS = ("correct", "intermediate", "box", "steps", "notation")


def plot_curves(folder: Path, title: str = "") -> Path:
    """Draw reward and parts, held-out accuracy with its 95% band, length, and entropy of a run, over sampled tokens.

    Args:
        folder: Run folder with ``metrics.jsonl``; ``curves.png`` is written beside it.
        title: Title of the page.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(read_metrics(folder))
    steps = [_checked(row, folder) for row in rows if "reward" in row]
    evaluations = [row for row in rows if "heldout/pass@1" in row]
    figure = Figure(figsize=(11, 7))
    FigureCanvasAgg(figure)
    reward, heldout, length, entropy = figure.subplots(2, 2).flat
    place = _tokens_by_iteration(steps)
    x = [place[row["iteration"]] for row in steps]

    reward.plot(x, [row["reward"] for row in steps], color="black", label="reward")
    for part in _PARTS:
        if steps and f"reward/{part}" in steps[0]:
            reward.plot(x, [row[f"reward/{part}"] for row in steps], alpha=0.7, linewidth=1, label=part)
    reward.set(title="reward and its parts (training prompts)", xlabel=_AXIS, ylim=(-0.02, 1.02))

    for name, colour in (("greedy", "tab:green"), ("pass@1", "tab:blue"), ("correct_if_boxed", "tab:orange")):
        points = [(row["iteration"], row[f"heldout/{name}"]) for row in evaluations]
        at = [place.get(iteration, 0.0) for iteration, _ in points]
        heldout.plot(at, [estimate.value for _, estimate in points], marker="o", ms=3, color=colour, label=name)
        low, high = [estimate.low for _, estimate in points], [estimate.high for _, estimate in points]
        heldout.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    heldout.set(title="held-out accuracy, 95% intervals", xlabel=_AXIS, ylim=(-0.02, 1.02))

    length.plot(x, [row["completion/length"] for row in steps], color="tab:purple", label="mean")
    length.plot(x, [row["completion/length_max"] for row in steps], color="tab:purple", alpha=0.3, label="max")
    length.set(title="completion length (tokens)", xlabel=_AXIS, ylim=(0, None))

    entropy.plot(x, [row["entropy"] for row in steps], color="tab:red", label="entropy (nats/token)")
    entropy.plot(
        x, [row["groups/without_signal"] for row in steps], color="grey", alpha=0.6, label="groups without signal"
    )
    entropy.set(title="entropy, and groups without signal", xlabel=_AXIS, ylim=(0, None))

    for axes in (reward, heldout, length, entropy):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.suptitle(title)
    # Margins of its own: to have them computed takes as long as the drawing.
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.07, top=0.9, hspace=0.32, wspace=0.12)
    path = folder / "curves.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def _tokens_by_iteration(steps: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Thousands of tokens that were sampled up to the end of each iteration."""
    sums = itertools.accumulate(row["tokens/sampled"] or 0.0 for row in steps)
    return {row["iteration"]: tokens / 1000 for row, tokens in zip(steps, sums, strict=True)}


def _checked(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    where = f"{folder / METRICS_FILE}, iteration {row['iteration']}"
    return check_shape(row, dict.fromkeys(_DRAWN, (int, float, type(None))), where)
