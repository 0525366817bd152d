"""Kill runs at instants drawn at random, resume them, and compare each with the run that was not killed, bit for bit.

    python benchmarks/kills.py --threads 2 --kills 20 --seed 0 --out benchmarks/results/kills_2_threads

Each kill is a SIGKILL to the process of ``python train.py ...`` at a moment drawn uniformly over the time the whole
run took, by the wall; then ``python train.py resume=RUN``, in a process of its own as well. Full training and LoRA,
checkpoints after every and after every third iteration take turns. Compared are the exported weights, every tensor
and number of the checkpoints, and all metrics but times and memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from grouprl.runtime.machine import processor

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["steps=9", "eval_every=4", "data.heldout_size=100", "keep_checkpoints=9", "checkpoint_every=1"]
KINDS = {
    "full, every": [],
    "LoRA, every": ["adapter=lora", "beta=0.04", "lr=1e-3"],
    "full, every third": ["checkpoint_every=3"],
    "LoRA, every third": ["adapter=lora", "beta=0.04", "lr=1e-3", "checkpoint_every=3"],
}
CHANGING = ("time/", "memory/", "tokens_per_s")


def start(folder: Path, arguments: Sequence[str], threads: int) -> subprocess.Popen[bytes]:
    """``python train.py`` in a folder, with its threads and log."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(folder: Path, arguments: Sequence[str], threads: int) -> float:
    """Run to the end; seconds."""
    started = time.perf_counter()
    if start(folder, arguments, threads).wait():
        raise SystemExit((folder / "log.txt").read_text())
    return time.perf_counter() - started


def equal(first: Any, second: Any) -> bool:
    """Whether two parts of checkpoints are the same, tensors bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second or (isinstance(first, float) and math.isnan(first) and math.isnan(second)))


def metrics(run: Path) -> list[dict[str, Any]]:
    """Rows of metrics without what depends on the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(CHANGING)} for row in rows]


def checkpoints(run: Path) -> dict[str, Mapping[str, Any]]:
    """All checkpoints of a run, by name."""
    files = sorted((run / "checkpoints").glob("*.ckpt"))
    return {file.name: torch.load(file, map_location="cpu", weights_only=True) for file in files}


def differences(run: Path, whole: Path) -> list[str]:
    """What of two runs is not the same."""
    found = []
    weights = [
        {file.name: file.read_bytes() for file in (one / "policy").glob("*.safetensors")} for one in (run, whole)
    ]
    if weights[0] != weights[1] or not weights[0]:
        found.append("weights")
    if metrics(run) != metrics(whole):
        found.append("metrics")
    saved, wanted = checkpoints(run), checkpoints(whole)
    if saved.keys() != wanted.keys() or not saved:
        found.append("names of checkpoints")
    for name in saved.keys() & wanted.keys():
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "grouprl"):
            if not equal(saved[name][part], wanted[name][part]):
                found.append(f"{name}: {part}")
    return found


def progress(run: Path) -> str:
    """How far a killed run had come."""
    rows = metrics(run) if (run / "metrics.jsonl").is_file() else []
    done = max((row["iteration"] for row in rows if "reward" in row), default=0)
    kept = sorted((run / "checkpoints").glob("iteration-*.ckpt"))
    return f"{done} iterations, {'checkpoint ' + str(int(kept[-1].stem[-6:])) if kept else 'no checkpoint'}"


def main() -> None:
    """Kill, resume, compare, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rng, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = {
            kind: finish(folder, [*OPTIONS, *more, f"hydra.run.dir=whole/{number}"], options.threads)
            for number, (kind, more) in enumerate(KINDS.items())
        }
        for kill in range(options.kills):
            number = kill % len(KINDS)
            kind = list(KINDS)[number]
            instant = rng.uniform(0.0, seconds[kind])
            run = folder / "killed" / str(kill)
            arguments = [*OPTIONS, *KINDS[kind], f"hydra.run.dir={run.relative_to(folder)}"]
            process = start(folder, arguments, options.threads)
            try:
                process.wait(instant)
                how = "it had ended"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                how = progress(run)
            # A run that was killed before it had a folder of its own is started again.
            begun = (run / "result.json").is_file() and (run / "config.yaml").is_file()
            shutil.rmtree(run, ignore_errors=True) if not begun else None
            again = [f"resume={run.relative_to(folder)}"] if begun else arguments
            finish(folder, again, options.threads)
            found = differences(run, folder / "whole" / str(number))
            rows.append((kill + 1, kind, instant, how, ", ".join(found) or "none"))
            print(*rows[-1], sep=" | ", flush=True)
    head = (
        f"{options.kills} SIGKILLs, {options.threads} thread(s), seed {options.seed}; whole runs took "
        f"{min(seconds.values()):.0f} to {max(seconds.values()):.0f} s. {processor()}, torch {torch.__version__}, "
        f"Python {platform.python_version()}.\n\nOptions: `{' '.join(OPTIONS)}`\n\n"
        "| kill | training, checkpoints | at, s | it had done | differences |\n|---|---|---|---|---|\n"
    )
    table = head + "".join(f"| {n} | {kind} | {at:.2f} | {how} | {found} |\n" for n, kind, at, how, found in rows)
    bad = [row for row in rows if row[-1] != "none"]
    table += f"\n{len(rows) - len(bad)} of {len(rows)} bitwise equal.\n"
    print(table)
    if options.out:
        options.out.with_suffix(".md").write_text(table)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
