"""Fixtures: the embedded policy, and model folders as transformers saves them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.models import bpe_tokenizer, random_model
from helpers.paths import ROOT
from helpers.runs import SMALL

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two tests run beside each other
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # nor do threads of the one wait busily in the time of the other
torch.set_num_threads(1)


@pytest.fixture
def tiny_policy():
    from grouprl.policy.load import load_policy

    return load_policy("tiny")


@pytest.fixture
def tiny_prompts(tiny_policy):
    from grouprl.data import problems as data
    from grouprl.data import prompts

    problems = data.tiny_problems(train_size=6, heldout_size=2).train
    return prompts.encode(tiny_policy.tokenizer, problems)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Folders of random models with tokenizer and chat template, by architecture."""
    made = {}

    def make(kind: str = "qwen2") -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            random_model(kind).save_pretrained(made[kind])
            bpe_tokenizer().save_pretrained(made[kind])
        return made[kind]

    return make


@pytest.fixture
def problems_file(tmp_path):
    """A JSONL file in the schema of the benchmark files."""
    rows = [
        {"problem": f"There are {n} apples and {n + 1} pears. How many fruits?", "answer": str(2 * n + 1)}
        for n in range(40)
    ]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def cli(tmp_path):
    """Run a script in an empty folder: ``cli("train.py", "steps=2")`` gives the finished process."""

    def run(script: str, *arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / script), *arguments]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run(
            command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=timeout, env=variables
        )

    return run


@pytest.fixture
def real_data():
    """The folder of real benchmark problems, where the environment names one."""
    folder = os.environ.get("GROUPRL_DATA")
    if not folder:
        pytest.skip("GROUPRL_DATA is not set: no real benchmark problems to test on")
    return Path(folder)


NEEDED = (  # a user namespace with one of mounts in it, and Landlock
    "import ctypes, sys\nlibc = ctypes.CDLL(None)\n"
    "sys.exit(libc.unshare(0x10020000) != 0 or libc.syscall(444, None, ctypes.c_long(0), 1) < 1)"
)


@pytest.fixture(scope="session")
def python():
    """A sandbox with little time; a machine that could confine and does not is a failure, and no reason to skip."""
    if subprocess.run([sys.executable, "-c", NEEDED], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine lets no process make namespaces, or has no Landlock")
    from grouprl.sandbox.sandbox import Sandbox

    Sandbox().check()
    return Sandbox(timeout_s=2.0)


class Counts(list):
    """How many sequences were decoded at once, call by call."""

    limit = 6
    """Above so many, decoding runs out of memory."""


SHARED = ("answered", "outcomes", "finished_run", "stopped_run", "signalled", "finished_study")
"""Fixtures of a module that take seconds: tests that use one run in the same process."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        for name in SHARED:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(f"{item.module.__name__}.{name}"))


@pytest.fixture
def small_cache(monkeypatch):
    """Decoding that runs out of memory above a few sequences."""
    from grouprl import GroupSampler

    decode, counts = GroupSampler._decode, Counts()

    def limited(self, policy, prompts, group, keys):
        counts.append(len(prompts) * group)
        if counts[-1] > counts.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return decode(self, policy, prompts, group, keys)

    monkeypatch.setattr(GroupSampler, "_decode", limited)
    return counts


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Run ``train.py`` in this process, in an empty folder; gives the exit code."""
    monkeypatch.chdir(tmp_path)
    from grouprl.cli import train as script

    def run(*arguments, small=True):
        monkeypatch.setattr(sys, "argv", ["train.py"])
        with pytest.raises(SystemExit) as ended:
            script.main([*(SMALL if small else []), *arguments])
        return ended.value.code or 0

    return run
