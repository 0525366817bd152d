"""The same command twice gives the same bits, on one thread and on two, in processes of their own."""

import json

import pytest
from helpers.runs import SMALL, run_forked

from grouprl.files import read_parquet
from grouprl.training.records import read_result

CHANGING = ("time/", "memory/", "tokens_per_s")
LORA = ["adapter=lora", "adapter.rank=4", "beta=0.04"]
TOOLS = [
    "experiment=tools",
    "steps=2",
    "group_size=4",
    "prompts_per_step=4",
    "minibatches=2",
    "data.heldout_size=4",
    "eval_every=0",
    "eval_samples=1",
    "final_eval_samples=2",
]
FILTERED = [*SMALL, "prefilter.samples=3"]


def left_by(run):
    """Bytes of the weights, and the metrics, of a run."""
    weights = [file.read_bytes() for file in sorted((run / "policy").glob("*.safetensors"))]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return weights, [{k: v for k, v in row.items() if not k.startswith(CHANGING)} for row in rows]


def run_twice(folder, options, threads):
    jobs = [{"arguments": [*options, f"hydra.run.dir=runs/{number}"]} for number in (1, 2)]
    outcomes = run_forked(folder, jobs, threads=threads)
    assert [outcome["status"] for outcome in outcomes] == [0, 0], (folder / "log.txt").read_text()
    results = [read_result(folder / "runs" / str(number)) for number in (1, 2)]
    assert [result["machine"]["threads"] for result in results] == [threads, threads]
    return [left_by(folder / "runs" / str(number)) for number in (1, 2)]


@pytest.mark.parametrize("threads", [2, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        pytest.param([*SMALL, *LORA], marks=pytest.mark.slow),
        pytest.param([*SMALL, "trainer.precision=bf16-mixed"], marks=pytest.mark.slow),
        pytest.param(TOOLS, marks=pytest.mark.slow),
        pytest.param(FILTERED, marks=pytest.mark.slow),
    ],
    ids=["default", "LoRA with a KL term", "bf16-mixed", "tools", "prefilter"],
)
def test_a_run_repeated(tmp_path, options, threads):
    first, second = run_twice(tmp_path, options, threads)
    assert first[0]
    assert first == second
    assert read_result(tmp_path / "runs/1")["machine"]["deterministic"] is True


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 1])
def test_an_evaluation_repeated(tmp_path, threads):
    options = ["policy=tiny", "benchmark=tiny", "limit=16", "samples=4", "max_new_tokens=64"]
    jobs = [{"script": "evaluate", "arguments": [*options, f"out={out}"]} for out in "ab"]
    outcomes = run_forked(tmp_path, jobs, threads=threads)
    assert [outcome["status"] for outcome in outcomes] == [0, 0], (tmp_path / "log.txt").read_text()
    first, second = (read_parquet(tmp_path / out / "tiny-cot.parquet") for out in "ab")
    assert len({row["completion"] for row in first}) > 16
    assert first == second


@pytest.mark.slow
def test_without_the_promise_the_run_says_so(tmp_path):
    options = [*SMALL, "steps=1", "deterministic=false", "hydra.run.dir=runs/1"]
    (outcome,) = run_forked(tmp_path, [{"arguments": options}])
    assert outcome["status"] == 0, (tmp_path / "log.txt").read_text()
    assert read_result(tmp_path / "runs/1")["machine"]["deterministic"] is False
