"""A run is taken up from its folder: by the options it had, in its own place, by one process, and without its code."""

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers.resumed import SMALL, resume
from helpers.runs import run_forked

from grouprl.training.checkpoint import find_checkpoints, read
from grouprl.training.records import portable_message, read_result

WRITTEN = ("result.json", "config.yaml", "metrics.jsonl", "curves.png", "policy/config.json", "policy/tokenizer.json")


@pytest.mark.slow
def test_a_resumed_run_writes_to_no_other_name_of_its_files(run_copy, capsys, tmp_path):
    """A copy of a run folder by hard links is a backup."""
    backup = tmp_path / "backup"
    shutil.copytree(run_copy, backup, copy_function=os.link)
    before = {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()}
    assert {backup / name for name in WRITTEN} <= set(before)
    code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code == 0, shown
    assert {path: path.read_bytes() for path in before} == before
    for name in WRITTEN:
        assert (run_copy / name).stat().st_ino != (backup / name).stat().st_ino, name


@pytest.mark.parametrize("name", [*WRITTEN, "policy", "checkpoints", ".lock", "hparams.yaml", "new.txt"])
def test_a_run_folder_with_a_link_that_leads_elsewhere_is_refused(run_copy, capsys, tmp_path, name):
    file, elsewhere = run_copy / name, tmp_path / "elsewhere"
    if file.exists():
        file.rename(elsewhere)
    file.symlink_to(elsewhere)
    before = elsewhere.read_bytes() if elsewhere.is_file() else None
    code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code == 2
    assert f"runs/a/{name}: it is a link that leads out of the folder" in shown
    assert len(shown.splitlines()) <= 2
    assert (elsewhere.read_bytes() if elsewhere.is_file() else None) == before


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["lr=1"], ["lr=1", "lr=0.0002", "What may change", "steps"]),
        (["advantage.ties=min"], ["advantage.ties=min", "advantage.ties=average"]),
        (["eps_hihg=1"], ["eps_hihg", "no such option"]),
        (["steps=1"], ["steps=1", "has done 2 iterations"]),
        (["-m"], ["resume", "-m"]),
        (["lr=1,2"], ["lr=1,2"]),
        (["steps=none"], ["steps=none", "whole number"]),
    ],
    ids=lambda value: value[0],
)
def test_a_resumed_run_is_the_same_run(run_copy, capsys, arguments, wanted):
    code, shown = resume(capsys, "resume=runs/a", *arguments)
    assert code == 2
    assert all(part in shown for part in wanted), shown


def test_a_finished_run_is_left_alone_or_given_more_steps(run_copy, capsys):
    code, shown = resume(capsys, "resume=runs/a")
    assert code == 0
    assert "nothing to do" in shown
    code, shown = resume(capsys, "resume=runs/a", "steps=3", "lr=0.0002")
    assert code == 0, shown
    assert read_result(run_copy)["iterations"] == 3


def test_a_config_from_a_run_folder_runs_no_code_of_its_own(run_copy, capsys):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("grouprl.rewards.graded.GradedReward", "os.system"))
    code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code == 2
    assert "reward._target_=os.system: code that the run folder names is not run" in shown
    code, shown = resume(capsys, "resume=runs/nowhere")
    assert code == 2
    assert "not a run folder" in shown


