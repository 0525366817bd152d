"""A run that is killed at any instant and resumed is the run that was not: weights, optimizer, metrics, bit for bit."""

import random
import signal

import numpy as np
import pytest
import torch
from helpers.resumed import SMALL, assert_same_run, metrics_of, weights_of
from helpers.runs import run_forked

from grouprl.training.checkpoint import find_checkpoints, random_state, read, restore_random_state
from grouprl.training.records import read_result


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
def test_with_checkpoints_as_time_allows_too(tmp_path):
    """The default: which iterations have one is the clock's, what is resumed to is not."""
    check_kills(tmp_path, [*SMALL, "checkpoint_every=null"], 2, seed=3)


@pytest.mark.slow
def test_under_lora_with_a_kl_term_too(tmp_path):
    check_kills(tmp_path, [*SMALL, "adapter=lora", "adapter.rank=4", "beta=0.04"], 2, seed=5, threads=2)
    saved = read(find_checkpoints(tmp_path / "runs" / "whole" / "checkpoints")[-1])
    assert saved["state_dict"]
    assert all("lora_" in name for name in saved["state_dict"])


@pytest.mark.slow
@pytest.mark.parametrize(("options", "threads"), [([], 2), (["checkpoint_every=3", "eval_every=2"], 1)])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, options, threads):
    """More of them, and under load: ``benchmarks/kills.py``."""
    check_kills(tmp_path, [*SMALL, *options], 4, seed=7, threads=threads)


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


def test_random_states_go_on_where_they_were():
    def drawn():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)

    drawn()
    state = random_state()
    first = drawn()
    assert drawn() != first
    restore_random_state(state)
    assert drawn() == first
