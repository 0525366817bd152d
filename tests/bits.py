"""Whether a change kept every bit: ``python tests/bits.py FOLDER`` prints digests to compare before and after it.

Four runs, a minute or two each: the defaults, LoRA with a KL term, tools, and bfloat16 by autocast. They are on one
thread; ``python tests/bits.py FOLDER 2`` takes two.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = {
    "default": [],
    "lora": ["adapter=lora", "beta=0.04", "lr=1e-3", "steps=20", "eval_every=10"],
    "tools": ["experiment=tools", "steps=20", "eval_every=10"],
    "bf16-mixed": ["trainer.precision=bf16-mixed", "steps=20", "eval_every=10"],
}


def main(folder: Path, threads: int) -> None:
    """Train, and print the digest of each run's weights."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    for name, overrides in RUNS.items():
        run = folder.resolve() / name
        command = [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.run.dir={run}"]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        (weights,) = (run / "policy").glob("*.safetensors")
        print(f"{hashlib.md5(weights.read_bytes()).hexdigest()}  {name}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python tests/bits.py FOLDER [THREADS]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 1)
