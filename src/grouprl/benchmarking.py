"""Measuring a policy on benchmarks: every sample is kept, and an interrupted evaluation goes on where it was.

Problems are taken in blocks; each block is written to one Parquet file, in one step, when it is done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grouprl.answers import GRADER_VERSION, Extraction, compare_answers, grade
from grouprl.batch import Prompts
from grouprl.benchmark_prompts import Mode, Prompt, build_prompt, stop_strings
from grouprl.benchmarks import Benchmark, BenchmarkProblem, Exemplar
from grouprl.memory import MemoryLimits
from grouprl.policy import Policy
from grouprl.sampling import GroupSampler
from grouprl.statistics import Estimate, clustered_ratio, equivalence_classes, majority, pass_at_k, wilson
from grouprl.tool_decoding import ToolRounds

Row = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """How a policy is asked. Everything here is written beside the results."""

    mode: Mode = "cot"
    samples: int = 0
    """Samples of each problem; 0: one greedy completion."""
    temperature: float = 1.0
    """Of the samples; greedy completions have none."""
    max_new_tokens: int = 2048
    shots: int | None = None
    """Exemplars at most; None: what the benchmark says."""
    extraction: Extraction = "lenient"
    limit: int | None = None
    seed: int = 0
    block: int = 32
    """Problems of a block."""
    tools: ToolRounds = field(default_factory=ToolRounds)

    def describe(self, benchmark: Benchmark, policy: str) -> dict[str, Any]:
        """What decides the samples and their grades."""
        values = {key: value for key, value in asdict(self).items() if key != "tools"}
        asked = {"name": benchmark.name, "style": benchmark.style, "shots": benchmark.shots, "kind": benchmark.kind}
        rounds = {"rounds": self.tools.rounds} if self.mode == "tir" else {}
        return {"policy": policy, "benchmark": asked, "grader": GRADER_VERSION, **values, **rounds}


class Evaluation:
    """One benchmark in one mode, in a folder of its own."""

    def __init__(
        self,
        policy: Policy,
        benchmark: Benchmark,
        protocol: Protocol,
        folder: Path,
        *,
        name: str,
        exemplars: Sequence[Exemplar] = (),
        memory: MemoryLimits | None = None,
    ) -> None:
        """Take up what the folder holds of the same protocol; another's is refused with a `ValueError`.

        Args:
            policy: The policy.
            benchmark: The benchmark.
            protocol: How it is asked.
            folder: Where blocks are kept.
            name: The policy's name in results.
            exemplars: Solved problems for few-shot prompts.
            memory: How many sequences are decoded at once, fewer after out-of-memory errors; None: limits of its own.
        """
        self.exemplars = exemplars[: protocol.shots]
        self.policy, self.benchmark, self.protocol, self.folder = policy, benchmark, protocol, folder
        self.memory = memory or limits_of(policy)
        self.description = protocol.describe(benchmark, name)
        self.description["exemplars"] = digest({str(n): asdict(shot) for n, shot in enumerate(self.exemplars)})
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "protocol.json"
        if file.is_file() and json.loads(file.read_text()) != json.loads(json.dumps(self.description)):
            raise ValueError(
                f"out={folder}: it holds an evaluation with another protocol (see {file}). Choose another folder."
            )
        _write_text(file, json.dumps(self.description, indent=2) + "\n")

    def run(self, problems: Sequence[BenchmarkProblem], progress: Callable[[int], None] = lambda _: None) -> list[Row]:
        """Rows of all samples, those of finished blocks from their files.

        Args:
            problems: The benchmark's problems.
            progress: Called with the number of problems done.
        """
        rows: list[Row] = []
        for start in range(0, len(problems), self.protocol.block):
            file = self.folder / f"block-{start:06d}.parquet"
            block = problems[start : start + self.protocol.block]
            if file.is_file():
                rows += read_rows(file)
            else:
                made = list(self._measure(block, start))
                write_rows(file, made)
                rows += made
            progress(len(block))
        return rows

    def _measure(self, problems: Sequence[BenchmarkProblem], start: int) -> Iterator[Row]:
        protocol, benchmark, tokenizer = self.protocol, self.benchmark, self.policy.tokenizer
        prompts = [
            build_prompt(tokenizer, benchmark, p, protocol.mode, exemplars=self.exemplars, context=self.policy.context)
            for p in problems
        ]
        asked = [number for number, prompt in enumerate(prompts) if prompt.fits]
        completions = self._complete([prompts[n] for n in asked], [start + n for n in asked])
        written = dict(zip(asked, completions, strict=True))
        for number, (problem, prompt) in enumerate(zip(problems, prompts, strict=True)):
            for sample, done in enumerate(written.get(number, [("", True, 0, 0)])):
                yield self._row(start + number, sample, problem, prompt, done)

    def _row(
        self, index: int, sample: int, problem: BenchmarkProblem, prompt: Prompt, done: tuple[str, bool, int, int]
    ) -> Row:
        completion, truncated, tokens, rounds = done
        verdict = grade(
            completion,
            problem.answer,
            self.benchmark.kind,
            self.protocol.extraction,
            tolerance=self.benchmark.tolerance,
        )
        return {
            "benchmark": self.benchmark.name,
            "mode": self.protocol.mode,
            "index": index,
            "sample": sample,
            "problem": problem.problem,
            "gold": problem.answer,
            "prompt": prompt.text,
            "completion": completion,
            "answer": verdict.answer or "",
            "correct": verdict.correct,
            "status": verdict.status if prompt.fits else "overlong",
            "rule": verdict.rule,
            "truncated": truncated,
            "tokens": tokens,
            "tool_rounds": rounds,
            "shots": prompt.shots,
        }

    def _complete(self, prompts: Sequence[Prompt], indices: Sequence[int]) -> list[list[tuple[str, bool, int, int]]]:
        """Text, whether it was cut off, tokens and tool rounds of each sample of each prompt."""
        if not prompts:
            return []
        longest = max(len(prompt.token_ids) for prompt in prompts)
        room = self.protocol.max_new_tokens
        if self.policy.context is not None:
            room = min(room, self.policy.context - longest)
        sampler = GroupSampler(
            group_size=max(2, self.protocol.samples),
            max_new_tokens=room,
            stop=stop_strings(self.benchmark, self.protocol.mode),
            tools="python" if self.protocol.mode == "tir" else "none",
            tool_rounds=self.protocol.tools,
        )
        batch = Prompts(
            problems=("",) * len(prompts),
            answers=("",) * len(prompts),
            token_ids=tuple(prompt.token_ids for prompt in prompts),
            indices=tuple(indices),
        )
        protocol = self.protocol
        rollouts = self.memory.sample(
            sampler,
            batch,
            lambda sampler: sampler(self.policy, batch, seed=protocol.seed, greedy=protocol.samples == 0),
            group=sampler.group_size if protocol.samples else 1,
        )
        samples = self.protocol.samples or 1
        return [
            [
                (
                    rollouts.completions[row][sample],
                    bool(rollouts.truncated[row, sample]),
                    int(rollouts.lengths[row, sample]),
                    rollouts.completions[row][sample].count("```output"),
                )
                for sample in range(samples)
            ]
            for row in range(len(prompts))
        ]


def limits_of(policy: Policy) -> MemoryLimits:
    """Limits for all evaluations of a policy: out of memory, the same is asked again of half as many at once."""
    return MemoryLimits(policy, on_out_of_memory="halve", sequences_dial="sequences at once")


def summarize(rows: Sequence[Row], without: Sequence[int] = ()) -> dict[str, Any]:
    """Accuracy with its interval and all that qualifies it.

    Args:
        rows: All samples of one benchmark in one mode.
        without: Indices of problems to leave out (those that were trained on).
    """
    questions: dict[int, list[Row]] = {}
    for row in rows:
        if row["index"] not in without:
            questions.setdefault(row["index"], []).append(row)
    samples = max((len(group) for group in questions.values()), default=0)
    right = [sum(row["correct"] for row in group) for group in questions.values()]
    counts = [len(group) for group in questions.values()]
    kept = [row for group in questions.values() for row in group]
    accuracy = wilson(sum(right), len(right)) if samples <= 1 else clustered_ratio(right, counts)
    summary: dict[str, Any] = {"accuracy": _estimate(accuracy), "samples": samples, "questions": len(questions)}
    if samples > 1:
        chances = [pass_at_k(n, c, min(samples, n)) for n, c in zip(counts, right, strict=True)]
        votes = [_vote(group) for group in questions.values()]
        ones = [1.0] * len(chances)
        summary[f"avg@{samples}"] = summary["accuracy"]
        summary[f"pass@{samples}"] = _estimate(clustered_ratio(chances, ones))
        summary[f"maj@{samples}"] = _estimate(clustered_ratio(votes, ones))
    total = max(1, len(kept))
    for status in ("unparsable", "timeout", "overlong"):
        summary[status] = sum(row["status"] == status for row in kept)
    summary["truncated"] = sum(row["truncated"] for row in kept) / total
    summary["mean_tokens"] = sum(row["tokens"] for row in kept) / total
    summary["tool_rounds"] = sum(row["tool_rounds"] for row in kept) / total
    summary["shots"] = [min((r["shots"] for r in kept), default=0), max((r["shots"] for r in kept), default=0)]
    return summary


def _vote(group: Sequence[Row]) -> float:
    answers = [group[0]["gold"], *(row["answer"] or None for row in group)]
    labels = equivalence_classes(answers, lambda a, b: compare_answers(str(a), str(b))[0] == "correct")
    return majority(labels[1:]).score(labels[0])


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def write_rows(file: Path, rows: Sequence[Row]) -> None:
    """Write rows as Parquet in one step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    pq.write_table(pa.Table.from_pylist(list(rows)), temporary)
    temporary.replace(file)


def read_rows(file: Path) -> list[Row]:
    """Rows of a Parquet file."""
    import pyarrow.parquet as pq

    return pq.read_table(file).to_pylist()


def _write_text(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(file)


def digest(values: Mapping[str, Any]) -> str:
    """Short hash of a description."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
