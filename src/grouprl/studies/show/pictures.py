"""Pictures of a study: accuracy of every seed over iterations, tokens and seconds, and every seed's difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grouprl.files import replacing
from grouprl.studies.outcomes import Outcome
from grouprl.studies.seeds import StudyComparison

AXES = {"iterations": 1.0, "sampled tokens, thousands": 1e-3, "seconds of sampling, scoring and training": 1.0}
"""What the curves are drawn over, and the factor of what is counted."""


DRAWN_ALIKE = 2e-4
"""Share of pixels up to which two pictures are one: another version of the drawing library smooths edges otherwise."""
_VISIBLE = 0.25
_COLOURS = {"better": "#00695c", "equivalent": "#37474f", "identical": "#37474f", "undecided": "#c2185b"}
"""Of endings, none of which is an arm's in the curves."""


@dataclass(frozen=True)
class Curve:
    """Held-out pass@1 of a run, with its place on each axis of `AXES`."""

    places: Mapping[str, Sequence[float]]
    accuracy: Sequence[float]


def curve_of(outcome: Outcome) -> Curve:
    """The curve of a run."""
    at = [float(evaluation.iteration) for evaluation in outcome.evaluations]
    counted = (at, outcome.tokens.tolist(), outcome.seconds_at.tolist())
    places = {name: [factor * x for x in values] for (name, factor), values in zip(AXES.items(), counted, strict=True)}
    return Curve(places, [100 * float(evaluation.shares.mean()) for evaluation in outcome.evaluations])


def mean_accuracy(curves: Sequence[Curve]) -> np.ndarray:
    """Mean over runs at each evaluation: one that ended early keeps its last value, or the mean were the survivors'."""
    most = max(len(curve.accuracy) for curve in curves)
    return np.mean([[*c.accuracy, *[c.accuracy[-1]] * (most - len(c.accuracy))] for c in curves], axis=0)


def draw_curves(arms: Mapping[str, Sequence[Curve]], file: Path) -> None:
    """Draw every seed of every arm thinly, and each arm's mean over its seeds, as PNG."""
    figure, panels = _figure(len(AXES), height=4.2)
    for panel, name in zip(panels, AXES, strict=True):
        for number, (arm, curves) in enumerate(arms.items()):
            colour = f"C{number % 10}"
            for curve in curves:
                panel.plot(curve.places[name], curve.accuracy, color=colour, alpha=0.3, linewidth=0.8)
            most = max(len(curve.accuracy) for curve in curves)
            whole = [curve for curve in curves if len(curve.accuracy) == most]
            x = np.mean([curve.places[name] for curve in whole], axis=0)
            panel.plot(x, mean_accuracy(curves), color=colour, linewidth=2, marker="o", label=arm)
        panel.set_xlabel(name)
    panels[0].set_ylabel("held-out pass@1, %")
    panels[0].legend(fontsize=8)
    _save(figure, file)


def draw_differences(comparison: StudyComparison, file: Path) -> None:
    """Draw each pair's difference: every seed a point, the mean, and the intervals of the verdict, as PNG."""
    pairs = comparison.shown
    figure, (panel,) = _figure(1, height=1.4 + 0.6 * len(pairs))
    arms = {arm.name: arm for arm in comparison.arms}
    margin = 100 * pairs[0].margin
    panel.axvspan(-margin, margin, color="grey", alpha=0.15, label="does not matter")
    panel.axvline(0, color="grey", linewidth=0.8)
    endings: set[str] = set()
    for row, pair in enumerate(pairs):
        seeds = 100 * (arms[pair.second].scores - arms[pair.first].scores)
        colour, name = _COLOURS[pair.ending], pair.ending if pair.ending not in endings else None
        endings.add(pair.ending)
        panel.plot([100 * pair.test.low, 100 * pair.test.high], [row, row], color=colour, linewidth=1.5)
        if not pair.looks:
            low, high = pair.test.inner
            panel.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=5, alpha=0.5)
        panel.plot(seeds, np.full(len(seeds), row) + np.linspace(-0.15, 0.15, len(seeds)), "o", color="black", ms=3)
        panel.plot([100 * pair.test.single.value], [row], "D", color=colour, ms=7, label=name)
    panel.set_yticks(range(len(pairs)), [f"{pair.second}\nminus {pair.first}" for pair in pairs], fontsize=8)
    panel.set_ylim(len(pairs) - 0.5, -0.5)
    panel.set_xlabel("points")
    panel.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False)  # hides no seed
    _save(figure, file)


def pixels_apart(first: Path, second: Path) -> float:
    """Share of pixels in which two PNGs differ visibly; 1 where they have other sizes."""
    from matplotlib.image import imread

    a, b = (imread(file) for file in (first, second))
    return float((np.abs(a - b).max(axis=2) > _VISIBLE).mean()) if a.shape == b.shape else 1.0


def _figure(panels: int, *, height: float) -> tuple[Any, Sequence[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for panel in axes:
        panel.grid(alpha=0.3)
    return figure, list(axes)


def _save(figure: Any, file: Path) -> None:
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
