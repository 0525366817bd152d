"""A study for a paper: tables of arms and differences for each base, and the caption that says how they were made."""

from __future__ import annotations

from collections.abc import Iterator

from grouprl.studies.pairs import PairComparison, signed
from grouprl.studies.seeds import StudyComparison
from grouprl.studies.show import text
from grouprl.studies.verdict import StudyVerdict

PAPER_FILE = "paper.md"


def describe(verdict: StudyVerdict) -> str:
    """Markdown: for each base the arms, the differences, and the caption."""
    lines = [f"# {verdict.plan.question}", ""]
    lines += [*(line for line, _ in verdict.judged_lines()[:1]), ""] if not verdict.settled else []
    for base, found in verdict.bases.items():
        lines += [f"## {base}", ""] if len(verdict.plan.bases) > 1 else []
        lines += [*_arms(found), "", *_differences(found, settled=verdict.settled), "", caption(verdict, found), ""]
    return "\n".join(lines).rstrip() + "\n"


def _arms(found: StudyComparison) -> Iterator[str]:
    yield "| arm | pass@1, % | greedy, % |"
    yield "|---|---|---|"
    for arm in found.arms:
        several = len(arm.seeds) > 1
        cells = [
            f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f}" if several else f"{100 * values.mean():.1f}"
            for values in (arm.scores, arm.greedy)
        ]
        yield f"| {arm.name} | {' | '.join(cells)} |"


def _differences(found: StudyComparison, *, settled: bool) -> Iterator[str]:
    once = not found.pairs[0].looks
    yield f"| difference | points | interval |{' at 90% |' if once else ''} p | verdict |"
    yield "|---|---|---|---|---|" + "---|" * once
    for pair in found.shown:
        value, low, high = (signed(x, 2) for x in (pair.test.single.value, pair.test.low, pair.test.high))
        said = _said(pair) if settled else "not decided yet"
        name, p = f"{pair.second} minus {pair.first}", text.p_value(pair.test.p_value)
        inner = "" if pair.looks else f" [{', '.join(signed(x, 2) for x in pair.test.inner)}] |"
        yield f"| {name} | {value} | [{low}, {high}] |{inner} {p} | {said} |"


def _said(pair: PairComparison) -> str:
    return f"{pair.better} is better" if pair.better is not None else pair.ending


def _planned(verdict: StudyVerdict) -> str:
    plan = verdict.plan
    if plan.changes:
        return f"The plan ({plan.digest}) was changed: {'; '.join(plan.changes)}."
    return f"Metric, margin, seeds and arms were written down before the first run (plan {plan.digest})."


def caption(verdict: StudyVerdict, found: StudyComparison) -> str:
    """What was measured, over what, and by which tests."""
    plan, arm, metric = verdict.plan, found.arms[0], found.measured
    problems, seeds, level = arm.shares.shape[1], len(arm.seeds), found.pairs[0].level
    if plan.looks:
        same = "those intervals lie within"
        how = (
            f"The study looked after {', '.join(map(str, plan.looks))} seeds, as decided before it began. Intervals "
            "are repeated confidence intervals (Jennison and Turnbull 1989) of Student's t over seeds at a nominal "
            f"level of {100 * level:.2g}% a look and pair, at which all of them together err in 5% of studies"
        )
    elif len(found.pairs) > 1:
        same = "the 90% intervals of all pairs together lie within"
        how = (
            "Intervals and p-values are of Student's t over seeds and hold for all pairs together (single-step, by the "
            "smallest p-value of as many arms that do not differ)"
        )
    else:
        same = "two one-sided tests (Schuirmann 1987) leave no difference of"
        how = "Interval and p-value are of Student's t over the seeds' differences"
    return (
        f"{metric[0].upper()}{metric[1:]} on {problems} held-out problems, {arm.samples} samples each; mean and "
        f"standard deviation over {seeds} seeds, which all arms share. {how}. Arms are equivalent where {same} "
        f"{text.points(plan.margin)}. {_planned(verdict)} The statements hold for these problems and this base."
    )
