"""A comparison over seeds as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from grouprl.statistics.crossed import Purchase, VarianceSplit
from grouprl.statistics.saturation import SaturationTest
from grouprl.statistics.seeds import SeedTest, sd_interval, smallest_p, smallest_visible
from grouprl.studies.pairs import PairComparison
from grouprl.studies.seeds import COVERAGE, StudyComparison


def describe(found: StudyComparison) -> str:
    """The comparison as Markdown: the verdicts first."""
    return "\n".join([*(pair.verdict for pair in found.pairs), "", details(found)])


def details(found: StudyComparison) -> str:
    """What the verdicts rest on, as Markdown."""
    problems, samples = found.arms[0].shares.shape[1], found.arms[0].samples
    seeds, pairs = len(found.arms[0].seeds), found.shown
    lines = [
        f"{found.measured}: {seeds} paired seed{'s' * (seeds != 1)}, {problems} problems, {samples} "
        f"sample{'s' * (samples != 1)} each. In points."
    ]
    lines += ["", "| arm | mean | sd over seeds | greedy | each seed |", "|---|---|---|---|---|"]
    for arm in found.arms:
        scores = 100 * arm.scores
        sd = f"{scores.std(ddof=1):.2f}" if seeds > 1 else "-"
        each = " ".join(f"{score:.1f}" for score in scores)
        lines.append(f"| {arm.name} | {scores.mean():.1f} | {sd} | {_share(float(arm.greedy.mean()))} | {each} |")
    if seeds == 1:
        differences = [f"{pair.second} - {pair.first}: {100 * pair.test.single.value:+.1f}" for pair in pairs]
        several = "seed=0,1,2,3,4,5"
        lines += ["", f"One seed has no interval ({'; '.join(differences)}). Run more: {several}."]
        return "\n".join([*lines, *found.notes])
    together = any((pair.test.low, pair.test.high) != (pair.test.single.low, pair.test.single.high) for pair in pairs)
    lines += ["", *_tests(pairs, together=together)]
    covered = f"pass@{min(COVERAGE, samples)}"
    lines += ["", f"| difference | greedy | {covered} | solved by the one alone, the other alone | correlation |"]
    lines.append("|---|---|---|---|---|")
    for pair in pairs:
        lines.append(
            f"| {pair.second} - {pair.first} | {'-' if pair.greedy is None else _points(pair.greedy)} | "
            f"{_points(pair.coverage)} | "
            f"{pair.solved}, {pair.lost} | {pair.correlation:.2f} |"
        )
    lines.append("")
    lines += [*_terms(covered, together=together), ""]
    if any(_width(pair.general) < (1 - 1e-6) * _width(pair.test.single) for pair in pairs):
        lines.append(
            "Where the interval on problems like these is narrower than the one on these problems, few seeds made it "
            "so by chance: what holds for more cannot be surer. Read the first."
        )
    for pair in pairs:
        if pair.unpaired is not None:
            lines.append(
                f"The seeds of {pair.first} and {pair.second} hardly correlate; unpaired (Welch): "
                f"{_points(pair.unpaired)}, p {pair.unpaired.p_value:.3g}."
            )
    if seeds > 1:
        lines.append(f"With {seeds} seeds sign flips are never below p {smallest_p(seeds):.3g}.")
        spread = max(pair.test.single.sd for pair in pairs)
        if spread > 0 and math.isfinite(spread):
            level = pairs[0].planned_level
            seen, *ends = (
                100 * smallest_visible(sd, seeds, level=level) for sd in (spread, *sd_interval(spread, seeds))
            )
            lines.append(
                f"Seen four times in five with {seeds} seeds: a difference of {seen:.2f} points ({ends[0]:.2f} to "
                f"{ends[1]:.2f}, as the standard deviation is an estimate)."
            )
    for pair in pairs:
        if pair.saturation is not None:
            lines.append(_saturation_line(pair.second, pair.first, pair.saturation))
    splits = [
        f"{pair.second} - {pair.first}: {_split_line(pair.split, pair.test.single.sd)}" for pair in pairs if pair.split
    ]
    lines += ["", "Variance of a seed's difference on these problems:", *splits] if splits else []
    if found.purchases:
        lines += ["", "What an hour more of computing would bring the standard error to, the best first:"]
        lines += [_purchase_line(purchase) for purchase in found.purchases]
    return "\n".join([*lines, *found.notes])


def _tests(pairs: Sequence[PairComparison], *, together: bool) -> Iterator[str]:
    """Differences and their intervals; of one pair alone no second interval for all pairs."""
    yield (
        f"| difference | these problems | p |{' all pairs together | p |' if together else ''} sign flips p | "
        "problems like these | p |"
    )
    yield "|---|---|---|---|---|---|" + "---|---|" * together
    for pair in pairs:
        t = pair.test
        every = f" [{100 * t.low:+.2f}, {100 * t.high:+.2f}] | {t.p_value:.3g} |" if together else ""
        yield (
            f"| {pair.second} - {pair.first} | {_points(t.single)} | {t.single.p_value:.3g} |{every} "
            f"{pair.flips:.3g} | {_points(pair.general)} | {pair.general.p_value:.3g} |"
        )


def _terms(covered: str, *, together: bool) -> Iterator[str]:
    """What the columns answer."""
    yield "The columns:"
    rests = "" if together else " The verdict rests on it."
    yield f"- these problems: would other seeds on the same problems say so? Student's t over the paired seeds.{rests}"
    if together:
        yield "- all pairs together: the same, at one level for all pairs. The verdict rests on it."
    yield "- sign flips: the same without assuming a distribution."
    yield "- problems like these: would other seeds and other problems of this kind say so?"
    yield f"- {covered}: the chance that one sample of so many is right."
    yield "- solved by the one alone: problems that most of its runs solve at least once, and none of the other's."
    yield "- correlation: how alike the arms' seeds move, which is what pairing gains by."


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _points(test: SeedTest) -> str:
    return f"{100 * test.value:+.2f} [{100 * test.low:+.2f}, {100 * test.high:+.2f}]"


def _saturation_line(second: str, first: str, test: SaturationTest) -> str:
    ratio, low, high = (math.exp(x) for x in (test.constant.value, test.constant.low, test.constant.high))
    return (
        f"{second} - {first}, of curves that level off: ceiling {_points(test.ceiling)}; tokens to 63% of the way "
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
    return f"{shares} (sd {100 * sd:.2f} points); other problems would move it by another {100 * on_others:.2f} (sd)."


def _purchase_line(purchase: Purchase) -> str:
    what = f"{purchase.amount} more {purchase.what}" if purchase.amount else "now"
    return f"- {what}: {100 * purchase.standard_error:.2f} points"
