"""What a change costs: a step of one clone of grouprl beside a step of another, in turn.

    python benchmarks/old_new.py OLD_CLONE NEW_CLONE --size A --pairs 7

Each clone's own benchmark side and package are used, on one CPU thread; seconds are CPU seconds of the process. The
median of the pairs' ratios is printed with the interval from the second smallest to the second largest (of 7 pairs a
87.5% interval of the median) and the range (98.4%).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

PHASES = ("generation", "old and reference", "training", "whole step")
_WORKER = """
import json, sys
from side_grouprl import GroupRLSide
from sides import Setting
from workload import SIZES
import grouprl
size, beta, lora = json.loads(sys.argv[1])
side = GroupRLSide(SIZES[size], Setting(beta=beta, lora=lora))
print(json.dumps(grouprl.__file__), flush=True)
for _ in sys.stdin:
    print(json.dumps(side.step()), flush=True)
"""


class Clone:
    """A process that takes steps with the package of one clone."""

    def __init__(self, folder: Path, setting: tuple[str, float, bool]) -> None:
        paths = [str(folder / "src"), str(folder / "benchmarks")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _WORKER, json.dumps(setting)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )
        package = Path(self._answer())
        if not package.is_relative_to(folder):
            raise SystemExit(f"{folder}: {package} was imported instead.")

    def _answer(self) -> object:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("A process ended, see above.")
        return json.loads(line)

    def step(self) -> dict[str, float]:
        """Seconds of one step, by phase."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self._answer()


def main() -> None:
    """Time pairs of steps and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--size", default="A")
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    setting = (options.size, options.beta, options.lora)
    old, new = (Clone(folder.resolve(), setting) for folder in (options.old, options.new))
    for clone in (old, new):
        clone.step()
    pairs = []
    for number in range(options.pairs):
        # Each goes first in every other pair.
        first, second = ((old, "old"), (new, "new"))[:: 1 if number % 2 else -1]
        pairs.append({first[1]: first[0].step(), second[1]: second[0].step()})
    print("| phase | old, s | new, s | new / old | interval | range |\n|---|---|---|---|---|---|")
    for phase in PHASES:
        if phase not in pairs[0]["old"]:
            continue
        ratios = sorted(pair["new"][phase] / pair["old"][phase] for pair in pairs)
        seconds = [statistics.median(pair[side][phase] for pair in pairs) for side in ("old", "new")]
        inner = ratios[1:-1] if len(ratios) > 4 else ratios
        print(
            f"| {phase} | {seconds[0]:.3g} | {seconds[1]:.3g} | {statistics.median(ratios):.3f} | "
            f"{inner[0]:.3f} to {inner[-1]:.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |"
        )


if __name__ == "__main__":
    main()
