"""Runs of the scripts that are out of memory: how they end, and how they go on."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from helpers.memory import ERROR, same

from grouprl.cli import evaluate
from grouprl.cli import train as script
from grouprl.files import read_parquet
from grouprl.policy.policy import Policy
from grouprl.training.checkpoint import find_checkpoints, read
from grouprl.training.records import read_result

SMALL = [
    "prompts_per_step=4",
    "group_size=4",
    "minibatches=2",
    "max_new_tokens=48",
    "data.train_size=64",
    "data.heldout_size=8",
    "eval_every=0",
    "eval_samples=2",
    "lr_decay=false",
]


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Run ``train.py`` in this process, in an empty folder; exit code and what was shown."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py"])
        with pytest.raises(SystemExit) as ended:
            script.main(list(arguments))
        shown = capsys.readouterr()
        return ended.value.code or 0, shown.out + shown.err

    return run


def limit_all(monkeypatch, tokens):
    """Every policy runs out of memory above so many tokens."""
    method = Policy.logprobs

    def limited(self, batch):
        if batch.tokens > tokens:
            raise torch.OutOfMemoryError(ERROR)
        return method(self, batch)

    monkeypatch.setattr(Policy, "logprobs", limited)


@pytest.mark.slow
def test_a_stopped_run_is_mended_as_its_message_says(train, monkeypatch):
    with monkeypatch.context() as patch:
        limit_all(patch, 250)
        code, shown = train("steps=2", *SMALL, "hydra.run.dir=runs/a")
        assert code == 1
        assert "Traceback" not in shown
        assert re.search(r"a: Out of memory: training, \d sequences with \d+ tokens at once", shown)
        assert read_result(Path("runs/a"))["state"] == "failed"
        remedy = shown.split("Try ")[1].split()[0]
        assert remedy.startswith("micro_batch_tokens=")
        command = shown.split("After mending it: python train.py ")[1].split()
        code, shown = train(*command, remedy)
        assert code == 0, shown
        assert "not bit for bit" in shown
    assert train("resume=runs/a", "steps=3", "policy.gradient_checkpointing=true", "sampler.max_sequences=8")[0] == 0
    code, shown = train("resume=runs/a", "steps=4", "policy.dtype=float64")
    assert code == 2
    assert "another run" in shown


@pytest.mark.slow
def test_a_resumed_run_keeps_the_limit_it_found(train, monkeypatch):
    with monkeypatch.context() as patch:
        limit_all(patch, 150)
        for folder, steps in (("whole", 4), ("parts", 2)):
            assert train(f"steps={steps}", *SMALL, "on_out_of_memory=halve", f"hydra.run.dir=runs/{folder}")[0] == 0
    # Memory suffices now, and the pieces stay as they were.
    assert train("resume=runs/parts", "steps=4")[0] == 0
    whole, parts = (read(find_checkpoints(Path("runs") / name / "checkpoints")[-1]) for name in ("whole", "parts"))
    assert 0 < whole["grouprl"]["limits"]["tokens"] <= 150
    assert whole["grouprl"]["limits"] == parts["grouprl"]["limits"]
    assert same(whole["state_dict"], parts["state_dict"])
    rows = [json.loads(line) for line in Path("runs/parts/metrics.jsonl").read_text().splitlines()]
    assert {row["limits/micro_batch_tokens"] for row in rows if "reward" in row} == {
        whole["grouprl"]["limits"]["tokens"]
    }


@pytest.mark.slow
def test_evaluation_and_prefilter_sample_within_the_limit(train, small_cache):
    options = ["prefilter.samples=4", "prefilter.min_correct=0", "prefilter.max_correct=4", "on_out_of_memory=halve"]
    code, shown = train("steps=1", *SMALL, *options)
    assert code == 0, shown
    assert [count for count in small_cache if count > 6] == [256, 128, 64, 32, 16, 8]
    code, shown = train("steps=1", *SMALL)
    assert code == 1
    assert "Out of memory: sampling" in shown
    assert "Traceback" not in shown


@pytest.mark.slow
def test_an_evaluation_halves_what_it_asks_at_once(tmp_path, monkeypatch, capsys, small_cache):
    monkeypatch.chdir(tmp_path)
    texts, codes = [], []
    for small_cache.limit, out in ((1000, "a"), (3, "b"), (0, "c")):
        asked = "policy=tiny", "benchmark=[tiny,tiny_hard]", "limit=12", "block=6", "max_new_tokens=48", f"out={out}"
        try:
            evaluate.main(list(asked))
            codes.append(0)
        except SystemExit as error:
            codes.append(error.code)
        texts.append(capsys.readouterr().err)
    # The second benchmark begins with what the first one found.
    assert small_cache == [6] * 4 + [6] + [3] * 8 + [6, 3, 1]
    assert codes == [0, 0, 2]
    assert all(part in texts[2] for part in ("Out of memory: sampling, 1 sequence of", "max_new_tokens=24"))
    first, second = (read_parquet(tmp_path / out / "tiny-cot.parquet") for out in "ab")
    assert first == second
