"""Runs that are small enough for tests, and what they leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from grouprl.cli.environment import DEFAULTS
from helpers.paths import TESTS

SMALL = [
    "steps=2",
    "prompts_per_step=4",
    "minibatches=2",
    "group_size=4",
    "max_new_tokens=64",
    "data.train_size=32",
    "data.heldout_size=8",
    "eval_every=0",
    "eval_samples=2",
    "final_eval_samples=4",
    "warmup_steps=0",
    "lr=1e-3",
    "checkpoint_every=1",
]
"""Overrides of a small run."""


def weights(run):
    """The trained weights of a run."""
    return load_file(Path(run) / "policy" / "model.safetensors")


def same(first, second):
    """Whether two sets of weights are bitwise equal."""
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def prints(main, capsys):
    """A function that calls a script with arguments and gives its exit code and all it printed."""

    def call(*arguments):
        code = 0
        try:
            main(list(arguments))
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def run_forked(folder, jobs, *, threads=1):
    """Run jobs one after the other in forks; their exit statuses and counts of calls."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {**os.environ, **DEFAULTS, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(TESTS / "helpers" / "forked.py"), "jobs.json"]
    done = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, timeout=900, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
