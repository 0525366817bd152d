"""What has to be set, and fetched, before torch is imported; a value of the user's own stays."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from grouprl.cli.config.messages import UsageError
from grouprl.policy.fetch import MODELS, Source, located

DEFAULTS = {
    # OpenMP's threads would else spin while they wait: two processes on two cores then take ten times as long.
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    # cuBLAS gives the same bits twice only with a workspace of its own.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Whether there is a GPU is asked of the driver's library: asking CUDA would keep it from processes forked later.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Variables that are set where the user did not set them."""


def prepare() -> None:
    """Set the environment of this process and of those it starts."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def fetch_policies(policies: Iterable[DictConfig]) -> None:
    """Fetch what has a name of its own and is not here yet, before a run begins.

    Raises:
        UsageError: It cannot be had.
    """
    for path, source in dict.fromkeys((str(policy.get("path")), policy.get("source", "auto")) for policy in policies):
        fetched_policy(path, source)


def fetched_policy(path: str, source: Source = "auto") -> str:
    """A policy as it was given; of one that is fetched its folder.

    It is fetched in a process of its own: what converts it starts threads, which the processes that are forked from
    this one would not have.

    Raises:
        UsageError: It cannot be had.
    """
    if path not in MODELS:
        return path
    if (there := located(path, source)) is not None:
        return str(there)
    command = [sys.executable, "-m", "grouprl.policy.fetch", path, "--source", source]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UsageError(f"policy={path}: it could not be had, see above.")
    return done.stdout.strip().splitlines()[-1]


def program(script: str) -> str:
    """How to start ``train`` or ``evaluate`` as this process was started: for commands that are shown to be typed."""
    started = Path(sys.argv[0])
    if started.name.startswith("grouprl-"):
        return f"grouprl-{script}"
    beside = started.with_name(f"{script}.py")
    return f"python {shlex.quote(str(beside) if beside.is_file() else f'{script}.py')}"
