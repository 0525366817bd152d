"""A comparison over seeds as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from grouprl.statistics.crossed import Purchase, VarianceSplit
from grouprl.statistics.saturation import SaturationTest
from grouprl.statistics.seeds import SeedTest, differences_of, sd_interval, smallest_p, smallest_visible
from grouprl.studies.pairs import PairComparison, signed
from grouprl.studies.plan import MEASURED
from grouprl.studies.seeds import COVERAGE, StudyComparison

_COLUMNS = 12
"""Seeds that have a column each."""
_UNEVEN = 4
"""Times that one standard deviation is another."""


def describe(found: StudyComparison) -> str:
    """The comparison as Markdown: the verdicts first."""
    return "\n".join([*(pair.verdict for pair in found.pairs), "", details(found)])


def scope(found: StudyComparison) -> str:
    """What the verdicts' points are of, in one line."""
    arm = found.arms[0]
    problems, samples, seeds = arm.shares.shape[1], arm.samples, len(arm.seeds)
    what = "held-out problems" if found.measured in MEASURED.values() else "problems"
    line = (
        f"Points are of {found.measured}, over {problems} {what} with {samples} "
        f"sample{'s' * (samples != 1)} each and {seeds} paired seed{'s' * (seeds != 1)}"
    )
    if seeds == 1:
        return f"{line}."
    level, margin = 100 * (1 - found.pairs[0].level), points(round(100 * found.pairs[0].margin, 6))
    return (
        f"{line}; intervals are at {level:.3g}% where they say nothing else. Differences within {margin} do not matter."
    )


def points(count: float) -> str:
    """A number of points in words."""
    return f"{count:g} point{'s' * (count != 1)}"


def details(found: StudyComparison) -> str:
    """What the verdicts rest on, as Markdown."""
    samples, seeds, pairs = found.arms[0].samples, len(found.arms[0].seeds), found.shown
    lines = [scope(found), "", *_arms(found), *_apart(found)]
    if seeds == 1:
        lines += ["", "One seed has no interval. Run more: seed=0,1,2,3,4,5."]
        return "\n".join([*lines, *found.notes])
    together = len(pairs) > 1
    covered = min(COVERAGE, samples)
    lines += ["", *_tests(pairs, together=together), "", *_beside(pairs, covered)]
    lines += ["", *_terms(pairs, covered, together=together), ""]
    if any(_width(pair.general) < 0.95 * _width(pair.test.single) for pair in pairs):
        lines.append(
            "Where the interval on problems like these is narrower than the one on these problems, few seeds made it "
            "so by chance: what holds for more cannot be surer. Read the first."
        )
    for pair in pairs:
        if pair.unpaired is not None:
            lines.append(
                f"The seeds of {pair.first} and {pair.second} hardly correlate; unpaired (Welch): "
                f"{_points(pair.unpaired)}, p {p_value(pair.unpaired.p_value)}."
            )
    lines += _seen(pairs, seeds)
    for pair in pairs:
        if pair.saturation is not None:
            lines.append(_saturation_line(pair, pair.saturation))
    splits = [f"- {_name(pair)}: {_split_line(pair.split, pair.test.single.sd)}" for pair in pairs if pair.split]
    if splits:
        more = "samples: more samples of each problem would lower it; seed and problem: more problems; seed: more seeds"
        lines += ["", f"Where the variance of a seed's difference comes from ({more}):", *splits]
    if found.purchases:
        of = next(pair for pair in found.pairs if pair.ending == "undecided")
        which = f" of {_name(of)}" if len(found.pairs) > 1 else ""
        lines += ["", f"What an hour more of computing would bring the standard error{which} to, the best first:"]
        lines += [_purchase_line(purchase) for purchase in found.purchases]
    return "\n".join([*lines, *found.notes])


def _name(pair: PairComparison) -> str:
    return f"{pair.second} minus {pair.first}"


def p_value(p: float) -> str:
    """Three digits, and no more zeros than anybody needs."""
    return "-" if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _arms(found: StudyComparison) -> Iterator[str]:
    """Means of the arms and of their differences, and what each seed came to."""
    seeds = [str(seed) for seed in found.arms[0].seeds]
    several, between = len(seeds) > 1, " | " if len(seeds) <= _COLUMNS else " "
    yield f"| arm | mean | sd over seeds | greedy | seed {between.join(seeds)} |"
    yield "|---" * (5 if between == " " else 4 + len(seeds)) + "|"
    arms = {arm.name: arm for arm in found.arms}
    rows = [(arm.name, arm.scores, float(arm.greedy.mean()), "") for arm in found.arms]
    for pair in found.shown:
        first, second = arms[pair.first], arms[pair.second]
        differences = np.array(differences_of(first.scores, second.scores))
        rows.append((_name(pair), differences, float((second.greedy - first.greedy).mean()), "+"))
    for name, shares, greedy, sign in rows:
        sd = f"{100 * shares.std(ddof=1):.2f}" if several else "-"
        mean, at_once, *each = (signed(x) if sign else f"{100 * x:.1f}" for x in (shares.mean(), greedy, *shares))
        yield f"| {name} | {mean} | {sd} | {'-' if math.isnan(greedy) else at_once} | {between.join(each)} |"


def _apart(found: StudyComparison) -> Iterator[str]:
    """Arms of which one varies far more than the other, so that a mean and its interval are no good summary."""
    arms = {arm.name: 100 * arm.scores for arm in found.arms}
    for pair in found.pairs:
        if pair.better is None or pair.worse is None:
            continue
        better, worse = arms[pair.better], arms[pair.worse]
        spreads = sorted((better.std(), worse.std()))
        if spreads[1] > _UNEVEN * spreads[0] and better.min() > worse.max():
            yield ""
            yield (
                f"Every run of {pair.better} ({better.min():.1f} to {better.max():.1f}) is above every run of "
                f"{pair.worse} ({worse.min():.1f} to {worse.max():.1f}); by how much varies from seed to seed."
            )


