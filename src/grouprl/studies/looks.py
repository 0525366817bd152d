"""A study that looks several times: what was decided at a look stays decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from grouprl.studies.outcomes import Outcome
from grouprl.studies.plan import OutcomeError
from grouprl.studies.seeds import StudyComparison, compare_arms


def compare_at_looks(
    arms: Mapping[str, Mapping[int, Outcome]], seeds: Sequence[int], looks: Sequence[int], **settings: Any
) -> StudyComparison:
    """Compare arms at the last look that their seeds have come to.

    A pair that was decided at an earlier one keeps what was found there: repeated confidence intervals hold at all
    looks together, so that nothing is spent by it.

    Args:
        arms: Runs by arm and seed.
        seeds: Those that have been run, in the order of the plan.
        looks: All looks of the study, those to come included.
        settings: Of `grouprl.studies.seeds.compare_arms`.

    Raises:
        OutcomeError: See `compare_arms`.
    """
    earlier = None
    for look in [look for look in looks if look < len(seeds)]:
        at_look = {name: {s: run for s, run in runs.items() if s in seeds[:look]} for name, runs in arms.items()}
        try:
            earlier = keep_decided(compare_arms(at_look, looks=looks, **settings), earlier, look)
        except OutcomeError:
            continue  # its seeds came to nothing
    kept = {name: {s: run for s, run in runs.items() if s in seeds} for name, runs in arms.items()}
    return keep_decided(compare_arms(kept, looks=looks, **settings), earlier)


def keep_decided(found: StudyComparison, earlier: StudyComparison | None, look: int | None = None) -> StudyComparison:
    """A comparison with the pairs that an earlier look had decided.

    Args:
        found: Of all seeds so far.
        earlier: Of the look before; None: this is the first.
        look: Seeds that ``found`` is of, where later looks follow; None: it is the last.
    """
    before = {} if earlier is None else {(p.first, p.second): p for p in earlier.pairs if p.ending != "undecided"}
    pairs = [before.get((pair.first, pair.second), pair) for pair in found.pairs]
    if look is not None:
        pairs = [
            pair if pair.decided_after or pair.ending == "undecided" else replace(pair, decided_after=look)
            for pair in pairs
        ]
    undecided = any(pair.ending == "undecided" for pair in pairs)
    return replace(found, pairs=tuple(pairs), purchases=found.purchases if undecided else ())
