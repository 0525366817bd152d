"""Run folders: nothing is overwritten, an arm goes on where it was, and changed inputs are refused by their names."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.runs import SMALL, run_forked, same, weights

from grouprl.training.records import read_metrics, read_result, write_result

pytestmark = pytest.mark.slow  # whole runs

REWARD = "def f(completions, prompts):\n    return [[float(len(t)) for t in row] for row in completions]\n"
OWN = ["reward=custom", "reward._target_=mine.f"]


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def arms(study="sweep"):
    return sorted(path for path in Path("runs", study).iterdir() if path.is_dir())


def interrupted_after_its_checkpoints(folder, *, keep):
    """Make a finished run look as if it had been killed after an iteration."""
    for checkpoint in sorted((folder / "checkpoints").glob("*.ckpt"))[keep:]:
        checkpoint.unlink()
    shutil.rmtree(folder / "policy")
    result = {**read_result(folder), "state": "running"}
    write_result(folder, result)


@pytest.mark.parametrize("second", [["seed=1", "steps=1"], ["seed=0", "steps=2"]], ids=["another", "the same"])
def test_a_folder_that_holds_a_run_is_refused(train, capfd, second):
    assert train("steps=2", "hydra.run.dir=ow") == 0
    before = contents("ow")
    assert train(*second, "hydra.run.dir=ow") == 2
    assert "ow: it holds a run (finished). Set hydra.run.dir to a new folder." in capfd.readouterr().err
    assert contents("ow") == before


@pytest.mark.parametrize("kept", ["result.json", "metrics.jsonl", "checkpoints"])
def test_so_is_what_is_left_of_one(train, capfd, kept):
    if kept == "checkpoints":
        (Path("ow") / kept).mkdir(parents=True)
    else:
        Path("ow").mkdir()
        (Path("ow") / kept).write_text("cut off{")
    assert train("hydra.run.dir=ow") == 2
    shown = capfd.readouterr().err
    if kept == "result.json":
        assert "ow/result.json: damaged" in shown
    else:
        assert "ow: it holds a run (unfinished)" in shown
        assert "resume=ow" in shown


@pytest.mark.slow
def test_an_interrupted_arm_goes_on_and_says_so(train, capfd):
    sweep = ["-m", "seed=0,1", "steps=3", "keep_checkpoints=3"]
    assert train(*sweep) == 0
    shutil.copytree("runs/sweep", "whole")
    first, second = arms()
    interrupted_after_its_checkpoints(second, keep=2)
    assert train(*sweep) == 0
    shown = capfd.readouterr().out
    assert f"{second.name}: interrupted before, goes on after iteration-000002.ckpt" in shown
    assert f"{first.name}: finished before, skipped" in shown
    for run in (first, second):
        whole = Path("whole", run.name)
        assert same(weights(run), weights(whole))
        rewards = [[row["reward"] for row in read_metrics(one) if "reward" in row] for one in (run, whole)]
        assert rewards[0] == rewards[1]
        assert len(rewards[0]) == 3
    assert not Path("runs/superseded").exists()


@pytest.mark.slow
def test_an_arm_without_a_checkpoint_begins_anew_in_its_own_folder(train, capfd):
    sweep = ["-m", "seed=0,1", "steps=2"]
    assert train(*sweep) == 0
    first = arms()[0]
    before = weights(first)
    interrupted_after_its_checkpoints(first, keep=0)
    assert train(*sweep) == 0
    assert "goes on from the start (there is no checkpoint)" in capfd.readouterr().out
    assert same(weights(first), before)
    assert len([row for row in read_metrics(first) if "reward" in row]) == 2
    assert not Path("runs/superseded").exists()


@pytest.mark.slow
def test_an_arm_with_a_damaged_checkpoint_takes_the_one_before(train, capfd):
    sweep = ["-m", "seed=0,1", "steps=3", "keep_checkpoints=3"]
    assert train(*sweep) == 0
    first = arms()[0]
    before = weights(first)
    interrupted_after_its_checkpoints(first, keep=2)
    newest = first / "checkpoints/iteration-000002.ckpt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert train(*sweep) == 0
    shown = capfd.readouterr().out
    assert "iteration-000002.ckpt: damaged" in shown
    assert "goes on after iteration-000001.ckpt" in shown
    assert same(weights(first), before)


@pytest.mark.slow
def test_an_arm_of_other_options_or_files_begins_anew_and_names_them(train, capfd):
    Path("mine.py").write_text(REWARD)
    sweep = ["-m", "seed=0,1", "steps=1", *OWN]
    assert train(*sweep) == 0
    Path("mine.py").write_text(REWARD + "\n# other\n")
    assert train(*sweep) == 0
    shown = capfd.readouterr().out
    assert shown.count("begun anew, since mine.py changed") == 2
    assert "the run that was here is kept in runs/superseded/sweep/" in shown
    subdir = "hydra.sweep.subdir=seed-${seed}"
    for rate in ("1e-3", "2e-3"):
        assert train("-m", "seed=0,1", "steps=1", f"lr={rate}", "study=fixed", subdir) == 0
    assert capfd.readouterr().out.count("begun anew, since lr, optimizer.lr changed") == 2


@pytest.mark.slow
def test_an_earlier_run_that_cannot_be_moved_stays(train, capfd):
    subdir = "hydra.sweep.subdir=arm${hydra.job.num}"
    assert train("-m", "seed=0", "steps=1", subdir) == 0
    before = contents("runs/sweep/arm0")
    Path("runs/superseded").touch()
    for _ in range(2):
        train("-m", "seed=5", "steps=1", subdir)
        assert "the run that is here cannot be moved" in capfd.readouterr().err
        assert contents("runs/sweep/arm0") == before
    Path("runs/superseded").unlink()
    assert train("-m", "seed=5", "steps=1", subdir) == 0
    assert contents("runs/superseded/sweep/arm0-1").items() >= {k: v for k, v in before.items() if k != ".lock"}.items()


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    """A folder with a run with data and a reward of the user's, which was killed after its first iteration."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "mine.py").write_text(REWARD)
    rows = [{"problem": f"What is ${n} + 1$?", "answer": str(n + 1)} for n in range(40)]
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ["data=jsonl", "data.path=own.jsonl", "data.heldout_size=8"]
    options = [*(o for o in SMALL if not o.startswith("data.")), *data, *OWN, "hydra.run.dir=stopped"]
    (outcome,) = run_forked(folder, [{"arguments": options}], threads=torch.get_num_threads())
    assert outcome["status"] == 0, (folder / "log.txt").read_text()
    interrupted_after_its_checkpoints(folder / "stopped", keep=1)
    return folder


