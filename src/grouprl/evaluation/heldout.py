"""Held-out evaluation: sampled and greedy completions of problems that are never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from grouprl.batch import Prompts
from grouprl.evaluation.results import GREEDY
from grouprl.files import Row
from grouprl.policy.policy import Policy
from grouprl.rewards.rules import are_correct, has_box, has_steps
from grouprl.sampling.base import Sampler
from grouprl.statistics.proportions import Estimate, clustered_ratio, pass_at_k, wilson

COVERAGE = (4, 8)
"""Sizes of the attempts whose chance to hold a right sample is told."""


@dataclass(frozen=True)
class ProblemResult:
    """The k samples of one problem, and its greedy completion."""

    problem: int
    """Place among the held-out problems."""
    marks: tuple[bool, ...]
    """Of each sample whether it is right."""
    lengths: tuple[int, ...]
    """Of each sample its tokens."""
    boxed: int
    stepped: int
    stepped_correct: int
    truncated: int
    greedy_correct: bool
    greedy_length: int
    question: str = ""
    """The problem's text."""
    greedy_text: str = ""
    """The greedy completion."""

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.marks)

    @property
    def correct(self) -> int:
        """Number of right samples."""
        return sum(self.marks)


def measure(
    policy: Policy, sampler: Sampler, prompts: Prompts, *, samples: int, seed: int, at_once: int | None = None
) -> list[ProblemResult]:
    """Evaluate a policy on held-out prompts, ``samples`` draws each at its temperature and one greedy completion.

    Answers are read from the last box, whatever reward the policy is trained on.

    Args:
        policy: The policy.
        sampler: What it is sampled with.
        prompts: The problems.
        samples: Samples of each.
        seed: Of the draws.
        at_once: Samples of a problem that are drawn in one go, each go with a seed of its own; None: all of them.
    """
    most = at_once or samples
    sizes = [min(most, samples - start) for start in range(0, samples, most)]
    parts = [
        replace(sampler, group_size=size)(policy, prompts, seed=seed + go * 2**32) for go, size in enumerate(sizes)
    ]
    greedy = sampler(policy, prompts, seed=seed, greedy=True)
    sampled = [[text for part in parts for text in part.completions[row]] for row in range(len(prompts))]
    marks = are_correct([[*texts, greedy.completions[row][0]] for row, texts in enumerate(sampled)], prompts.answers)
    results = []
    for row, texts in enumerate(sampled):
        *correct, greedy_correct = marks[row]
        stepped = [has_steps(text) for text in texts]
        results.append(
            ProblemResult(
                problem=prompts.indices[row],
                marks=tuple(correct),
                lengths=tuple(length for part in parts for length in part.lengths[row].tolist()),
                boxed=sum(map(has_box, texts)),
                stepped=sum(stepped),
                stepped_correct=sum(c and s for c, s in zip(correct, stepped, strict=True)),
                truncated=sum(int(part.truncated[row].sum()) for part in parts),
                greedy_correct=greedy_correct,
                greedy_length=int(greedy.lengths[row, 0]),
                question=prompts.problems[row],
                greedy_text=greedy.completions[row][0],
            )
        )
    return results


def summarize(results: Sequence[ProblemResult]) -> dict[str, Estimate]:
    """Estimates with 95% intervals over problems.

    ``pass@1``: chance that a sample is right; ``greedy``: share of right greedy completions; ``correct_if_boxed`` and
    ``correct_if_stepped``: share of right samples among those with a box, or with shown steps, which format alone
    does not raise; ``boxed``, ``stepped``, ``truncated``: shares of all samples; ``pass@4`` and ``pass@8``, of as many
    samples at least (of fewer ``pass@k`` of all k): chance that one of so many samples is right.
    """

    def share(numerator: str, denominator: str) -> Estimate:
        return clustered_ratio([getattr(r, numerator) for r in results], [getattr(r, denominator) for r in results])

    count = len(results)
    samples = min((r.samples for r in results), default=0)
    sizes = [k for k in COVERAGE if k <= samples] or [samples]
    chances = {k: [pass_at_k(r.samples, r.correct, k) if k else 0.0 for r in results] for k in sizes}
    return {
        "pass@1": share("correct", "samples"),
        "greedy": wilson(sum(r.greedy_correct for r in results), count),
        "correct_if_boxed": share("correct", "boxed"),
        "correct_if_stepped": share("stepped_correct", "stepped"),
        "boxed": share("boxed", "samples"),
        "stepped": share("stepped", "samples"),
        "truncated": share("truncated", "samples"),
        **{f"pass@{k}": clustered_ratio(values, [1.0] * count) for k, values in chances.items()},
    }


def rows_of(results: Sequence[ProblemResult]) -> list[Row]:
    """A row for each completion, in the order of the problems; `GREEDY` is the sample of the greedy one.

    Question and text are those of the greedy completion alone, and None in the other rows.
    """
    rows: list[Row] = []
    for result in sorted(results, key=lambda result: result.problem):
        greedy = {"question": result.question, "text": result.greedy_text}
        shown = [(GREEDY, result.greedy_correct, result.greedy_length)]
        shown += [(n, *pair) for n, pair in enumerate(zip(result.marks, result.lengths, strict=True))]
        for sample, correct, tokens in shown:
            row = {"problem": result.problem, "sample": sample, "correct": correct, "tokens": tokens}
            rows.append(row | (greedy if sample == GREEDY else dict.fromkeys(greedy)))
    return rows
