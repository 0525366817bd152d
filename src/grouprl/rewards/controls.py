"""Rewards that know nothing of the right answer: what a run gains by them is not due to knowing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from grouprl.answers import grading as answers
from grouprl.batch import Prompts
from grouprl.rewards import checks
from grouprl.rewards.base import Completions, Rewards
from grouprl.rewards.parts import graded, rewards_of, style_parts
from grouprl.statistics.votes import equivalence_classes, majority


@dataclass(frozen=True)
class RandomReward:
    """1 by chance and 0 else, whatever the completion: the control that shows what training alone does.

    Drawn from the seed, the iteration and the prompt's place in it, so that a resumed run draws the same. Correctness
    and style are logged. (Spurious rewards: arXiv 2506.10947.)
    """

    probability: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        checks.random_reward(self.probability)

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        drawn = [
            np.random.default_rng((self.seed, prompts.iteration, index)).random(len(row)) < self.probability
            for index, row in zip(prompts.indices, completions, strict=True)
        ]
        correct, _ = graded(completions, prompts.answers)
        values = torch.tensor(np.array(drawn), dtype=torch.float32)
        return rewards_of(values, {"correct": correct, **style_parts(completions)}, ())


@dataclass(frozen=True)
class MajorityReward:
    """1 where a completion gives the answer that most of its group give, and 0 else: what a policy teaches itself.

    Completions without a boxed answer have no vote and get 0. Of answers with equally many votes the one that was drawn
    first wins; where nobody answers all get 0. Correctness and style are logged. (TTRL: arXiv 2504.16084.)
    """

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        values = torch.tensor([_agreement(row) for row in completions])
        correct, _ = graded(completions, prompts.answers)
        return rewards_of(values, {"correct": correct, **style_parts(completions)}, ())


def _agreement(texts: Sequence[str]) -> list[float]:
    labels = equivalence_classes([answers.extract(text) or None for text in texts], answers.equal)
    winners = majority(labels).winners
    return [float(bool(winners) and label == winners[0]) for label in labels]


@dataclass
class WrongLabelReward:
    """1 where a completion gives one fixed wrong answer, and 0 else: the most frequent one of the starting policy.

    An answer that nobody gives would make every reward 0; this one is learnable, and wrong. The labels are found before
    training (`find`, which ``train.py`` does); a problem that the starting policy never answers wrongly has none, and
    all its completions get 0. Correctness and style are logged. (Spurious rewards: arXiv 2506.10947.)
    """

    samples: int = 8
    """Completions of each problem from which its label is taken."""
    labels: dict[str, str | None] = field(default_factory=dict)
    """The wrong answer to each problem, by the problem's text."""

    def __post_init__(self) -> None:
        checks.wrong_label_reward(self.samples)

    def find(self, completions: Completions, prompts: Prompts) -> None:
        """Note the most frequent wrong answer to each prompt's problem, of several the one drawn first."""
        texts = [text for row in completions for text in row]
        golds = [gold for gold, row in zip(prompts.answers, completions, strict=True) for _ in row]
        graded_texts = iter(answers.grade_all(texts, golds))
        for problem, row in zip(prompts.problems, completions, strict=True):
            verdicts = [next(graded_texts) for _ in row]
            wrong = [verdict.answer for verdict in verdicts if verdict.status == "wrong" and verdict.answer]
            classes = equivalence_classes(wrong, answers.equal)
            common = Counter(classes).most_common(1)
            self.labels[problem] = wrong[classes.index(common[0][0])] if common else None

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        """See `grouprl.rewards.base.Reward`.

        Raises:
            ValueError: A problem whose label was not looked for.
        """
        unknown = [problem for problem in prompts.problems if problem not in self.labels]
        if unknown:
            raise ValueError(
                f"No label was looked for: {unknown[0][:60]!r}. Call find() with the training prompts first."
            )
        labels = [self.labels[problem] for problem in prompts.problems]
        agree, failures = graded(completions, [label or "" for label in labels])
        has_label = torch.tensor([[label is not None] for label in labels])
        correct, _ = graded(completions, prompts.answers)
        return rewards_of(agree * has_label, {"correct": correct, "label": agree, **style_parts(completions)}, failures)
