"""Runs on a real GPU: the same command gives the same bits, a kill too, and what is recorded names the card."""

import json
import signal

import pytest
import torch
from helpers.gpu import NEEDS_GPU
from helpers.runs import SMALL, run_forked

from grouprl.training.records import read_result

pytestmark = [NEEDS_GPU, pytest.mark.slow]

CHANGING = ("time/", "memory/", "tokens_per_s")
KINDS = {
    "default": SMALL,
    "LoRA with a KL term": [*SMALL, "adapter=lora", "adapter.rank=4", "beta=0.04"],
    "bf16-mixed": [*SMALL, "trainer.precision=bf16-mixed"],
    "compiled": [*SMALL, "policy.compile=true"],
    "tools": ["experiment=tools", "steps=2", "group_size=4", "prompts_per_step=4", "minibatches=2",
              "data.heldout_size=8", "eval_every=0"],
    "prefilter": [*SMALL, "prefilter.samples=3"],
}  # fmt: skip


def left_by(run):
    """Bytes of the weights, and the metrics, of a run."""
    weights = [file.read_bytes() for file in sorted((run / "policy").glob("*.safetensors"))]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return weights, [{k: v for k, v in row.items() if not k.startswith(CHANGING)} for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_repeated_gives_the_same_bits(kind, cli, tmp_path):
    for number in (1, 2):
        done = cli("train.py", *KINDS[kind], f"hydra.run.dir=runs/{number}")
        assert done.returncode == 0, done.stderr + done.stdout
        said = [line for line in (done.stdout + done.stderr).splitlines() if "determinis" in line]
        assert not said, said
    first, second = (left_by(tmp_path / "runs" / number) for number in "12")
    assert first[0]
    assert first == second
    machine = read_result(tmp_path / "runs/1")["machine"]
    assert machine["deterministic"] is True
    assert machine["gpu"] == torch.cuda.get_device_name()


@pytest.mark.parametrize("kind", ["default", "LoRA with a KL term"])
def test_a_killed_run_resumes_to_the_same_bits(kind, tmp_path):
    options, kill = [*KINDS[kind], "steps=4"], {"where": "training", "call": 3, "signal": signal.SIGKILL}
    jobs = [
        {"arguments": [*options, "hydra.run.dir=runs/whole"]},
        {"arguments": [*options, "hydra.run.dir=runs/part"], "kill": kill},
        {"arguments": ["resume=runs/part"]},
    ]
    outcomes = run_forked(tmp_path, jobs)
    assert [outcome["status"] for outcome in outcomes] == [0, -signal.SIGKILL, 0], (tmp_path / "log.txt").read_text()
    assert left_by(tmp_path / "runs/part") == left_by(tmp_path / "runs/whole")


def test_what_a_run_took_is_recorded(cli, tmp_path):
    done = cli("train.py", *SMALL, "hydra.run.dir=runs/1")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "runs/1/metrics.jsonl").read_text().splitlines()]
    assert max(row.get("memory/gpu_peak_mib", 0) for row in rows) > 0
