"""Steps of grouprl alone: tokens per second of both phases, beside the least that the device allows, and peak memory.

    python benchmarks/alone.py --size Q1.5 --device cuda --sequences 16 64 256
    python benchmarks/alone.py --size Q1.5 --device cuda --sequences 64 --deterministic

Completion lengths are forced, as in `benchmarks/vs_trl.py`; seconds are medians. Where TRL is not to be had, or not of
interest, this says how far from its floor a GPU works.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import floors
import report
import torch
from side_grouprl import GroupRLSide
from sides import Setting
from workload import SIZES, Memory, Size, completion_lengths

from grouprl.runtime.machine import use_determinism


def measure(size: Size, setting: Setting, iterations: int, rates: dict[str, float]) -> dict[str, Any]:
    """Seconds by phase of some steps after one that warms up, tokens, floors and peak memory."""
    side = GroupRLSide(size, setting)
    memory = Memory(setting.device)
    steps = []
    for number in range(iterations + 1):
        steps.append(side.step())
        assert side.lengths == completion_lengths(size, number).tolist()
    peak = memory.peak()
    side.end()
    of_all = [floors.floors(size, setting, rates, number) for number in range(1, iterations + 1)]
    tokens = statistics.mean(int(completion_lengths(size, number).sum()) for number in range(1, iterations + 1))
    return {
        "sequences": size.sequences,
        "tokens": tokens,
        "epochs": size.epochs,
        "steps": steps[1:],
        "seconds": {phase: statistics.median(step[phase] for step in steps[1:]) for phase in steps[1]},
        "floors": {name: statistics.mean(floor[name] for floor in of_all) for name in of_all[0]},
        "peak_mib": peak,
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """The report."""
    lines = report.heading("Steps of grouprl alone", found)
    rates = found["rates"]
    lines += [
        f"{found['details']}. Medians of {found['iterations']} steps after one. Measured on the device: "
        f"{rates['bytes_per_s'] / 1e9:,.0f} GB/s, {rates['flop_per_s'] / 1e12:,.3g} TFLOP/s.",
        "",
    ]
    columns = [
        "completions",
        "step s",
        "generation s",
        "tokens/s",
        "x floor",
        "training s",
        "tokens/s",
        "x floor",
        "MiB",
    ]
    rows = []
    for point in found["points"]:
        seconds, least = point["seconds"], point["floors"]
        rows.append(
            [
                str(point["sequences"]),
                *(f"{seconds[phase]:.3g}" for phase in ("whole step", "generation")),
                f"{point['tokens'] / seconds['generation']:,.0f}",
                f"{seconds['generation'] / least['decode with cache']:.2f}",
                f"{seconds['training']:.3g}",
                f"{point['tokens'] * point['epochs'] / seconds['training']:,.0f}",
                f"{seconds['training'] / least['training']:.2f}",
                f"{point['peak_mib']:,.0f}",
            ]
        )
    return lines + report.table(columns, rows)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", default="A", choices=list(SIZES))
    add("--sequences", nargs="+", type=int, help="completions of a step (default: the size's own)")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--iterations", type=int, default=3, help="timed steps (default: 3)")
    add("--bf16", action="store_true", help="bfloat16 over float32 weights on a CPU too")
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add("--micro-batch", type=int, help="sequences of a forward pass (default: all; on a GPU 16)")
    add("--deterministic", action="store_true", help="as runs are by default")
    add("--compile", action="store_true", help="compiled layers")
    add("--checkpointing", action="store_true", help="gradient checkpointing")
    add("--no-graphs", action="store_true", help="decode without CUDA graphs")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    add("--name", help="name of the results (default: alone, the device and the size)")
    args = parser.parse_args()
    report.restart_with_threads(args.threads)
    gpu, base = args.device == "cuda", SIZES[args.size]
    found = report.surroundings(args.device, args.threads)
    use_determinism(args.deterministic)
    setting = Setting(
        device=args.device,
        bf16=gpu or args.bf16,
        wall=gpu or args.threads > 1,
        graphs=not args.no_graphs,
        compiled=args.compile,
        checkpointing=args.checkpointing,
    )
    switches = [name for name in ("deterministic", "compile", "checkpointing", "no_graphs") if getattr(args, name)]
    found |= {
        "rates": floors.measure_rates(setting),
        "iterations": args.iterations,
        "details": f"{base.name}: {base.layers} layers of {base.hidden}, vocabulary {base.vocabulary:,}; prompts of "
        f"{base.prompt_tokens[0]} to {base.prompt_tokens[1]} tokens, {base.group} completions each of "
        f"{base.new_tokens[0]} to {base.new_tokens[1]} tokens, {base.epochs} epochs; "
        f"{'bfloat16 over float32 weights' if gpu else 'float32'}{''.join(f', {name}' for name in switches)}",
        "points": [],
    }
    name = args.name or "-".join(["alone", args.device, args.size, *switches])
    for sequences in args.sequences or [base.sequences]:
        if sequences % base.group:
            raise SystemExit(
                f"--sequences {sequences}: give a multiple of {base.group}, the group size of {base.name}."
            )
        micro = min(args.micro_batch or (16 if gpu else sequences), sequences)
        size = replace(base, prompts=sequences // base.group)
        point = measure(size, replace(setting, micro_batch_size=micro), args.iterations, found["rates"])
        found["points"].append(point)
        lines = lines_of(found)
        paths = report.write(args.out, name, lines, found)  # after each point: the next one may not fit
        print(lines[-2], flush=True)
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()
    print("\n".join(lines))
    print("Written:", *paths)


if __name__ == "__main__":
    main()
