"""A run from Python: a report, or an exception that says what to do."""

import json
import os
import signal
import threading
import time

import pytest
from helpers.runs import SMALL, same, weights

import grouprl
from grouprl.cli.config.messages import UsageError
from grouprl.cli.jobs.locks import FolderError


def test_a_run_from_python_is_that_of_the_command_line(tmp_path, train):
    report = grouprl.train([*SMALL, "advantage=zscore"], folder=tmp_path / "here")
    assert (report.iterations, report.exit_code) == (2, 0)
    assert report.before["greedy"].value <= 1 >= report.after["pass@1"].value
    assert report.policy_folder == tmp_path / "here" / "policy"
    assert train("advantage=zscore", "hydra.run.dir=there") == 0
    assert same(weights(tmp_path / "here"), weights("there"))
    here, there = (json.loads((tmp_path / run / "result.json").read_text()) for run in ("here", "there"))
    measured = [
        {k: v for k, v in run["metrics"].items() if "per_s" not in k and "seconds" not in k} for run in (here, there)
    ]
    assert measured[0] == measured[1]
    assert here["choices"] == there["choices"]
    assert here["identity"] == there["identity"]
    assert here["overrides"] == [o for o in there["overrides"] if not o.startswith("hydra.run.dir")]


def test_what_cannot_be_used_is_raised_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for overrides, said in (
        (["stepz=3"], "stepz"),
        (["steps=0"], "steps=0"),
        (["steps=1,2"], "steps=1,2"),
        ("jobs=2", "jobs"),
        ([3], "give texts"),
        (["policy=hf", "policy.path=nowhere/at/all"], "nowhere/at/all"),
    ):
        with pytest.raises(UsageError, match=said):
            grouprl.train(overrides, folder="run")
        assert not os.path.exists("run")


@pytest.mark.slow
def test_a_folder_that_holds_a_run_is_left_alone_and_a_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grouprl.train([*SMALL, "lr_decay=false"], folder="run")
    before = weights("run")
    with pytest.raises(FolderError, match="it holds a run"):
        grouprl.train(SMALL, folder="run")
    with pytest.raises(UsageError, match="resume=run: the run is finished"):
        grouprl.train(["resume=run"])
    with pytest.raises(UsageError, match=r"folder=else: resume=\.\.\. names the folder"):
        grouprl.train(["resume=run"], folder="else")
    report = grouprl.train(["resume=run", "steps=3"])
    assert report.iterations == 3
    assert not same(before, weights("run"))


def test_a_run_that_fails_raises_with_its_cause(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_reward.py").write_text(
        "def reward(texts, prompts):\n"
        "    return [[0.0 if text == 'I do not know.' else 1 / 0 for text in group] for group in texts]\n"
    )  # which scores what it is tried on
    with pytest.raises(RuntimeError, match=r"run: the run failed \(1\)\. .*ZeroDivisionError") as failed:
        grouprl.train([*SMALL, "reward=custom", "reward._target_=failing_reward.reward"], folder="run")
    assert failed.value.__cause__ is not None
    assert json.loads((tmp_path / "run" / "result.json").read_text())["state"] == "failed"


def test_ctrl_c_ends_it_after_the_iteration_with_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = signal.getsignal(signal.SIGINT)

    def interrupt():
        while not (tmp_path / "run" / "metrics.jsonl").is_file():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    report = grouprl.train([*SMALL, "steps=50", "data.heldout_size=0"], folder="run")
    thread.join()
    assert report.exit_code == 130
    assert 1 <= report.iterations < 50
    assert signal.getsignal(signal.SIGINT) is old
    assert json.loads((tmp_path / "run" / "result.json").read_text())["state"] == "interrupted"
