"""Checkpoints and files of a run that are damaged, cut off or another's are refused by name, and run no code."""

import os
import re
import resource
import subprocess
import sys

import pytest
import torch
from helpers.paths import ROOT
from helpers.resumed import SMALL, metrics_of, resume
from helpers.runs import run_forked

from grouprl.training.checkpoint import FORMAT, CheckpointError, find_checkpoints, newest_checkpoint, read, verify
from grouprl.training.records import read_result

pytestmark = pytest.mark.slow  # whole runs


def flip_a_byte(path, share=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_checkpoint_is_refused_and_passed_over_when_asked(run_copy, capsys, damage):
    older, newest = find_checkpoints(run_copy / "checkpoints")
    if damage == "flip":
        flip_a_byte(newest)
    else:
        newest.write_bytes({"cut": newest.read_bytes()[:-100], "empty": b"", "text": b"hello"}[damage])
    code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code == 2
    assert str(newest) in shown
    assert "damaged" in shown
    assert "resume_fall_back=true" in shown
    config_hash = read(older)["grouprl"]["config_hash"]
    assert newest_checkpoint(run_copy, config_hash, fall_back=True) == older
    flip_a_byte(older)
    with pytest.raises(CheckpointError, match="damaged"):
        newest_checkpoint(run_copy, config_hash, fall_back=True)


def test_a_checkpoint_of_another_run_or_program_is_refused(run_copy, tmp_path):
    newest = find_checkpoints(run_copy / "checkpoints")[-1]
    with pytest.raises(CheckpointError, match="another configuration"):
        verify(newest, "0" * 16)
    foreign = tmp_path / "iteration-000009.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        verify(foreign, "")


def without(content, place):
    node = content
    *parents, name = place.split("/")
    for parent in parents:
        node = node[parent]
    del node[name]


OF_A_CHECKPOINT = [
    *("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step", "pytorch-lightning_version"),
    *("grouprl", "PromptDataModule"),
    *(f"grouprl/{name}" for name in ("format", "threads", "config_hash", "random", "iteration", "skipped_in_a_row")),
    *("grouprl/evaluations", "grouprl/frozen"),
]


@pytest.mark.parametrize("place", OF_A_CHECKPOINT)
def test_a_checkpoint_without_a_part_is_refused_by_name(run_copy, place):
    newest = find_checkpoints(run_copy / "checkpoints")[-1]
    content = read(newest)
    config_hash = content["grouprl"]["config_hash"]
    assert newest_checkpoint(run_copy, config_hash) == newest
    without(content, place)
    torch.save(content, newest)
    wanted = "no checkpoint of this version" if place in ("grouprl", "grouprl/format") else place.rpartition("/")[2]
    with pytest.raises(CheckpointError, match=wanted) as refused:
        newest_checkpoint(run_copy, config_hash)
    assert str(refused.value).startswith(str(newest))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "place",
    [
        *("optimizer_states", "lr_schedulers", "state_dict", "PromptDataModule", "grouprl/random", "loops/fit_loop"),
        *("optimizer_states/0/param_groups", "grouprl/random/0/python", "grouprl/random/0/torch"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named_when_it_is_taken_up(run_copy, capsys, place):
    newest = find_checkpoints(run_copy / "checkpoints")[-1]
    content = read(newest)
    key = [int(part) if part.isdigit() else part for part in place.split("/")]
    node = content
    for part in key[:-1]:
        node = node[part]
    node[key[-1]] = type(node[key[-1]])()
    torch.save(content, newest)
    code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code in (1, 2)
    assert str(newest) in shown
    assert read_result(run_copy)["state"] in ("failed", "finished")


DAMAGES = {
    "result.json": [
        *(
            f'{{"run": "a", "state": "finished", {entry}}}'
            for entry in (
                '"metrics": {"x": "1"}',
                '"identity": []',
                '"identity": {"inputs": []}',
                '"machine": {"threads": "2"}',
                '"overrides": [1]',
                '"contamination": {"gsm8k": []}',
                '"choices": []',
                '"iterations": "3"',
            )
        ),
        "[]",
        "",
        '{"run": "a", "sta',
        "\udcff",
        '{"run": "a"}',
        '{"run": "a", "state": "gone"}',
    ],
    "config.yaml": ["- 1", "", "steps: [", "\udcff", "hello"],
    "metrics.jsonl": ["\udcff\n", "[]\n", '{"reward": 1}\n', '{"iteration": 1\n', '{"iteration": "1"}\n'],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in DAMAGES.items() for text in texts])
def test_a_damaged_file_of_a_run_is_named_in_one_line(run_copy, capsys, name, text):
    content = text.encode(errors="surrogateescape")
    file = run_copy / name
    file.write_bytes(content + file.read_bytes() if name == "metrics.jsonl" else content)
    code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code in (1, 2)
    (line,) = [line for line in shown.splitlines() if f"runs/a/{name}" in line]
    assert re.search(r"(Put back what was written there|Remove that line)", line), line


def test_a_last_row_that_was_cut_off_is_no_damage(run_copy, capsys):
    """As a kill leaves it."""
    before = metrics_of(run_copy)
    with (run_copy / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "rew')
    code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code == 0, shown
    assert metrics_of(run_copy)[: len(before)] == before


def test_a_last_row_that_is_damaged_and_not_cut_off_is_refused(run_copy, capsys):
    with (run_copy / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "rew\n')
    code, shown = resume(capsys, "resume=runs/a", "steps=3")
    assert code == 1
    assert "runs/a/metrics.jsonl, line 5: not a JSON object in UTF-8" in shown


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'exploded'}",))

    path = tmp_path / "iteration-000001.ckpt"
    torch.save({"grouprl": Bomb()}, path)
    with pytest.raises(CheckpointError, match="damaged, or no checkpoint"):
        verify(path, "")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.slow
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    """Files may grow to 1 MiB only: a checkpoint of 4 MiB cannot be written."""
    (outcome,) = run_forked(tmp_path, [{"arguments": [*SMALL, "steps=1", "hydra.run.dir=runs/a"]}])
    assert outcome["status"] == 0
    command = [sys.executable, str(ROOT / "train.py"), "resume=runs/a", "steps=3"]
    limit = 2**20
    done = subprocess.run(
        command,
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert "iteration-000001.ckpt, stands" in done.stderr
    assert "Traceback" not in done.stderr
    run = tmp_path / "runs" / "a"
    assert [path.name for path in find_checkpoints(run / "checkpoints")] == ["iteration-000001.ckpt"]
    (outcome,) = run_forked(tmp_path, [{"arguments": ["resume=runs/a", "steps=3"]}])
    assert outcome["status"] == 0


def test_a_byte_that_changed_is_found(tmp_path):
    """In the numbers of a tensor, which are loaded whatever they are."""
    path = tmp_path / "iteration-000001.ckpt"
    saved = {"format": FORMAT, "config_hash": "a", "iteration": 1}
    torch.save({"grouprl": saved, "state_dict": {"weight": torch.arange(100_000.0)}}, path)
    assert verify(path, "a") == 1
    flip_a_byte(path)
    with pytest.raises(CheckpointError, match="damaged: the checksum"):
        verify(path, "a")
