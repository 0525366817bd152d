"""Measuring a policy on benchmarks: every sample is kept, and an interrupted evaluation goes on where it was.

Problems are taken in blocks; each block is written to one Parquet file, in one step, when it is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grouprl.answers.grading import GRADER_VERSION, grade
from grouprl.answers.text import Extraction
from grouprl.batch import Prompts
from grouprl.evaluation.benchmarks import Benchmark, BenchmarkProblem
from grouprl.evaluation.exemplars import Exemplar
from grouprl.evaluation.prompts import Mode, Prompt, build_prompt, stop_strings
from grouprl.evaluation.results import digest
from grouprl.files import Row, read_json, read_parquet, write_json, write_parquet
from grouprl.policy.policy import Policy
from grouprl.runtime.memory import MemoryLimits
from grouprl.sampling.base import Sampler
from grouprl.sampling.group import GroupSampler
from grouprl.sampling.rounds import ToolRounds
from grouprl.sampling.tools.transcript import OUTPUT_FENCE

SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class EvaluationSettings:
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


@dataclass(frozen=True)
class _Sample:
    """A completion of a problem, as it was drawn."""

    text: str
    truncated: bool
    tokens: int
    tool_rounds: int


_NOT_ASKED = _Sample("", truncated=True, tokens=0, tool_rounds=0)
"""Stands for the completions of a problem that does not fit the context."""


class Evaluation:
    """One benchmark in one mode, in a folder of its own."""

    def __init__(
        self,
        policy: Policy,
        benchmark: Benchmark,
        settings: EvaluationSettings,
        folder: Path,
        *,
        name: str,
        exemplars: Sequence[Exemplar] = (),
        memory: MemoryLimits | None = None,
        make_sampler: Callable[..., Sampler] = GroupSampler,
    ) -> None:
        """Take up what the folder holds of the same settings.

        Args:
            policy: The policy.
            benchmark: The benchmark.
            settings: How it is asked.
            folder: Where blocks are kept.
            name: The policy's name in results.
            exemplars: Solved problems for few-shot prompts.
            memory: How many sequences are decoded at once, fewer after out-of-memory errors; None: limits of its own.
            make_sampler: Makes what samples, with the arguments of `grouprl.sampling.group.GroupSampler`.

        Raises:
            ValueError: The folder holds an evaluation with other settings.
        """
        self.exemplars = exemplars[: settings.shots]
        self.policy, self.benchmark, self.settings, self.folder = policy, benchmark, settings, folder
        self.memory, self.make_sampler = memory or limits_of(policy), make_sampler
        self.description = settings.describe(benchmark, name)
        self.description["exemplars"] = digest({str(n): asdict(shot) for n, shot in enumerate(self.exemplars)})
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / SETTINGS_FILE
        if file.is_file() and read_json(file) != json.loads(json.dumps(self.description)):
            raise ValueError(
                f"out={folder}: it holds an evaluation with other settings (see {file}). Choose another folder."
            )
        write_json(file, self.description)

    def run(self, problems: Sequence[BenchmarkProblem], progress: Callable[[int], None] = lambda _: None) -> list[Row]:
        """Rows of all samples, those of finished blocks from their files.

        Args:
            problems: The benchmark's problems.
            progress: Called with the number of problems done.
        """
        rows: list[Row] = []
        for start in range(0, len(problems), self.settings.block):
            file = self.folder / f"block-{start:06d}.parquet"
            block = problems[start : start + self.settings.block]
            if file.is_file():
                rows += read_parquet(file)
            else:
                made = list(self._measure(block, start))
                write_parquet(file, made)
                rows += made
            progress(len(block))
        return rows

    def _measure(self, problems: Sequence[BenchmarkProblem], start: int) -> Iterator[Row]:
        mode, tokenizer, context = self.settings.mode, self.policy.tokenizer, self.policy.context
        prompts = [
            build_prompt(tokenizer, self.benchmark, problem, mode, exemplars=self.exemplars, context=context)
            for problem in problems
        ]
        asked = [number for number, prompt in enumerate(prompts) if prompt.fits]
        batch = Prompts(
            problems=tuple(problems[number].problem for number in asked),
            answers=tuple(problems[number].answer for number in asked),
            token_ids=tuple(prompts[number].token_ids for number in asked),
            indices=tuple(start + number for number in asked),
        )
        samples = dict(zip(asked, self._samples(batch), strict=True))
        for number, (problem, prompt) in enumerate(zip(problems, prompts, strict=True)):
            for sample, drawn in enumerate(samples.get(number, [_NOT_ASKED])):
                yield self._row(start + number, sample, problem, prompt, drawn)

    def _row(self, index: int, sample: int, problem: BenchmarkProblem, prompt: Prompt, drawn: _Sample) -> Row:
        verdict = grade(
            drawn.text,
            problem.answer,
            self.benchmark.kind,
            self.settings.extraction,
            tolerance=self.benchmark.tolerance,
        )
        return {
            "benchmark": self.benchmark.name,
            "mode": self.settings.mode,
            "index": index,
            "sample": sample,
            "problem": problem.problem,
            "gold": problem.answer,
            "prompt": prompt.text,
            "completion": drawn.text,
            "answer": verdict.answer or "",
            "correct": verdict.correct,
            "status": verdict.status if prompt.fits else "overlong",
            "rule": verdict.rule,
            "truncated": drawn.truncated,
            "tokens": drawn.tokens,
            "tool_rounds": drawn.tool_rounds,
            "shots": prompt.shots,
        }

    def _samples(self, prompts: Prompts) -> list[list[_Sample]]:
        """The samples of each prompt."""
        if not len(prompts):
            return []
        room = self.settings.max_new_tokens
        if self.policy.context is not None:
            room = min(room, self.policy.context - max(map(len, prompts.token_ids)))
        greedy, seed = self.settings.samples == 0, self.settings.seed
        sampler = self.make_sampler(
            group_size=max(2, self.settings.samples),
            max_new_tokens=room,
            stop=stop_strings(self.benchmark, self.settings.mode),
            tools=self.settings.tools if self.settings.mode == "tir" else None,
        )
        rollouts = self.memory.sample(
            sampler,
            prompts,
            lambda sampler: sampler(self.policy, prompts, seed=seed, greedy=greedy),
            group=1 if greedy else sampler.group_size,
        )
        return [
            [
                _Sample(text, truncated, tokens, text.count(OUTPUT_FENCE))
                for text, truncated, tokens in zip(texts, cut_off, lengths, strict=True)
            ]
            for texts, cut_off, lengths in zip(
                rollouts.completions, rollouts.truncated.tolist(), rollouts.lengths.tolist(), strict=True
            )
        ]


def limits_of(policy: Policy) -> MemoryLimits:
    """Limits for all evaluations of a policy: out of memory, the same is asked again of half as many at once."""
    return MemoryLimits(policy, on_out_of_memory="halve", sequences_option="sequences at once")
