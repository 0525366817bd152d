"""Runs that are killed, damaged and taken up again, and what has to be the same."""

import json
import math

import pytest
import torch

from grouprl.training.checkpoint import find_checkpoints, read

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
    "checkpoint_every=1",
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


def resume(capsys, *arguments):
    from grouprl.cli.train import main

    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return left.value.code, shown.out + shown.err