@pytest.fixture
def stopped(train, stopped_run):
    """Goes on with a copy of the run that was killed, in the working folder."""
    shutil.copytree(stopped_run, ".", dirs_exist_ok=True)

    def go_on(*more):
        return train("resume=stopped", "reward._target_=mine.f", *more, small=False)

    return go_on


@pytest.mark.parametrize("name", ["own.jsonl", pytest.param("mine.py", marks=pytest.mark.slow)])
def test_a_resume_whose_inputs_changed_is_refused_by_their_names(stopped, capfd, name):
    before = contents("stopped")
    with Path(name).open("a") as file:
        file.write("\n")
    assert stopped() == 2
    shown = capfd.readouterr().err
    assert f"resume=stopped: {name} changed since." in shown
    assert f"accept_changed=[{name}]" in shown
    assert contents("stopped") == before
    assert stopped("accept_changed=[other.py]") == 2
    assert stopped(f"accept_changed=[{name}]") == 0
    assert f"note: {name} changed" in capfd.readouterr().out
    # What was accepted is what the run has from now on, and is said.
    result = read_result(Path("stopped"))
    (entry,) = result["accepted_changes"]
    assert name in entry["names"]
    assert result["state"] == "finished"
    assert stopped() == 0


def test_a_resume_with_other_code_of_the_package_is_refused(stopped, capfd):
    result = read_result(Path("stopped"))
    result["identity"]["package"] = "another"
    write_result(Path("stopped"), result)
    assert stopped() == 2
    assert "accept_changed=[grouprl]" in capfd.readouterr().err
    assert stopped("accept_changed=[grouprl]") == 0


@pytest.mark.parametrize(
    "name", ["weights", *(pytest.param(name, marks=pytest.mark.slow) for name in ("config", "problems", "prompts"))]
)
def test_a_resume_that_loads_something_else_is_refused(stopped, capfd, name):
    """What comes from a hub, or a template with a date in it, is in no file that an option names."""
    result = read_result(Path("stopped"))
    assert set(result["loaded"]) == {"weights", "config", "heldout", "problems", "prompts"}
    result["loaded"][name] = "another"
    write_result(Path("stopped"), result)
    before = contents("stopped")
    assert stopped() == 2
    assert f"{name} changed since" in capfd.readouterr().err
    assert contents("stopped") == before
    assert stopped(f"accept_changed=[{name}]") == 0


def test_a_run_that_went_on_since_it_was_looked_at_is_left_alone(stopped, capfd, monkeypatch):
    """Between the decision to go on and the lock, another process finished it."""
    from grouprl.cli.jobs import job

    alone = job.alone

    def after_another(folder, *rest):
        write_result(folder, {**read_result(folder), "state": "finished", "iterations": 2})
        return alone(folder, *rest)

    monkeypatch.setattr(job, "alone", after_another)
    assert stopped() == 2
    assert "stopped: another process worked in this folder just now" in capfd.readouterr().err
    assert read_result(Path("stopped"))["state"] == "finished"


def test_a_temporary_file_that_a_kill_left_is_in_nobodys_way(train):
    Path("run").mkdir()
    (Path("run") / ".result.json.1a2b3c4d").write_text("{")
    assert train("steps=1", "hydra.run.dir=run") == 0


def test_what_was_accepted_of_one_file_is_not_accepted_of_another(stopped, capfd):
    """Data that changed by name, and weights that changed without one, as a hub's do."""
    result = read_result(Path("stopped"))
    result["loaded"]["weights"] = "another"
    write_result(Path("stopped"), result)
    with Path("own.jsonl").open("a") as file:
        file.write(json.dumps({"problem": "What is $99 + 1$?", "answer": "100"}) + "\n")
    before = (Path("stopped") / "config.yaml").read_text()
    assert stopped("accept_changed=[own.jsonl]", "steps=9") == 2
    assert "stopped: weights changed since" in capfd.readouterr().err
    assert (Path("stopped") / "config.yaml").read_text() == before
