"""The page of curves of a run."""

import itertools
import json

import pytest
from matplotlib.axes import Axes

from grouprl.training.records import METRICS_FILE
from grouprl.training.show.curves import plot_curves

SAMPLED = [4_000, 9_000, 2_000]


@pytest.fixture
def run(tmp_path):
    row = {"reward": 0.5, "completion/length": 9.0, "completion/length_max": 12, "entropy": 0.3}
    rows = [
        {"iteration": number, **row, "groups/without_signal": 0.1, "tokens/sampled": tokens}
        for number, tokens in enumerate(SAMPLED, start=1)
    ]
    estimate = [0.5, 0.4, 0.6, 20]
    evaluation = {f"heldout/{name}": estimate for name in ("greedy", "pass@1", "correct_if_boxed")}
    rows += [{"iteration": number, **evaluation} for number in (0, 3)]
    (tmp_path / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_curves_are_drawn_over_the_tokens_that_were_sampled(run, monkeypatch):
    """Groups that are drawn anew cost their tokens on the axis; an evaluation stands where its iteration ended."""
    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, x, y, *a, **k: drawn.append(list(x)) or plot(axes, x, y, *a, **k))
    assert plot_curves(run, "a run").read_bytes().startswith(b"\x89PNG")
    assert {tuple(x) for x in drawn} == {tuple(total / 1000 for total in itertools.accumulate(SAMPLED)), (0.0, 15.0)}
