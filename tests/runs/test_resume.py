"""A run that is killed at any instant and resumed is the run that was not: weights, optimizer, metrics, bit for bit."""

import fcntl
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import ROOT
from helpers.runs import run_forked

from grouprl.training.checkpoint import (
    FORMAT,
    CheckpointError,
    find_checkpoints,
    newest_checkpoint,
    random_state,
    read,
    restore_random_state,
    verify,
)
from grouprl.training.records import portable_message, read_result

SMALL = [
    "steps=4",
    "prompts_per_step=4",
    "group_size=4",
    "minibatches=2",
    "ppo_epochs=2",
    "max_new_tokens=48",
    "data.train_size=64",
    "data.heldout_size=8",
    "eval_every=2",
    "eval_samples=2",
]
CHANGING = ("time/", "memory/", "tokens_per_s")


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second or (isinstance(first, float) and math.isnan(first) and math.isnan(second))


def metrics_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(CHANGING)} for row in rows]


def assert_same_run(run, reference):
    saved, wanted = (read(find_checkpoints(folder / "checkpoints")[-1]) for folder in (run, reference))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "grouprl"):
        assert same(saved[part], wanted[part]), part
    assert metrics_of(run) == metrics_of(reference)
    steps = [row["iteration"] for row in metrics_of(run) if "reward" in row]
    assert steps == list(range(1, len(steps) + 1))
    weights = [(folder / "policy" / name).read_bytes() for folder in (run, reference) for name in weights_of(run)]
    assert weights[: len(weights) // 2] == weights[len(weights) // 2 :]


def weights_of(run):
    return [path.name for path in (run / "policy").glob("*.safetensors")]


def drawn_kills(counts, seed, number):
    """Instants drawn over sampling, training, checkpoint writes and the moment before their rename."""
    rng = random.Random(seed)
    kills = []
    for place in (["sampling", "training", "writing", "renaming"] * number)[:number]:
        kill = {"where": place, "call": rng.randint(1, counts[place]), "signal": int(signal.SIGKILL)}
        if place == "writing":
            # Every other one half-way through the file, for certain; the rest a moment after the write began.
            torn = sum(earlier["where"] == "writing" for earlier in kills) % 2 == 0
            kill |= {"torn": True} if torn else {"delay_s": rng.uniform(0.0005, 0.02)}
        kills.append(kill)
    return kills


def check_kills(folder, options, number, seed=0, threads=1):
    (reference,) = run_forked(folder, [{"arguments": [*options, "hydra.run.dir=runs/whole"]}], threads=threads)
    assert read_result(folder / "runs/whole")["machine"]["threads"] == threads
    assert reference["status"] == 0, (folder / "log.txt").read_text()
    kills = drawn_kills(reference["counts"], seed, number)
    jobs = []
    for i, kill in enumerate(kills):
        jobs.append({"arguments": [*options, f"hydra.run.dir=runs/killed-{i}"], "kill": kill})
        jobs.append({"arguments": [f"resume=runs/killed-{i}"]})
    outcomes = run_forked(folder, jobs, threads=threads)
    for i, kill in enumerate(kills):
        killed, resumed = outcomes[2 * i : 2 * i + 2]
        # A kill that was to come a little later may come after the run's end.
        assert killed["status"] == -signal.SIGKILL or ("delay_s" in kill and killed["status"] == 0), kill
        assert resumed["status"] == 0, (folder / "log.txt").read_text()
        assert_same_run(folder / "runs" / f"killed-{i}", folder / "runs" / "whole")
    return kills


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 1])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, threads):
    check_kills(tmp_path, SMALL, 4, threads=threads)


@pytest.mark.slow
def test_under_lora_with_a_kl_term_too(tmp_path):
    check_kills(tmp_path, [*SMALL, "adapter=lora", "adapter.rank=4", "beta=0.04"], 2, seed=5)
    saved = read(find_checkpoints(tmp_path / "runs" / "whole" / "checkpoints")[-1])
    assert saved["state_dict"]
    assert all("lora_" in name for name in saved["state_dict"])


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("options", [[], ["adapter=lora", "beta=0.04"], ["checkpoint_every=3", "eval_every=2"]])
def test_twelve_kills(tmp_path, options, threads):
    check_kills(tmp_path, [*SMALL, "steps=6", *options], 12, seed=7, threads=threads)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number, code):
    kill = {"where": "training", "call": 6, "signal": int(number)}
    outcomes = run_forked(
        tmp_path,
        [
            {"arguments": [*SMALL, "checkpoint_every=3", "hydra.run.dir=runs/whole"]},
            {"arguments": [*SMALL, "checkpoint_every=3", "hydra.run.dir=runs/stopped"], "kill": kill},
        ],
    )
    assert [outcome["status"] for outcome in outcomes] == [0, code]
    stopped = tmp_path / "runs" / "stopped"
    assert read_result(stopped)["state"] == "interrupted"
    (checkpoint,) = find_checkpoints(stopped / "checkpoints")
    assert checkpoint.name == "iteration-000002.ckpt"  # off the schedule of checkpoint_every
    assert "python train.py resume=runs/stopped" in (tmp_path / "log.txt").read_text()
    (outcome,) = run_forked(tmp_path, [{"arguments": ["resume=runs/stopped", "checkpoint_every=4"]}])
    assert outcome["status"] == 0
    assert metrics_of(stopped) == metrics_of(tmp_path / "runs" / "whole")
    for name in weights_of(stopped):
        whole = tmp_path / "runs" / "whole" / "policy" / name
        assert (stopped / "policy" / name).read_bytes() == whole.read_bytes()


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (outcome,) = run_forked(folder, [{"arguments": [*SMALL, "steps=2", "hydra.run.dir=runs/a"]}])
    assert outcome["status"] == 0, (folder / "log.txt").read_text()
    return folder / "runs" / "a"


@pytest.fixture
def run_copy(finished_run, tmp_path, monkeypatch):
    """A copy of a finished run, in the working folder."""
    shutil.copytree(finished_run, tmp_path / "runs" / "a")
    monkeypatch.chdir(tmp_path)
    return Path("runs/a")


def resume(capsys, *arguments):
    from grouprl.cli.train import main

    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return left.value.code, shown.out + shown.err


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


WRITTEN = ("result.json", "config.yaml", "metrics.jsonl", "curves.png", "policy/config.json", "policy/tokenizer.json")


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


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'exploded'}",))

    path = tmp_path / "iteration-000001.ckpt"
    torch.save({"grouprl": Bomb()}, path)
    with pytest.raises(CheckpointError, match="damaged, or no checkpoint"):
        verify(path, "")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["lr=1"], ["lr=1", "lr=0.0005", "What may change", "steps"]),
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
    code, shown = resume(capsys, "resume=runs/a", "steps=3", "lr=0.0005")
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
    import fcntl

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


def test_random_states_go_on_where_they_were():
    def drawn():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)

    drawn()
    state = random_state()
    first = drawn()
    assert drawn() != first
    restore_random_state(state)
    assert drawn() == first


def test_a_byte_that_changed_is_found(tmp_path):
    """In the numbers of a tensor, which are loaded whatever they are."""
    path = tmp_path / "iteration-000001.ckpt"
    saved = {"format": FORMAT, "config_hash": "a", "iteration": 1}
    torch.save({"grouprl": saved, "state_dict": {"weight": torch.arange(100_000.0)}}, path)
    assert verify(path, "a") == 1
    flip_a_byte(path)
    with pytest.raises(CheckpointError, match="damaged: the checksum"):
        verify(path, "a")
