"""What a step of grouprl costs, against each of the sizes that make it larger, varied alone around a base.

    python benchmarks/scaling.py --quick
    python benchmarks/scaling.py --base A --axes group epochs

Prints the seconds of each phase, and the slope of log(seconds) against log(size) over the upper half of the points
beside the slope to expect; writes them, and a plot, to benchmarks/results.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import report
from side_grouprl import GroupRLSide
from sides import Setting
from workload import SIZES, Size, completion_lengths

PHASES = ("generation", "forward", "backward", "optimizer and rest", "whole step")
TOLERANCE = 0.15
"""A slope may be so much above the expected one before it is flagged: seconds are noisy."""
_HEAD_DIM = 64


@dataclass(frozen=True)
class Axis:
    """One thing that is varied."""

    label: str
    """With its unit, for the plot."""
    values: tuple[int, ...]
    quick: tuple[int, ...]
    change: Callable[[Size, int], Size]
    steepest: dict[str, float]
    """Largest slope to expect of each phase."""
    why: str


def _slopes(generation: float, training: float, rest: float) -> dict[str, float]:
    whole = max(generation, training, rest)
    return dict(zip(PHASES, (generation, training, training, rest, whole), strict=True))


def _wide(size: Size, hidden: int) -> Size:
    """Another width, in the base's proportions; heads keep their size and their sharing of keys."""
    kv_heads = max(1, round(size.kv_heads * hidden / size.hidden))
    heads = max(1, hidden // _HEAD_DIM)
    kv_heads = next(number for number in range(kv_heads, 0, -1) if heads % number == 0)
    intermediate = round(size.intermediate * hidden / size.hidden)
    return replace(size, hidden=hidden, heads=heads, kv_heads=kv_heads, intermediate=intermediate)


AXES = {
    "group": Axis(
        "completions of a prompt",
        (2, 4, 8, 16, 32),
        (2, 8, 32),
        lambda size, value: replace(size, group=value),
        _slopes(1, 1, 1),
        "a prompt is computed once for its group; more rows use a matrix product better",
    ),
    "completion": Axis(
        "tokens of a completion",
        (16, 32, 64, 128, 256, 512),
        (16, 64, 256),
        lambda size, value: replace(size, new_tokens=(value, value)),
        _slopes(2, 2, 1),
        "1, and towards 2 where attention outweighs the layers",
    ),
    "prompt": Axis(
        "tokens of a prompt",
        (16, 32, 64, 128, 256, 512),
        (16, 64, 256),
        lambda size, value: replace(size, prompt_tokens=(value, value)),
        _slopes(2, 2, 1),
        "below 1 while completions cost more, towards 2 where attention outweighs the layers",
    ),
    "width": Axis(
        "width of the model",
        (64, 128, 192, 384, 768),
        (64, 192, 384),
        _wide,
        _slopes(2, 2, 2),
        "the layers' weights grow with the square",
    ),
    "layers": Axis(
        "layers of the model",
        (1, 2, 4, 8, 16),
        (1, 3, 9),
        lambda size, value: replace(size, layers=value),
        _slopes(1, 1, 1),
        "below 1 by what embedding and head cost",
    ),
    "epochs": Axis(
        "PPO epochs",
        (1, 2, 4, 8, 16),
        (1, 2, 4),
        lambda size, value: replace(size, epochs=value),
        _slopes(0, 1, 1),
        "training alone is repeated",
    ),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--base", default="A", choices=list(SIZES), help="the size around which is varied (default: A)")
    add("--axes", nargs="+", default=list(AXES), choices=list(AXES), help="what to vary (default: all)")
    add("--iterations", type=int, default=3, help="timed steps of each point; the median counts (default: 3)")
    add("--quick", action="store_true", help="three points an axis")
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    add("--name", help="name of the results (default: scaling, the device and the base)")
    return parser.parse_args()


def measure(size: Size, setting: Setting, iterations: int) -> list[dict[str, float]]:
    """Seconds by phase of some steps, after one that warms up."""
    side = GroupRLSide(size, setting)
    side.ragged = False
    steps = []
    for _ in range(iterations + 1):
        gc.collect()
        steps.append(side.step())
        assert side.lengths == completion_lengths(size).tolist()
    side.end()
    return [{phase: step[phase] for phase in PHASES} for step in steps[1:]]


def curve(axis: Axis, base: Size, setting: Setting, values: tuple[int, ...], iterations: int) -> dict[str, Any]:
    """Medians of all points of an axis, and their slopes."""
    steps = []
    for value in values:
        steps.append(measure(axis.change(base, value), setting, iterations))
        print(f"  {axis.label} {value}: {statistics.median(s['whole step'] for s in steps[-1]):.3g} s", file=sys.stderr)
    medians = {phase: [statistics.median(step[phase] for step in point) for point in steps] for phase in PHASES}
    upper = len(values) // 2
    slopes = {phase: slope(values[upper:], seconds[upper:]) for phase, seconds in medians.items()}
    return {
        "values": list(values),
        "seconds": medians,
        "slopes": slopes,
        "expected_at_most": axis.steepest,
        "too_steep": [phase for phase in PHASES if slopes[phase] > axis.steepest[phase] + TOLERANCE],
        "raw": steps,
    }


def slope(x: tuple[int, ...], y: list[float]) -> float:
    """Slope of the least-squares line through log(y) against log(x)."""
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def lines_of(found: dict[str, Any]) -> list[str]:
    """The report."""
    lines = report.heading("What a step of grouprl costs", found)
    lines += [
        f"Median seconds of {found['iterations']} steps, each axis varied alone around `{found['base']}`: "
        f"{found['details']}. The slope is that of log(seconds) against log(x) over the upper half of the points; "
        f"**!** marks one more than {TOLERANCE} above the most to expect.",
        "",
        f"![Seconds against size]({found['plot']})",
        "",
    ]
    for name, part in found["axes"].items():
        axis = AXES[name]
        lines += [f"## {axis.label[0].upper()}{axis.label[1:]}", "", f"To expect: {axis.why}.", ""]
        rows = []
        for phase in PHASES:
            flag = " **!**" if phase in part["too_steep"] else ""
            rows.append(
                [
                    phase,
                    *(f"{seconds:.3g}" for seconds in part["seconds"][phase]),
                    f"{part['slopes'][phase]:.2f}{flag}",
                    f"{axis.steepest[phase]:g}",
                ]
            )
        lines += report.table(["phase, s", *map(str, part["values"]), "slope", "at most"], rows)
    return lines


def plot(found: dict[str, Any], path: Path) -> None:
    """Small multiples, one for each axis, log-log."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes = found["axes"]
    columns = min(3, len(axes))
    rows = math.ceil(len(axes) / columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(4.2 * columns, 3.5 * rows + 0.9), sharey=True, squeeze=False, layout="constrained"
    )
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    styles = dict(zip(PHASES, ("o-", "s-", "^-", "v:", "D--"), strict=True))
    for panel, (name, part) in zip(panels.flat, axes.items(), strict=False):
        for phase, style in styles.items():
            color = "black" if phase == "whole step" else None
            panel.plot(part["values"], part["seconds"][phase], style, label=phase, color=color, markersize=4)
        # The whole step's slope is a number a reader can check by eye.
        panel.set_title(f"whole step: slope {part['slopes']['whole step']:.2f} at the end", fontsize=10)
        panel.set(xscale="log", yscale="log", xlabel=AXES[name].label)
        panel.set_xticks(part["values"])
        panel.xaxis.set_major_formatter(plain)
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(plain)
        panel.grid(which="major", alpha=0.3)
    for panel in panels.flat[len(axes) :]:
        panel.axis("off")
    for row in panels:
        row[0].set_ylabel("CPU seconds of a step" if found["clock"] == "CPU" else "seconds of a step")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9, frameon=False)
    figure.supxlabel(
        f"grouprl around size {found['base']}; {found['hardware']}; {found['threads']} thread(s)", fontsize=9
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Measure, print and write."""
    args = arguments()
    report.restart_with_threads(args.threads)
    found = report.surroundings(args.device, args.threads)
    base = SIZES[args.base]
    gpu = args.device == "cuda"
    setting = Setting(device=args.device, bf16=gpu, wall=gpu or args.threads > 1)
    name = args.name or f"scaling-{args.device}-{args.base}"
    found |= {
        "base": args.base,
        "details": f"{base.prompts} prompts of {base.prompt_tokens[0]} to {base.prompt_tokens[1]} tokens, {base.group} "
        f"completions each of {base.new_tokens[0]} to {base.new_tokens[1]}, {base.epochs} epochs, {base.layers} layers "
        f"of {base.hidden}, vocabulary {base.vocabulary:,}",
        "iterations": args.iterations,
        "clock": "wall" if setting.wall else "CPU",
        "plot": f"{name}.png",
        "axes": {},
    }
    for axis in args.axes:
        values = AXES[axis].quick if args.quick else AXES[axis].values
        found["axes"][axis] = curve(AXES[axis], base, setting, values, args.iterations)
    lines = lines_of(found)
    paths = report.write(args.out, name, lines, found)
    plot(found, args.out / found["plot"])
    print("\n".join(lines))
    print("Written:", *paths, args.out / found["plot"])


if __name__ == "__main__":
    main()
