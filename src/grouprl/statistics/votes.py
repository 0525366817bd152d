"""What the samples of a question agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Vote:
    """What the samples of one question agree on."""

    winners: tuple[Hashable, ...]
    """The classes with the most votes, in order of appearance: several where they tie, none without an answer."""
    votes: int
    """Votes of each winner."""
    samples: int
    """Samples asked, those without an answer among them."""

    def score(self, right: Hashable) -> float:
        """maj@k of the question: the chance to be right where a tie is broken by lot, 0 to 1."""
        return 1 / len(self.winners) if right in self.winners else 0.0


def majority(classes: Sequence[Hashable]) -> Vote:
    """The vote over the equivalence classes of a question's k answers (self-consistency, arXiv 2203.11171).

    Args:
        classes: A label for each sample, equal for equivalent answers (see `equivalence_classes`). None is no answer:
            it has no vote.
    """
    counts = Counter(label for label in classes if label is not None)
    most = max(counts.values(), default=0)
    return Vote(tuple(label for label, count in counts.items() if count == most), most, len(classes))


def equivalence_classes(answers: Sequence[Answer | None], same: Callable[[Answer, Answer], bool]) -> list[int | None]:
    """Number the answers' classes in order of appearance; None stays None.

    An answer joins the first class whose first member it equals: ``same`` need not be transitive, and is asked once
    for each answer and class at most.

    Args:
        answers: The k answers of a question. Put the gold answer first, and its class is 0.
        same: Whether two answers are equivalent.
    """
    firsts: list[Answer] = []
    labels: list[int | None] = []
    for answer in answers:
        if answer is None:
            labels.append(None)
            continue
        label = next((i for i, first in enumerate(firsts) if same(answer, first)), len(firsts))
        if label == len(firsts):
            firsts.append(answer)
        labels.append(label)
    return labels
