"""Whole runs through the command line, small enough for the fast suite."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT, TINY_FOLDER
from helpers.runs import SMALL, same, weights
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from grouprl.files import read_parquet
from grouprl.policy.policy import Policy
from grouprl.training.records import evaluations_in, heldout_file, read_metrics, read_result

FAST = (("full", "qwen2"), ("lora+kl", "gpt2"))
"""The other kinds of models and ways to train them are slow tests."""


def single(folder=Path("runs")):
    (run,) = folder.iterdir()
    return run


def test_a_run_leaves_everything_it_says(train, capsys):
    assert train("eval_every=1", "seed=3") == 0
    run = single()
    result = read_result(run)
    assert result["state"] == "finished"
    assert result["seed"] == 3
    assert "seed=3" in result["overrides"]
    assert result["versions"]["torch"] == torch.__version__
    assert len(result["commit"] or "none") >= 4
    for name in ("pass@1", "greedy"):
        for when in ("before", "after"):
            key = f"heldout/{name}/{when}"
            assert (
                0 <= result["metrics"][f"{key}/low"] <= result["metrics"][key] <= result["metrics"][f"{key}/high"] <= 1
            )
            assert result["metrics"][f"{key}/count"] == 8
    rows = list(read_metrics(run))
    assert [row["iteration"] for row in rows if "reward" in row] == [1, 2]
    assert [row["iteration"] for row in rows if "heldout/pass@1" in row] == [0, 1, 2]
    wanted = {
        "reward",
        "reward/correct",
        "reward/box",
        "reward/steps",
        "reward/notation",
        "entropy",
        "completion/length",
    }
    wanted |= {
        "ppo/clip_fraction/high",
        "ppo/clip_fraction/low",
        "ppo/approx_kl",
        "ppo/grad_norm",
        "tokens_per_s",
        "lr",
    }
    assert wanted <= set(rows[1])
    assert (run / "curves.png").stat().st_size > 10_000
    assert list(run.glob("events.out.tfevents*"))
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(run / "policy"),
        AutoTokenizer.from_pretrained(run / "policy"),
    )
    assert model.config.vocab_size == len(tokenizer)
    start = load_file(TINY_FOLDER / "model.safetensors")
    assert not same(start, weights(run))
    shown = capsys.readouterr().out
    assert "held-out, 8 problems, 95% intervals" in shown
    assert f"tensorboard --logdir {run}" in shown
    assert f"python evaluate.py policy={run}" in shown
    saved = (run / "config.yaml").read_text()
    assert "eps_high: 0.2" in saved
    assert str(Path.home()) not in saved


@pytest.mark.slow
def test_the_literal_sweep_runs_then_skips(train, capsys):
    sweep = ["-m", "advantage=rank,zscore", "eps_high=0.2,0.28"]
    assert train(*sweep) == 0
    runs = sorted(path.name for path in Path("runs/sweep").iterdir() if path.is_dir())
    assert len(runs) == 4
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for name in runs)
    assert all("advantage-" in name and "eps_high-" in name and name.endswith("__seed-0") for name in runs)
    table = capsys.readouterr().out
    assert table.count("| finished |") == 4
    assert "clip high %" in table
    before = {name: Path("runs/sweep", name, "result.json").stat().st_mtime_ns for name in runs}
    assert train(*sweep) == 0
    assert capsys.readouterr().out.count("skipped (same options, files and package)") == 4
    assert before == {name: Path("runs/sweep", name, "result.json").stat().st_mtime_ns for name in runs}
    # Another seed is another folder; a changed default in the same folder runs again, and keeps the old one.
    assert train("-m", "advantage=rank", "eps_high=0.2", "seed=1", "study=other") == 0
    (other,) = Path("runs/other").glob("*seed-*")
    assert other.name.endswith("__seed-1")


@pytest.mark.slow
def test_a_changed_run_is_put_aside_not_mixed(train):
    assert train("-m", "advantage=rank,zscore") == 0
    run = min(Path("runs/sweep").glob("advantage-rank*"))
    result = json.loads((run / "result.json").read_text())
    result["identity"]["config_hash"] = "another"
    (run / "result.json").write_text(json.dumps(result))
    assert train("-m", "advantage=rank,zscore") == 0
    assert read_result(run)["identity"]["config_hash"] != "another"
    assert read_result(Path("runs/superseded/sweep") / f"{run.name}-1")["identity"]["config_hash"] == "another"
    assert len([row for row in read_metrics(run) if "reward" in row]) == 2


@pytest.mark.slow
def test_a_failing_job_does_not_stop_a_sweep(train, capsys):
    Path("bad_reward.py").write_text(
        "def score(completions, prompts, fail):\n"
        "    if fail: raise ZeroDivisionError('no luck')\n"
        "    return [[float(len(text)) for text in row] for row in completions]\n"
    )
    assert train("-m", "reward=custom", "reward._target_=bad_reward.score", "+reward.fail=true,false") == 1
    shown = capsys.readouterr()
    assert "ZeroDivisionError: no luck" in shown.out
    states = sorted(read_result(run)["state"] for run in Path("runs/sweep").glob("*seed-*"))
    assert states == ["failed", "finished"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_the_clip_matters(train):
    settings = ["steps=3", "ppo_epochs=4", "lr=3e-3"]
    for folder, extra in {"a": [], "b": [], "c": ["eps_high=0.28"], "d": ["seed=1"]}.items():
        assert train(*settings, *extra, f"hydra.run.dir={folder}") == 0
    first = weights(Path("a"))
    assert same(first, weights(Path("b")))
    assert not same(first, weights(Path("c")))
    assert not same(first, weights(Path("d")))
    assert read_result(Path("a"))["metrics"]["ppo/clip_fraction/high"] > 0.001


@pytest.mark.slow
def test_with_binary_rewards_rank_and_rloo_are_the_same_run(train):
    for advantage in ("rank", "rloo", "centered"):
        assert train("reward=correct", f"advantage={advantage}", f"hydra.run.dir={advantage}") == 0
    assert same(weights(Path("rank")), weights(Path("rloo")))
    assert not same(weights(Path("rank")), weights(Path("centered")))


@pytest.mark.slow
def test_micro_batches_do_not_change_the_run(train):
    for size in (0, 1, 3):
        assert train("loss=grpo", "beta=0.05", f"micro_batch_size={size}", f"hydra.run.dir=m{size}", "lr=1e-4") == 0
    for size in (1, 3):
        for name, value in weights(Path("m0")).items():
            torch.testing.assert_close(weights(Path(f"m{size}"))[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "preset", ["repo", "dapo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("grpo", "dr_grpo"))]
)
def test_every_preset_trains(train, preset):
    assert train(f"loss={preset}", "beta=0.02", "steps=1") == 0
    assert "ppo/reference_kl" in next(row for row in read_metrics(single()) if "reward" in row)


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        pytest.param(kind, extra, id=f"{name}-{kind}", marks=() if (name, kind) in FAST else pytest.mark.slow)
        for kind in ("qwen2", "llama", "gpt2")
        for name, extra in (("full", []), ("lora+kl", ["adapter=lora", "beta=0.04"]))
    ],
)
def test_hugging_face_folder_and_jsonl(train, model_folder, problems_file, kind, extra):
    arguments = [
        "policy=hf",
        f"policy.path={model_folder(kind)}",
        "data=jsonl",
        f"data.path={problems_file}",
        "data.heldout_size=4",
    ]
    small = [option for option in SMALL if not option.startswith("data.")]
    assert train(*small, *arguments, *extra, "steps=3", "reward=format", "temperature=0.8", small=False) == 0
    run = single()
    assert AutoModelForCausalLM.from_pretrained(run / "policy") is not None
    assert (run / "policy" / "adapter_model.safetensors").exists() == bool(extra)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()
    assert {"reward", "reward/correct", "completion/length", "heldout/pass@1"} <= set(tags["scalars"])
    assert any(tag.startswith("samples/") for tag in tags["tensors"])
    assert sorted(tags["scalars"])[0].startswith("Overview/")
    assert len([tag for tag in tags["scalars"] if tag.startswith("Overview/")]) == 8
    assert [event.step for event in events.Scalars("reward")] == [1, 2, 3]
    assert {event.step for event in events.Scalars("heldout/pass@1")} <= {0, 1, 2, 3} > {1, 2}
    assert not any(tag.startswith("after") for tag in tags["scalars"])  # hparams shows what is there
    assert tags["histograms"] == ["advantages", "ratios"]
    histogram = events.Histograms("ratios")[0].histogram_value
    assert histogram.min <= 1 <= histogram.max
    assert histogram.num > 0


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["adapter=lora", "beta=0.04"]], ids=["full", "lora+kl"])
def test_three_steps_on_real_problems(train, model_folder, real_data, extra):
    small = [option for option in SMALL if not option.startswith("data.")]
    arguments = [
        "policy=hf",
        f"policy.path={model_folder()}",
        "data=jsonl",
        f"data.path={real_data / 'gsm8k_train.jsonl'}",
    ]
    assert train(*small, *arguments, *extra, "steps=3", "data.heldout_size=8", small=False) == 0
    assert len([row for row in read_metrics(single()) if "reward" in row]) == 3


@pytest.mark.slow
def test_merged_policy_and_saved_checkpoints(train):
    assert train("adapter=lora", "save_merged=true", "save_policy_every=1") == 0
    run = single()
    assert (run / "policy_merged" / "model.safetensors").exists()
    assert [path.name for path in sorted((run / "policies").iterdir())] == ["iteration-00001", "iteration-00002"]
    AutoModelForCausalLM.from_pretrained(run / "policy_merged")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["advantage.ties=mean"], ["advantage.ties=mean", "average, min, max"]),
        (["reward=math", "reward.correct=0.2"], ["reward.correct=0.2", "does not outweigh"]),
        (["sampler.top_p=0.9"], ["sampler.top_p=0.9", "sampler.top_p=1"]),
        (["adapter=lora", "adapter.init=pissa"], ["adapter.init='pissa'", "Choose true or gaussian"]),
        (["data.levels={4: 1}"], ["data.levels"]),
        (["max_new_tokens=490"], ["max_new_tokens=490", "the context of 512 tokens", "prompt.overlong=drop"]),
        (["reward=custom", "reward._target_=nowhere.f"], ["reward._target_=nowhere.f", "no module 'nowhere'"]),
    ],
)
def test_values_that_components_refuse(train, capsys, arguments, wanted):
    assert train(*arguments) == 2
    shown = capsys.readouterr().err
    assert all(part in shown for part in wanted), shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) <= 10


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(train, capsys):
    assert train("trainer=gpu") == 2
    assert "Use trainer=cpu or trainer=auto" in capsys.readouterr().err


@pytest.mark.slow
def test_overlong_prompts_can_be_dropped(train, caplog):
    assert train("max_new_tokens=480", "prompt.overlong=drop", "steps=1", "data.train_size=200") == 0
    assert "prompts do not fit the context and were dropped" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_finishes_the_step_and_leaves_a_policy(tmp_path, number, code):
    """Ctrl-C in a sweep: the job under way ends after its iteration, the next is not run, the policy loads."""
    arguments = [*SMALL, "steps=2000", "-m", "seed=0,1"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    run = tmp_path / "runs" / "sweep"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(
        len(f.read_text().splitlines()) > 4 for f in run.glob("*/metrics.jsonl")
    ):
        time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert "stopped by a signal" in output
    states = {path.name.rpartition("seed-")[2]: read_result(path)["state"] for path in run.glob("*seed-*")}
    assert states == {"0": "interrupted", "1": "not run"}
    (stopped,) = (path for path in run.glob("*seed-0"))
    again = [*SMALL, "steps=1", "policy=hf", f"policy.path={stopped / 'policy'}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *again],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_completion_of_an_evaluation_is_kept(train):
    assert train("steps=2", "eval_every=1", "hydra.run.dir=run") == 0
    folder = Path("run/heldout")
    assert sorted(file.name for file in folder.iterdir()) == [f"iteration-0000{n}.parquet" for n in (0, 1, 2)]
    metrics = {row["iteration"]: row for row in read_metrics(Path("run")) if "heldout/pass@1" in row}
    for iteration, samples in ((0, 2), (1, 2), (2, 4)):  # more at the end
        rows = read_parquet(folder / f"iteration-0000{iteration}.parquet")
        assert len(rows) == 8 * (samples + 1)
        drawn = [row for row in rows if row["sample"] >= 0]
        share = sum(row["correct"] for row in drawn) / len(drawn)
        assert share == pytest.approx(metrics[iteration]["heldout/pass@1"].value)
        greedy = [row["correct"] for row in rows if row["sample"] < 0]
        assert sum(greedy) / 8 == pytest.approx(metrics[iteration]["heldout/greedy"].value)
        assert all(0 < row["tokens"] <= 64 for row in rows)
    assert "heldout/pass@4" in metrics[2]
    for iteration in (20, 100_000):  # as an interrupted run leaves them
        (folder / heldout_file(iteration)).write_bytes(b"later")
    assert list(evaluations_in(Path("run"))) == [0, 1, 2, 20, 100_000]
    assert train("resume=run", "steps=3", "eval_every=1", small=False) == 0
    assert list(evaluations_in(Path("run"))) == [0, 1, 2, 3]


@pytest.mark.slow
def test_no_held_out_problems(train):
    assert train("data.heldout_size=0", "steps=1") == 0
    assert read_result(single())["state"] == "finished"


@pytest.mark.slow
def test_a_changed_file_of_the_user_is_not_skipped(train, capsys):
    """The sweep's identity holds the files that the configuration names."""
    Path("mine.py").write_text(
        "def f(completions, prompts):\n    return [[float(len(t)) for t in r] for r in completions]\n"
    )
    own = ["-m", "steps=1", "reward=custom", "reward._target_=mine.f"]
    assert train(*own) == 0
    capsys.readouterr()
    assert train(*own) == 0
    assert "skipped" in capsys.readouterr().out
    Path("mine.py").write_text(
        "def f(completions, prompts):\n    return [[-float(len(t)) for t in r] for r in completions]\n"
    )
    assert train(*own) == 0
    assert "skipped" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_of_eight_jobs_holds_one_policy_at_a_time(train, monkeypatch):
    make = Policy.__init__

    def counted(policy, *arguments, **options):
        gc.collect()
        with Path("alive.txt").open("a") as file:  # each job has a process of its own
            print(sum(isinstance(thing, Policy) for thing in gc.get_objects()), file=file)
        make(policy, *arguments, **options)

    monkeypatch.setattr(Policy, "__init__", counted)
    assert train("-m", "seed=0,1,2,3,4,5,6,7", "steps=1", "max_new_tokens=8", "data.heldout_size=2") == 0
    alive = Path("alive.txt").read_text().split()
    assert len(alive) == 8
    assert alive[1:] == alive[:1] * 7, "every job leaves its policy behind"
