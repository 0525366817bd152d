"""What `deterministic=true` costs: the same step with and without it, in turn, in two processes.

    python benchmarks/determinism.py --size A --threads 2 --pairs 7
    python benchmarks/determinism.py --run --threads 2 --pairs 5
    python benchmarks/determinism.py --size Q1.5 --device cuda --pairs 5

The first times steps as `benchmarks/vs_trl.py` takes them; the second the README's default run, whole. Seconds are
seconds on the wall. The median of the pairs' ratios is printed with the interval from the second smallest to the
second largest (of 7 pairs a 87.5% interval of the median) and the range (98.4%).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from grouprl.cli.environment import DEFAULTS

ROOT = Path(__file__).resolve().parents[1]
_WORKER = """
import json, sys, time
import torch
from side_grouprl import GroupRLSide
from sides import Setting
from workload import SIZES
from grouprl.runtime.machine import use_determinism
size, deterministic, threads, device = json.loads(sys.argv[1])
torch.set_num_threads(threads)
gpu = device == "cuda"
side = GroupRLSide(SIZES[size], Setting(device=device, bf16=gpu, wall=gpu, micro_batch_size=16 if gpu else 0))
use_determinism(deterministic)
for _ in sys.stdin:
    started = time.perf_counter()
    phases = side.step()
    print(json.dumps(time.perf_counter() - started), flush=True)
"""


def _environment(threads: int) -> dict[str, str]:
    passive = {**DEFAULTS, "OMP_NUM_THREADS": str(threads)}
    path = os.pathsep.join(filter(None, [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **passive, "PYTHONPATH": path}


class Steps:
    """A process that takes steps with determinism on or off."""

    def __init__(self, size: str, deterministic: bool, threads: int, device: str) -> None:
        command = [sys.executable, "-c", _WORKER, json.dumps([size, deterministic, threads, device])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(threads), cwd=ROOT
        )
        self()

    def __call__(self) -> float:
        """Seconds of one step."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("A process ended, see above.")
        return float(json.loads(line))


def _run(deterministic: bool, threads: int) -> float:
    """Seconds of the default run."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"hydra.run.dir={folder}/run", f"deterministic={str(deterministic).lower()}", f"threads={threads}"]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *options], check=True, stdout=subprocess.DEVNULL, cwd=ROOT
        )
        return time.perf_counter() - started


def report(sides: Mapping[str, Callable[[], float]], pairs: int, what: str) -> str:
    """Take pairs, each side first in every other one, and make a table of one row."""
    on, off = [], []
    for number in range(pairs):
        order = [(on, sides["on"]), (off, sides["off"])][:: 1 if number % 2 else -1]
        for seconds, side in order:
            seconds.append(side())
    ratios = sorted(a / b for a, b in zip(on, off, strict=True))
    inner = ratios[1:-1] if len(ratios) > 4 else ratios
    return (
        "| what | on, s | off, s | on / off | interval | range |\n|---|---|---|---|---|---|\n"
        f"| {what} | {statistics.median(on):.3g} | {statistics.median(off):.3g} | {statistics.median(ratios):.3f} | "
        f"{inner[0]:.3f} to {inner[-1]:.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |"
    )


def main() -> None:
    """Time pairs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="A")
    parser.add_argument("--run", action="store_true", help="the default run in place of a step")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="of the steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    threads = options.threads
    if options.run:
        print(report({"on": lambda: _run(True, threads), "off": lambda: _run(False, threads)}, options.pairs, "run"))
        return
    steps = {name: Steps(options.size, name == "on", threads, options.device) for name in ("on", "off")}
    print(report(steps, options.pairs, f"step of size {options.size}, {options.device}, {threads} threads"))


if __name__ == "__main__":
    main()