def test_two_processes_do_not_write_to_one_run(run_copy, capsys):
    with (run_copy / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code == 2
    assert "another process" in shown


def test_what_is_saved_names_no_machine(run_copy, capsys):
    """No absolute path, host or user in the saved configuration, result, or checkpoint."""
    import getpass
    import socket

    texts = [(run_copy / name).read_text() for name in ("config.yaml", "result.json", "metrics.jsonl")]
    texts.append(str({k: v for k, v in read(find_checkpoints(run_copy / "checkpoints")[-1]).items() if k != "loops"}))
    for text in texts:
        assert str(Path.home()) not in text
        assert "/tmp" not in text
        if len(getpass.getuser()) > 4:
            assert getpass.getuser() not in text
        if len(socket.gethostname()) > 4:
            assert socket.gethostname() not in text


@pytest.mark.slow
def test_paths_outside_the_working_folder_are_asked_for_again(tmp_path, problems_file, monkeypatch, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = [*SMALL, "steps=1", "data=jsonl", f"data.path={problems_file}", "data.heldout_size=4"]
    options = [option for option in options if not option.startswith("data.train_size")]
    (outcome,) = run_forked(elsewhere, [{"arguments": [*options, "hydra.run.dir=runs/a"]}])
    assert outcome["status"] == 0, (elsewhere / "log.txt").read_text()
    assert str(tmp_path) not in (elsewhere / "runs/a/config.yaml").read_text()
    assert str(tmp_path) not in (elsewhere / "runs/a/result.json").read_text()
    monkeypatch.chdir(elsewhere)
    code, shown = resume(capsys, "resume=runs/a", "steps=2")
    assert code == 2
    assert "data.path=PATH/problems.jsonl" in shown
    code, shown = resume(capsys, "resume=runs/a", "steps=2", f"data.path={problems_file}")
    assert code == 0, shown


def test_messages_that_are_kept_name_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"{tmp_path}/runs/a/x.ckpt: no space ('/var/other/place/y' -> 'b/c'), see https://example.org/a/b and 1/2/3"
    kept = portable_message(text)
    assert "/var/other" not in kept
    assert str(tmp_path) not in kept
    assert "runs/a/x.ckpt: no space" in kept
    assert "https://example.org/a/b and 1/2/3" in kept
    assert "y' -> 'b/c'" in kept


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, shown = resume(capsys, *SMALL, "hydra.run.dir=file/run")
    assert code in (1, 2)
    assert "file/run" in shown


def test_folders_of_others_are_not_touched(tmp_path, monkeypatch, capsys):
    """A folder that holds something else, or a run under way, is refused and left as it is."""
    from grouprl.cli.train import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    for extra in ([], ["optimizer=custom", "optimizer._target_=torch.optim.Nope"]):
        with pytest.raises(SystemExit) as left:
            main([*SMALL, "hydra.run.dir=mine", *extra])
        assert left.value.code == 2
        assert "thesis.txt" in capsys.readouterr().err
        assert [path.name for path in mine.iterdir() if path.name != ".lock"] == ["thesis.txt"]
    live = tmp_path / "live"
    live.mkdir()
    (live / "result.json").write_text('{"state": "running", "run": "live"}')
    with (live / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit) as left:
            main([*SMALL, "hydra.run.dir=live"])
    assert left.value.code == 2
    assert json.loads((live / "result.json").read_text())["state"] == "running"
    with pytest.raises(SystemExit):
        main([*SMALL, "hydra.run.dir=new", "optimizer=custom", "optimizer._target_=torch.optim.Nope"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("new", "old"),
    [("grouprl.losses.policy_loss.PolicyLoss", "grouprl.losses.PolicyLoss"), ("max_grad_norm:", "clip_norm:")],
)
def test_a_run_of_other_names_is_answered_in_one_message(run_copy, capsys, new, old):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace(new, old))
    code, shown = resume(capsys, "resume=runs/a", "steps=9")
    assert code == 2
    assert "the run was started by an older grouprl" in shown
    assert len(shown.splitlines()) <= 2


@pytest.mark.parametrize(
    "target",
    [
        "grouprl.rewards.isolation.load_object",
        "grouprl.rewards.isolation.IsolatedReward",
        "grouprl.cli.train.os.system",
        "os.system",
    ],
)
def test_only_components_are_instantiated_from_a_run_folder(target):
    from grouprl.cli.config.compose import shipped_targets

    assert target not in shipped_targets()
    assert "grouprl.advantages.rank.RankAdvantage" in shipped_targets()
