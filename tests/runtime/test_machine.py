"""Threads, determinism, and what is written down of a machine."""

import json
import os
import subprocess
import sys

import pytest
import torch
from helpers.paths import ROOT
from helpers.runs import SMALL, run_forked

from grouprl.cli.build import build
from grouprl.cli.config.compose import compose_job
from grouprl.cli.environment import DEFAULTS
from grouprl.runtime import machine
from grouprl.training.records import read_result

STOP_AT_TORCH = """
import importlib.abc, json, os, sys

class Stop(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(json.dumps(dict(os.environ)), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Stop())
sys.argv[0] = sys.argv[1]
del sys.argv[1]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("weights", "available", "devices", "threads"),
    [
        (350_000, 2, 1, 1),
        (9_000_000, 2, 1, 2),
        (9_000_000, 64, 1, 2),
        (9_000_000, 1, 1, 1),
        (135_000_000, 64, 1, 8),
        (135_000_000, 4, 1, 4),
        (1_500_000_000, 64, 1, 64),
        (1_500_000_000, 64, 4, 16),
        (1_500_000_000, 2, 4, 1),
    ],
)
def test_threads_follow_from_size_and_cores(weights, available, devices, threads):
    assert machine.threads_for(weights, available, devices=devices) == threads


def test_and_never_from_the_load(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (64.0, 64.0, 64.0))
    before = torch.get_num_threads()
    try:
        assert machine.use_threads(None, 9_000_000) == min(2, machine.cores())
        assert machine.use_threads(1, 1_400_000) == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert machine.use_threads(None, 10**10) == 1  # what the environment gave torch stays
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "steps=1"],
        ["train.py", "-m", "seed=0,1"],
        pytest.param(["train.py", "resume=RUN"], marks=pytest.mark.slow),
        ["evaluate.py", "policy=tiny", "benchmark=tiny"],
        ["evaluate.py", "policy=tiny", "prompt=1"],
    ],
    ids=["run", "sweep", "resume", "benchmark", "prompt"],
)
def test_waiting_threads_sleep_from_the_start(tmp_path, command):
    """The variables are set when torch is first imported, and the user's own stay."""
    if "resume=RUN" in command:
        run = tmp_path / "RUN"
        (outcome,) = run_forked(tmp_path, [{"arguments": [*SMALL, "steps=1", "hydra.run.dir=RUN"]}])
        assert outcome["status"] == 0
        (run / "policy").rename(run / "gone")
        command = [*command, "steps=2"]
    own = {key: value for key, value in os.environ.items() if key not in DEFAULTS}
    for given, wanted in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        script, *arguments = command
        done = subprocess.run(
            [sys.executable, "-c", STOP_AT_TORCH, str(ROOT / script), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**own, **given},
            check=True,
        )
        seen = json.loads(done.stdout.splitlines()[-1])
        assert {key: seen[key] for key in DEFAULTS} == {**DEFAULTS, "OMP_WAIT_POLICY": wanted}


@pytest.mark.parametrize(
    ("flags", "weights", "accelerator", "wanted"),
    [
        (["amx_tile", "amx_bf16", "avx512_bf16"], 134_515_008, "cpu", "bf16-mixed"),
        (["avx512_bf16"], 134_515_008, "cpu", "bf16-mixed"),
        (["avx512f", "avx2"], 134_515_008, "cpu", "32-true"),
        (["amx_bf16"], 2_000_000, "cpu", "32-true"),
        (["amx_bf16"], 134_515_008, "gpu", "32-true"),
    ],
)
def test_precision_by_processor_and_size(monkeypatch, flags, weights, accelerator, wanted):
    monkeypatch.setattr(machine, "instructions", lambda: flags)
    precision, why = machine.precision_for(weights, accelerator)
    assert precision == wanted
    assert bool(why) == (wanted != "32-true")
    assert machine.precision_for(weights, accelerator, "float64") == ("32-true", "")
    assert flags[-2 if "amx_tile" in flags else -1] in why or not why


@pytest.mark.slow
def test_a_run_says_which_precision_it_takes_and_goes_on_with_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(machine, "instructions", lambda: ["amx_bf16"])
    monkeypatch.setattr(machine, "_LARGE", 1000)
    config = compose_job("train", ["trainer=auto", "steps=2", "data.heldout_size=0"])
    run = build(config, tmp_path)
    assert run.trainer.precision == "bf16-mixed"
    assert "precision bf16-mixed: the processor has amx_bf16, and the model" in capsys.readouterr().out
    assert build(config, tmp_path, precision="32-true").trainer.precision == "32-true"  # as it began elsewhere
    assert build(compose_job("train", ["trainer=cpu", "data.heldout_size=0"]), tmp_path).trainer.precision == "32-true"
    assert capsys.readouterr().out == ""


def test_what_is_written_down_and_what_differs():
    found = machine.describe("32-true")
    assert set(found) >= {"processor", "instructions", "cores", "threads", "precision", "deterministic", "torch"}
    assert found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__
    assert machine.differences(found, found) == {}
    other = {**found, "cores": 999, "precision": "bf16-mixed", "processor": "another"}
    assert machine.differences(other, found) == {
        "precision": ("bf16-mixed", "32-true"),
        "processor": ("another", found["processor"]),
    }


@pytest.mark.slow
def test_a_resume_takes_the_recorded_threads_and_names_what_differs(tmp_path):
    own = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}

    def train(*arguments):
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=own,
            check=True,
        )
        return done.stdout

    train(*SMALL, "steps=1", "threads=1", "hydra.run.dir=run")
    result = read_result(tmp_path / "run")
    assert result["machine"]["threads"] == 1
    result["machine"]["processor"] = "another"
    (tmp_path / "run/result.json").write_text(json.dumps(result))
    shown = train("resume=run", "steps=2")
    assert read_result(tmp_path / "run")["machine"]["threads"] == 1
    assert "note: processor is" in shown
    assert "was another before" in shown
    assert "threads is" not in shown
    assert "note: threads is 2, and was 1 before" in train("resume=run", "steps=3", "threads=2")


class NoForm(torch.autograd.Function):
    """A backward pass that torch refuses under determinism, as it does some of CUDA's."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RuntimeError("put_ does not have a deterministic implementation, but you set 'torch.use_...")
        return grad


@pytest.mark.parametrize("deterministic", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_operation_without_a_deterministic_form_is_said_by_its_name(deterministic, train, monkeypatch, capsys):
    from grouprl.policy.policy import Policy

    logprobs = Policy.logprobs

    def refused(self, batch):
        found = logprobs(self, batch)
        return found._replace(logprobs=NoForm.apply(found.logprobs))

    monkeypatch.setattr(Policy, "logprobs", refused)
    code = train(f"deterministic={str(deterministic).lower()}", "steps=1", "hydra.run.dir=run")
    machine.use_determinism(False)
    shown = capsys.readouterr().err
    assert code == (1 if deterministic else 0)
    assert ("The operation put_ has no form here that gives the same bits twice" in shown) == deterministic
    assert "Traceback" not in shown
