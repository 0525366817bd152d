"""Held-out evaluation: sampled and greedy completions of problems that are never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from grouprl.batch import Prompts
from grouprl.policy.policy import Policy
from grouprl.rewards.rules import are_correct, has_box, has_steps
from grouprl.sampling.base import Sampler
from grouprl.statistics import Estimate, clustered_ratio, wilson


@dataclass(frozen=True)
class ProblemResult:
    """Counts over the k samples of one problem, and its greedy completion."""

    samples: int
    correct: int
    boxed: int
    stepped: int
    stepped_correct: int
    truncated: int
    tokens: int
    greedy_correct: bool


def measure(policy: Policy, sampler: Sampler, prompts: Prompts, *, samples: int, seed: int) -> list[ProblemResult]:
    """Evaluate a policy on held-out prompts, ``samples`` draws each at its temperature and one greedy completion.

    Answers are read from the last box, whatever reward the policy is trained on.
    """
    drawn = replace(sampler, group_size=samples)(policy, prompts, seed=seed)
    greedy = sampler(policy, prompts, seed=seed, greedy=True)
    results = []
    for row, gold in enumerate(prompts.answers):
        texts = drawn.completions[row]
        *correct, greedy_correct = are_correct([*texts, greedy.completions[row][0]], gold)
        stepped = [has_steps(text) for text in texts]
        results.append(
            ProblemResult(
                samples=samples,
                correct=sum(correct),
                boxed=sum(map(has_box, texts)),
                stepped=sum(stepped),
                stepped_correct=sum(c and s for c, s in zip(correct, stepped, strict=True)),
                truncated=int(drawn.truncated[row].sum()),
                tokens=int(drawn.lengths[row].sum()),
                greedy_correct=greedy_correct,
            )
        )
    return results


def summarize(results: Sequence[ProblemResult]) -> dict[str, Estimate]:
    """Estimates with 95% intervals over problems.

    ``pass@1``: chance that a sample is right; ``greedy``: share of right greedy completions; ``correct_if_boxed`` and
    ``correct_if_stepped``: share of right samples among those with a box, or with shown steps, which format alone
    does not raise; ``boxed``, ``stepped``, ``truncated``: shares of all samples; ``pass@k``: share of problems with a
    right sample among the k drawn.
    """

    def share(numerator: str, denominator: str) -> Estimate:
        return clustered_ratio([getattr(r, numerator) for r in results], [getattr(r, denominator) for r in results])

    count = len(results)
    solved = wilson(sum(r.correct > 0 for r in results), count)
    return {
        "pass@1": share("correct", "samples"),
        "greedy": wilson(sum(r.greedy_correct for r in results), count),
        "correct_if_boxed": share("correct", "boxed"),
        "correct_if_stepped": share("stepped_correct", "stepped"),
        "boxed": share("boxed", "samples"),
        "stepped": share("stepped", "samples"),
        "truncated": share("truncated", "samples"),
        f"pass@{results[0].samples if results else 0}": solved,
    }