def _tests(pairs: Sequence[PairComparison], *, together: bool) -> Iterator[str]:
    """Differences and their intervals; of one pair alone no second interval for all pairs, of looks none at 90%."""
    inner = not pairs[0].looks
    heads = ["difference", "all pairs together" if together else "these problems", "p"]
    heads += [*(["at 90%"] if inner else []), *(["this pair alone", "p, alone"] if together else [])]
    heads += [f"{what}{', alone' if together else ''}" for what in ("sign flips p", "problems like these")]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for pair in pairs:
        t = pair.test
        cells = [_name(pair), f"{signed(t.single.value, 2)} {_interval(t.low, t.high)}", p_value(t.p_value)]
        cells += [_interval(*t.inner)] if inner else []
        cells += [_interval(t.single.low, t.single.high), p_value(t.single.p_value)] if together else []
        yield f"| {' | '.join([*cells, f'{pair.flips:.3g}', _points(pair.general)])} |"


def _beside(pairs: Sequence[PairComparison], covered: int) -> Iterator[str]:
    """What is no part of the verdict."""
    heads = ["difference", "greedy", f"pass@{covered}", "solved by the one alone", "by the other alone", "correlation"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for pair in pairs:
        greedy = "-" if pair.greedy is None else _points(pair.greedy)
        solved = f"{pair.solved} | {pair.lost}"
        related = "-" if math.isnan(pair.correlation) else f"{pair.correlation:.2f}"
        yield f"| {_name(pair)} | {greedy} | {_points(pair.coverage)} | {solved} | {related} |"


def _terms(pairs: Sequence[PairComparison], covered: int, *, together: bool) -> Iterator[str]:
    """What the columns answer."""
    rests = 'The verdict "better" rests on it.'
    yield "The columns:"
    over = "all pairs together" if together else "these problems"
    level = ", at one level for all pairs" if together else ""
    yield (
        f"- {over}: would other seeds on the same problems call one arm better? Student's t over the paired "
        f"seeds{level}. {rests}"
    )
    if not pairs[0].looks:
        yield f'- at 90%{level}: where it lies within the margin the arms are "equivalent" (two one-sided tests at 5%).'
    if together:
        yield "- alone: as if the other pairs had not been asked for; no part of the verdict."
    yield "- sign flips: the same question without assuming a distribution."
    yield "- problems like these: would other seeds and other problems of this kind say so?"
    yield "- greedy: the one completion at temperature 0."
    yield f"- pass@{covered}: the chance that one at least of {covered} samples is right."
    yield (
        "- solved by the one alone: problems that most runs of the first named arm solve at least once, and none of "
        "the other's; and the other way."
    )
    yield (
        "- correlation: of the two arms' scores over the seeds. Above 0, pairing them made the interval narrower; "
        "below it, wider."
    )


def _seen(pairs: Sequence[PairComparison], seeds: int) -> Iterator[str]:
    """What so many seeds could see."""
    yield f"The smallest p that sign flips can have with {seeds} seeds is {smallest_p(seeds):.3g}."
    undecided = [pair for pair in pairs if pair.ending == "undecided"]
    widest = max(undecided or pairs, key=lambda pair: pair.test.single.sd)
    spread = widest.test.single.sd
    if spread > 0 and math.isfinite(spread):
        which = ", whose seeds differ most" + " of those undecided" * bool(undecided) + ","
        of = f" between {widest.first} and {widest.second}{which * (len(undecided) != 1)}" * (len(pairs) > 1)
        level = pairs[0].planned_level
        spreads = (spread, *sd_interval(spread, seeds))
        seen, *ends = (min(100.0, 100 * smallest_visible(sd, seeds, level=level)) for sd in spreads)
        yield (
            f"A true difference{of} of {seen:.2f} points ({ends[0]:.2f} to {ends[1]:.2f}, as the standard deviation "
            f"is an estimate) would be called better by four of five studies of {seeds} seeds."
        )


def _interval(low: float, high: float) -> str:
    return f"[{signed(low, 2)}, {signed(high, 2)}]"


def _points(test: SeedTest) -> str:
    return f"{signed(test.value, 2)} {_interval(test.low, test.high)}"


def _saturation_line(pair: PairComparison, test: SaturationTest) -> str:
    ratio, low, high = (math.exp(x) for x in (test.constant.value, test.constant.low, test.constant.high))
    return (
        f"{_name(pair)}, of curves that level off: ceiling {_points(test.ceiling)}; tokens to 63% of the way "
        f"{ratio:.2f} times as many [{low:.2f}, {high:.2f}]."
    )


def _width(test: SeedTest) -> float:
    return test.high - test.low


def _split_line(split: VarianceSplit, sd: float) -> str:
    parts = {
        "seed": split.seed,
        "seed and problem": split.both / split.problems,
        "samples": split.sample / split.samples / split.problems,
    }
    total = sum(parts.values())
    shares = ", ".join(f"{name} {100 * value / (total or 1.0):.0f}%" for name, value in parts.items())
    on_others = math.sqrt(split.problem / split.problems)
    moved = f"other problems would move it by another {100 * on_others:.2f} (sd)"
    return f"{shares} (sd {100 * sd:.2f} points); {moved if on_others else 'no more from other problems was seen'}."


def _purchase_line(purchase: Purchase) -> str:
    what = f"{purchase.amount} more {purchase.what}" if purchase.amount else "now"
    return f"- {what}: {100 * purchase.standard_error:.2f} points"
