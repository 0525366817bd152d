"""The study that would decide what one left open, as the command to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from grouprl.statistics.crossed import Purchase
from grouprl.statistics.seeds import seeds_needed
from grouprl.studies.pairs import PairComparison
from grouprl.studies.plan import StudyPlan

LOOKS = (6, 8, 10, 12)
"""Numbers of seeds that ``until=decided`` looks after where nothing else is said."""
MOST_SEEDS = 40
"""Of an arm, above which other ways come cheaper."""


_OPTIONS = {"held-out problems": "data.heldout_size", "samples of each problem": "final_eval_samples"}
"""Of what may be bought with computing (`grouprl.statistics.crossed.Purchase`), beside seeds."""


def next_study(plan: StudyPlan, pairs: Iterable[PairComparison], name: str, purchases: Sequence[Purchase] = ()) -> str:
    """A study of the undecided pairs' arms on seeds of its own, or why it would not pay.

    Args:
        plan: Of the study that ended.
        pairs: Its comparisons, on all bases.
        name: What its folder is called.
        purchases: What an hour more of computing would bring, the best first.
    """
    if not any(plan.arms.values()):
        return "Next: other seeds of the arms that are undecided, compared by themselves."
    pairs = list(pairs)
    undecided = [pair for pair in pairs if pair.ending == "undecided"]
    spreads = [pair for pair in undecided if pair.test.single.sd > 0]
    needed = max((seeds_needed(p.margin, p.test.single.sd, level=p.planned_level) for p in spreads), default=0)
    best = next((_OPTIONS[purchase.what] for purchase in purchases[:1] if purchase.what in _OPTIONS), None)
    if needed > MOST_SEEDS:
        way = f"More {purchases[0].what} ({best}) come cheaper" if best else "Nothing comes cheaper than seeds"
        return (
            f"Next: to tell them apart to within the margin takes about {needed} seeds of each arm. {way}, as far as "
            f"{len(plan.seeds)} seeds can say; or leave it at the intervals that are here."
        )
    usual = plan.looks or LOOKS
    most = max(usual[-1], needed)
    looks = [most * look // usual[-1] for look in usual]
    first = max(*plan.seeds, *plan.later_seeds, 0) + 1
    open_arms = {arm for pair in undecided for arm in (pair.first, pair.second)}
    arms = {arm: of for arm, of in plan.arms.items() if arm in open_arms or not open_arms}
    words = [*(_swept(arms) or _swept(plan.arms)), *_swept(plan.bases)]
    words += [override for override in plan.common if not override.startswith("study=")]
    words += ["until=decided", *([f"looks=[{','.join(map(str, looks))}]"] if looks != [*LOOKS] else [])]
    words += [f"seed=range({first},{first + most})"]
    words += ["on_noop=warn"] if any(pair.ending == "identical" for pair in pairs) else []
    words += [f"margin={plan.margin:g}"] if plan.margin != 1 else []
    words += [f"metric={plan.metric}"] if plan.metric != "final" else []
    words += [f"baseline={plan.baseline}"] if plan.baseline in arms and len(arms) > 2 else []
    words += [f"study={name}_2"]
    runs = f"up to {most * len(arms) * len(plan.bases)} runs"
    cheaper = f" (more {purchases[0].what}, {best}, come cheaper than seeds)" if best else ""
    return f"Next, on other seeds and with several looks, {runs}{cheaper}: python train.py -m {shlex.join(words)}"


def _swept(sets: Mapping[str, Sequence[str]]) -> list[str]:
    """Sweeps whose combinations are these sets of overrides; none where no sweep gives them alone."""
    values: dict[str, list[str]] = {}
    for overrides in sets.values():
        for override in overrides:
            key, _, value = override.partition("=")
            values.setdefault(key, [])
            values[key] += [value] if value not in values[key] else []
    combinations = 1
    for of_key in values.values():
        combinations *= len(of_key)
    return [f"{key}={','.join(of_key)}" for key, of_key in values.items()] if combinations == len(sets) else []
