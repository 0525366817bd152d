"""Ctrl-C in an evaluation: that before training is left where it is, others are finished; the run goes on as it was."""

import signal

import pytest
from helpers.resumed import SMALL, assert_same_run, metrics_of
from helpers.runs import run_forked

from grouprl.training.records import read_result


@pytest.mark.slow
def test_an_evaluation_is_left_or_finished_and_nothing_is_lost(tmp_path):
    options = [*SMALL, "steps=2", "eval_every=0"]
    (whole,) = run_forked(tmp_path, [{"arguments": [*options, "hydra.run.dir=runs/whole"]}])
    draws = whole["counts"]["sampling"]
    jobs = []
    for name, call in (("before", 3), ("after", draws - 3)):
        kill = {"where": "sampling", "call": call, "signal": int(signal.SIGINT)}
        jobs += [{"arguments": [*options, f"hydra.run.dir=runs/{name}"], "kill": kill}]
    left = run_forked(tmp_path, jobs)
    log = (tmp_path / "log.txt").read_text()
    assert log.count("leaving the evaluation (once more to stop at once)") == 1
    assert log.count("stopping after this evaluation (once more to stop at once)") == 1
    for outcome, name in zip(left, ("before", "after"), strict=True):
        run = tmp_path / "runs" / name
        assert outcome["status"] == 130
        assert outcome["counts"]["sampling"] == {"before": 3, "after": draws}[name]
        assert read_result(run)["state"] == "interrupted"
        evaluated = [row["iteration"] for row in metrics_of(run) if "heldout/pass@1" in row]
        assert evaluated == {"before": [], "after": [0, 2]}[name]
    resumed = run_forked(tmp_path, [{"arguments": [f"resume=runs/{name}"]} for name in ("before", "after")])
    assert [outcome["status"] for outcome in resumed] == [0, 0], (tmp_path / "log.txt").read_text()
    for name in ("before", "after"):
        assert_same_run(tmp_path / "runs" / name, tmp_path / "runs" / "whole")
