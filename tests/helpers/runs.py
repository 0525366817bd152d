"""Runs that are small enough for tests, and what they leave."""

import atexit
import functools
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
    """Run jobs one after the other, each in a fork of one process of so many threads that has all imported.

    Returns:
        Their exit statuses and counts of calls; what they printed is in ``log.txt`` of the folder.
    """
    process = _forks(threads)
    environment = {**os.environ, **DEFAULTS, "OMP_NUM_THREADS": str(threads)}
    request = {"folder": str(folder), "environment": environment, "jobs": jobs}
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, f"forked.py ended with {process.wait()}"
    return json.loads(answer)


@functools.cache
def _forks(threads):
    environment = {**os.environ, **DEFAULTS, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "helpers" / "forked.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    atexit.register(process.stdin.close)
    return process
