"""grouprl beside TRL's GRPOTrainer: first whether both compute the same, then seconds by phase, then peak memory.

    pip install -e ".[bench]"
    python benchmarks/vs_trl.py --size toy                          # does it run? under a minute
    python benchmarks/vs_trl.py --size A B32 B152 --beta 0 0.04 --lora off on --memory
    python benchmarks/vs_trl.py --size Q1.5 --device cuda --sequences 16 64 256 --memory

Rules and columns: see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import equality
import floors
import report
import torch
from comparison import Job, lines_of, summary
from side_grouprl import GroupRLSide
from side_trl import TRLSide
from sides import Setting, Side
from workload import SIZES, Memory, build_prompts, completion_lengths

SIDES: dict[str, type[Side]] = {"grouprl": GroupRLSide, "TRL": TRLSide}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", nargs="+", default=["A"], choices=list(SIZES), help="models and batches (default: A)")
    add("--beta", nargs="+", type=float, default=[0.0], help="coefficients of the KL term; above 0 takes a reference")
    add("--lora", nargs="+", default=["off"], choices=["off", "on"], help="train all weights, or LoRA adapters")
    add(
        "--ratios",
        nargs="+",
        default=["default"],
        metavar="P:C",
        help="mean tokens of prompts to completions, as 1:4, of the same sum; default: the size's own",
    )
    add("--sequences", nargs="+", type=int, help="completions of a step (default: the size's own)")
    add("--epochs", type=int, help="PPO epochs (default: the size's own)")
    add("--pairs", type=int, default=5, help="timed pairs of steps, at least 5 to be reported (default: 5)")
    add("--threads", type=int, default=1, help="CPU threads; above 1, wall time is taken (default: 1)")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--bf16", action="store_true", help="bfloat16 over float32 weights on the CPU too (on a GPU it always is)")
    add("--micro-batch", type=int, help="sequences of a forward pass (default: CPU all of a step; GPU 16, or 8 below "
        "100 GiB)")  # fmt: skip
    add("--checkpointing", action="store_true", help="gradient checkpointing on both sides")
    add("--no-graphs", action="store_true", help="grouprl decodes eagerly on a GPU, too")
    add("--compile", action="store_true", help="grouprl trains with compiled layers")
    add("--compact-head", action="store_true", help="make TRL's head score completions alone where it has no Triton")
    add("--memory", action="store_true", help="measure peak memory too, each side in a process of its own")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    add("--name", help="name of the results (default: vs_trl, the device and the sizes)")
    add("--dry-run", action="store_true", help="list the settings and stop")
    add("--task", choices=["compare", "memory:grouprl", "memory:TRL"], help=argparse.SUPPRESS)
    add("--job", type=Job.read, help=argparse.SUPPRESS)
    add("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """Every combination that was asked for."""
    gpu, micro = args.device == "cuda", args.micro_batch
    if micro is None:
        large = gpu and torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory > 100 * 2**30
        micro = (16 if large else 8) if gpu else 0
    jobs = []
    for name, sequences, ratio, lora, beta in itertools.product(
        args.size, args.sequences or [0], args.ratios, args.lora, args.beta
    ):
        size = SIZES[name]
        if sequences % size.group:
            raise SystemExit(f"--sequences {sequences}: give a multiple of {size.group}, the group size of {name}.")
        size = replace(size, epochs=args.epochs or size.epochs, prompts=sequences // size.group or size.prompts)
        if ratio != "default":
            size = size.with_ratio(*map(int, ratio.split(":")))
        fitting = min(micro, size.sequences)
        if fitting and (size.sequences % fitting or (fitting % size.group and size.group % fitting)):
            # Else the sides would cut a step into unequal pieces.
            raise SystemExit(
                f"--micro-batch {micro}: give a divisor of {size.sequences} that is a multiple or a divisor of the "
                f"group size {size.group}."
            )
        setting = Setting(
            beta=beta,
            lora=lora == "on",
            device=args.device,
            bf16=gpu or args.bf16,
            micro_batch_size=fitting,
            checkpointing=args.checkpointing,
            graphs=not args.no_graphs,
            compiled=args.compile,
            compact_head=args.compact_head,
            wall=gpu or args.threads > 1,
        )
        jobs.append(Job(size, setting, ratio, args.pairs))
    return jobs


def compare(job: Job) -> dict[str, Any]:
    """Check that the sides compute the same, and time pairs of their steps."""
    rates = floors.measure_rates(job.setting)
    sides = {name: side(job.size, job.setting) for name, side in SIDES.items()}
    found: dict[str, Any] = {"equality": equality.check(job.size, job.setting, sides["grouprl"], sides["TRL"])}
    say(equality.describe(found["equality"]))
    for name, side in sides.items():
        say(f"warm-up of {name}: {side.step()['whole step']:.3g} s")
    pairs: list[dict[str, dict[str, float]]] = []
    for number in range(job.pairs):
        # Each goes first in every other pair, and neither collects the other's garbage.
        pair = {}
        for name in list(sides)[:: 1 if number % 2 else -1]:
            gc.collect()
            pair[name] = sides[name].step()
        pairs.append(pair)
        say(f"pair {number + 1} of {job.pairs}: " + ", ".join(f"{n} {pair[n]['whole step']:.3g} s" for n in sides))
        check_work(job, sides, iterations=number + 2)
    for side in sides.values():
        side.end()
    each = [floors.floors(job.size, job.setting, rates, number) for number in range(1, job.pairs + 1)]
    least = {name: sum(floor[name] for floor in each) / len(each) for name in each[0]}
    return found | {"rates": rates, "floors": least, "pairs": pairs}


def check_work(job: Job, sides: dict[str, Side], iterations: int) -> None:
    """Stop where a side did other work than was asked for."""
    prompts = [list(ids) for ids in build_prompts(job.size).token_ids]
    lengths, steps = completion_lengths(job.size, iterations - 1).tolist(), iterations * job.size.epochs
    for name, side in sides.items():
        given = side.prompt_ids if len(side.prompt_ids) == len(prompts) else side.prompt_ids[:: job.size.group]
        if side.lengths != lengths or given != prompts:
            raise SystemExit(
                f"{name} sampled other prompts or lengths than were forced: {side.lengths}, not {lengths}."
            )
        if side.optimizer_steps != steps:
            raise SystemExit(f"{name} took {side.optimizer_steps} optimizer steps, not {steps}.")
        passes = job.size.epochs * job.size.sequences // (job.setting.micro_batch_size or job.size.sequences)
        if side.backward_passes != passes:
            raise SystemExit(f"{name} cut a step into {side.backward_passes} micro-batches, not {passes}.")


def peak_memory(name: str, job: Job) -> dict[str, float]:
    """Peak memory of two steps of a side above the built model (and its reference), in MiB."""
    # Code that is loaded at the first step is no memory of the method.
    before = SIDES[name](SIZES["toy"], replace(job.setting, micro_batch_size=0))
    before.step()
    before.end()
    del before
    side = SIDES[name](job.size, job.setting)
    memory = Memory(job.setting.device)
    for _ in range(2):
        side.step()
    return {"peak_mib": memory.peak()}


def in_process(task: str, job: Job) -> dict[str, Any]:
    """What a task gives, done in a process of its own, so that no setting finds another's memory or threads."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, __file__, "--task", task, "--job", json.dumps(asdict(job)), "--result", file.name]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"{job.title}: stopped, see above.")
        return json.load(file)


def say(text: str) -> None:
    """A line of progress."""
    print("  " + text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the settings one after the other; results are written after each."""
    args = arguments()
    if args.task:
        name = args.task.partition(":")[2]
        args.result.write_text(json.dumps(peak_memory(name, args.job) if name else compare(args.job)))
        return
    report.restart_with_threads(args.threads)
    jobs = jobs_of(args)
    if args.dry_run:
        print("\n".join(f"{job.title}: {job.details}." for job in jobs))
        return
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no GPU.")
    where = report.surroundings(args.device, args.threads)
    name = args.name or "-".join(["vs_trl", args.device, *dict.fromkeys(args.size)])
    results: list[dict[str, Any]] = []
    for job in jobs:
        print(f"{job.title}: {job.details}", file=sys.stderr, flush=True)
        result = {"title": job.title, "details": job.details, "job": asdict(job)} | in_process("compare", job)
        result["summary"] = summary(result)
        if args.memory:
            result["memory"] = {side: in_process(f"memory:{side}", job)["peak_mib"] for side in SIDES}
        results.append(result)
        lines = lines_of(results, where)
        paths = report.write(args.out, name, lines, where | {"results": results})
    print("\n".join(lines))
    print("Written:", *paths)


if __name__ == "__main__":
    main()
