"""Measuring a policy on benchmarks: every sample is kept, and an interrupted evaluation goes on where it was.

Problems are taken in blocks; each block is written to one Parquet file, in one step, when it is done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from grouprl.answers.extraction import Extraction
from grouprl.answers.grading import GRADER_VERSION, Verdict
from grouprl.batch import Prompts
from grouprl.data.exemplars import Exemplar
from grouprl.evaluation.benchmarks import Benchmark, BenchmarkProblem
from grouprl.evaluation.kept import INPUTS, OF_THE_POLICY, KeptBlocks
from grouprl.evaluation.prompts import Mode, Prompt, build_prompt, stop_strings
from grouprl.evaluation.results import digest
from grouprl.evaluation.rows import NOT_GRADED, Grading, grade_rows, verdict_columns
from grouprl.files import Row
from grouprl.policy.digests import config_digest, tokenizer_digest, weights_digest
from grouprl.policy.policy import Policy
from grouprl.runtime.memory import MemoryLimits
from grouprl.sampling.base import Sampler
from grouprl.sampling.group import GroupSampler
from grouprl.sampling.rounds import ToolRounds
from grouprl.sampling.transcript import OUTPUT_FENCE


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

    def describe(self, benchmark: Benchmark) -> dict[str, Any]:
        """The options that decide the samples and their grades."""
        values = {key: value for key, value in asdict(self).items() if key != "tools"}
        asked = {"name": benchmark.name, "style": benchmark.style, "shots": benchmark.shots, "kind": benchmark.kind}
        tools = {"tools": _without_workers(self.tools)} if self.mode == "tir" else {}
        return {"benchmark": asked, "grader": GRADER_VERSION, **values, **tools}


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
        inputs: Mapping[str, str] | None = None,
        accepted: Collection[str] = (),
        exemplars: Sequence[Exemplar] = (),
        memory: MemoryLimits | None = None,
        make_sampler: Callable[..., Sampler] = GroupSampler,
    ) -> None:
        """Set it up; nothing is read or written before `run`.

        Args:
            policy: The policy.
            benchmark: The benchmark.
            settings: How it is asked.
            folder: Where blocks are kept.
            inputs: Digests of what it depends on, by name; None: of the policy's weights and tokenizer.
            accepted: Names of inputs that may be others than those of the blocks that the folder holds.
            exemplars: Solved problems for few-shot prompts.
            memory: How many sequences are decoded at once, fewer after out-of-memory errors; None: limits of its own.
            make_sampler: Makes what samples, with the arguments of `grouprl.sampling.group.GroupSampler`.
        """
        self.exemplars = exemplars[: settings.shots]
        self.policy, self.benchmark, self.settings, self.folder = policy, benchmark, settings, folder
        self.memory, self.make_sampler = memory or limits_of(policy), make_sampler
        self.description = settings.describe(benchmark)
        self.grading = Grading.of(benchmark, settings.extraction)
        self.inputs = dict(inputs_of(policy) if inputs is None else inputs)
        self.accepted = accepted
        self.accepted_changes: list[dict[str, Any]] = []
        """After `run`: inputs that changed on the way, and the blocks measured before, as `KeptBlocks` says it."""

    def run(self, problems: Sequence[BenchmarkProblem], progress: Callable[[int], None] = lambda _: None) -> list[Row]:
        """Rows of all samples, those of finished blocks from their files.

        Args:
            problems: The benchmark's problems.
            progress: Called with the number of problems done.

        Raises:
            ValueError: The folder holds an evaluation with other settings or inputs, or a block that was changed.
        """
        self.inputs |= {
            self.benchmark.file or self.benchmark.name: _digest_of(problems),
            "exemplars": _digest_of(self.exemplars),
        }
        kept = KeptBlocks(self.folder, {**self.description, INPUTS: self.inputs}, self.accepted)
        self.accepted_changes = kept.accepted_changes
        rows: list[Row] = []
        for start in range(0, len(problems), self.settings.block):
            block = problems[start : start + self.settings.block]
            prompts = [self._prompt(problem) for problem in block]
            made = kept.read(start, prompts, [(problem.problem, problem.answer) for problem in block])
            if made is None:
                made = list(self._measure(block, prompts, start))
                kept.write(start, made)
            else:
                made = self._graded_again(made)
            rows += made
            progress(len(block))
        return rows

    def _prompt(self, problem: BenchmarkProblem) -> Prompt:
        tokenizer, context = self.policy.tokenizer, self.policy.context
        return build_prompt(
            tokenizer, self.benchmark, problem, self.settings.mode, exemplars=self.exemplars, context=context
        )

    def _measure(self, problems: Sequence[BenchmarkProblem], prompts: Sequence[Prompt], start: int) -> Iterator[Row]:
        asked = [number for number, prompt in enumerate(prompts) if prompt.fits]
        batch = Prompts(
            problems=tuple(problems[number].problem for number in asked),
            answers=tuple(problems[number].answer for number in asked),
            token_ids=tuple(prompts[number].token_ids for number in asked),
            indices=tuple(start + number for number in asked),
        )
        samples = dict(zip(asked, self._samples(batch), strict=True))
        drawn = [
            (number, sample, completion)
            for number in range(len(problems))
            for sample, completion in enumerate(samples.get(number, [_NOT_ASKED]))
        ]
        verdicts = self.grading.verdicts([c.text for _, _, c in drawn], [problems[number] for number, _, _ in drawn])
        for (number, sample, completion), verdict in zip(drawn, verdicts, strict=True):
            yield self._row(start + number, sample, problems[number], prompts[number], completion, verdict)

    def _graded_again(self, rows: list[Row]) -> list[Row]:
        """The rows, those that could not be graded in time with another try: a verdict of the moment is not kept."""
        late = [place for place, row in enumerate(rows) if row["status"] == "timeout"]
        for place, graded in zip(late, grade_rows([rows[place] for place in late], self.grading), strict=True):
            rows[place] = graded
        return rows

    def _row(
        self, index: int, sample: int, problem: BenchmarkProblem, prompt: Prompt, drawn: _Sample, verdict: Verdict
    ) -> Row:
        return {
            "benchmark": self.benchmark.name,
            "mode": self.settings.mode,
            "index": index,
            "sample": sample,
            "problem": problem.problem,
            "gold": problem.answer,
            "prompt": prompt.text,
            "completion": drawn.text,
            "tolerance": problem.tolerance,
            "accepted": list(problem.accepted),
            **verdict_columns(verdict),
            **({} if prompt.fits else {"status": NOT_GRADED}),
            "truncated": drawn.truncated,
            "tokens": drawn.tokens,
            "tool_rounds": drawn.tool_rounds,
            "shots": prompt.shots,
        }

    def _samples(self, prompts: Prompts) -> list[list[_Sample]]:
        """The samples of each prompt, whose completions have the room that its own length leaves in the context."""
        rooms: dict[int, list[int]] = defaultdict(list)
        for place, tokens in enumerate(prompts.token_ids):
            left = self.settings.max_new_tokens if self.policy.context is None else self.policy.context - len(tokens)
            rooms[min(self.settings.max_new_tokens, left)].append(place)
        found = dict[int, list[_Sample]]()
        for room, places in rooms.items():
            found.update(zip(places, self._samples_within(prompts.take(places), room), strict=True))
        return [found[place] for place in range(len(prompts))]

    def _samples_within(self, prompts: Prompts, room: int) -> list[list[_Sample]]:
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


def inputs_of(policy: Policy) -> dict[str, str]:
    """Digests of a policy's weights, configuration and tokenizer, which an evaluation depends on."""
    tokens = tokenizer_digest(policy.tokenizer)
    tokens = tokens if policy.skip_special_tokens else digest({"tokenizer": tokens, "skip_special_tokens": False})
    digests = weights_digest(policy), config_digest(policy), tokens
    return dict(zip(OF_THE_POLICY, digests, strict=True))


def _digest_of(things: Sequence[BenchmarkProblem | Exemplar]) -> str:
    return digest({str(number): asdict(thing) for number, thing in enumerate(things)})


def _without_workers(tools: ToolRounds) -> dict[str, Any]:
    """The rounds, and the limits of what runs the blocks; how many run at once changes nothing."""
    sandbox = tools.sandbox
    limits: dict[str, Any] = asdict(sandbox) if is_dataclass(sandbox) and not isinstance(sandbox, type) else {}
    kind = f"{type(sandbox).__module__}.{type(sandbox).__qualname__}"
    return {"rounds": tools.rounds, "sandbox": kind, **{k: v for k, v in limits.items() if k != "workers"}}


def limits_of(policy: Policy) -> MemoryLimits:
    """Limits for all evaluations of a policy: out of memory, the same is asked again of half as many at once."""
    return MemoryLimits(policy, on_out_of_memory="halve", sequences_option="sequences at once")
