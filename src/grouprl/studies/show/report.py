"""A study as one page of HTML that needs no other file: the verdict first, then pictures, tables and samples."""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grouprl.files import write_text
from grouprl.studies import decomposition, tuning
from grouprl.studies.outcomes import Outcome
from grouprl.studies.plan import MEASURED
from grouprl.studies.show import paper, text
from grouprl.studies.show.pictures import curve_of, draw_curves, draw_differences
from grouprl.studies.verdict import VERDICT_FILE, VERDICT_JSON, StudyVerdict

REPORT_FILE = "report.html"
PAGE_FILES = (VERDICT_FILE, VERDICT_JSON, REPORT_FILE, paper.PAPER_FILE)
"""What is written of a verdict; beside it the pictures."""
PICTURES = "pictures"
"""Folder of the PNGs beside it."""
_SAMPLES = 6
"""Problems whose completions are shown."""
_WHOLE = 24
"""Characters of a cell that is not broken."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
.verdict { padding: .6rem 1rem; border-left: 6px solid #c2185b; background: #fdf1f5; font-size: 1.1rem;
  margin: .4rem 0; }
.decided { border-color: #00695c; background: #e8f4f2; }
table { border-collapse: collapse; margin: .6rem 0; } td, th { border: 1px solid #ccc; padding: .25rem .55rem; }
th { background: #f2f2f2; text-align: left; } td { vertical-align: top; }
.whole { white-space: nowrap; } div.wide { overflow-x: auto; } .samples th:first-child { width: 26%; }
pre { white-space: pre-wrap; margin: 0; font: 12px/1.4 ui-monospace, monospace; } img { max-width: 100%; }
.summary { font-size: 1.1rem; font-weight: 600; } .command { padding: .5rem .8rem; background: #f5f5f5; }
.right { background: #eaf7f0; } .wrong { background: #fbeeee; } .small { color: #666; font-size: .85rem; }
"""


def write_report(verdict: StudyVerdict, folder: Path) -> Path:
    """Write ``report.html`` with its pictures, and ``paper.md``, to a study's folder; the page's path."""
    question = verdict.plan.question
    body = [f"<h1>{_text(question[:1].upper() + question[1:])}</h1>", *_about(verdict), *_verdicts(verdict)]
    for number, base in enumerate(verdict.plan.bases):
        runs = {name: of_arm for name, of_arm in verdict.outcomes.get(base, {}).items() if of_arm}
        if not runs:
            continue
        if len(verdict.plan.bases) > 1:
            body.append(f"<h2>{_text(base)}</h2>")
        body += _base(verdict, base, runs, folder / PICTURES / f"base-{number}")
    if verdict.attempts:
        body += ["<h2>Tuning</h2>", _markdown("\n".join(tuning.table(verdict.plan, verdict.attempts)))]
    body += ["<h2>What was planned before the first run</h2>", *_plan(verdict)]
    page = "\n".join(body)
    title = _text(f"{verdict.name}: {question}")
    whole = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"</head><body>\n{page}\n</body></html>\n"
    )
    write_text(folder / REPORT_FILE, whole)
    write_text(folder / paper.PAPER_FILE, paper.describe(verdict))
    return folder / REPORT_FILE


def _curves(runs: Mapping[str, Mapping[int, Outcome]], pictures: Path) -> Iterator[str]:
    """How the runs came to their ends, where that was measured."""
    curves = {name: [curve_of(outcome) for outcome in arm.values()] for name, arm in runs.items()}
    if all(len(curve.accuracy) < 2 for of in curves.values() for curve in of):
        return
    draw_curves(curves, pictures / "curves.png")
    yield "<h3>On the way</h3>" + _image(pictures / "curves.png", "held-out accuracy of every seed")
    yield (
        '<p class="small">Thin: one seed; thick: the mean. Measured where the dots are, at the end with more samples '
        "than before. Seconds are the clock's: where runs shared a machine they do not compare arms.</p>"
    )


def _about(verdict: StudyVerdict) -> Iterator[str]:
    """Which study this is, and what all its runs share."""
    shared = " ".join(override for override in verdict.plan.common if not override.startswith("study="))
    yield f'<p class="small">{_text(verdict.name)}{f"; all runs: {_text(shared)}" if shared else ""}</p>'


def _verdicts(verdict: StudyVerdict) -> Iterator[str]:
    if verdict.summary:
        yield f'<p class="summary">{_text(verdict.summary)}</p>'
    for line, decided in verdict.judged_lines():
        yield f'<div class="verdict{" decided" if decided else ""}">{_text(line)}</div>'
    for said in dict.fromkeys(text.scope(comparison) for comparison in verdict.bases.values()):
        yield f"<p>{_text(said)}</p>"
    step, sign, command = verdict.next_step.partition(": python ")
    yield f"<p>{_text(step)}{':' * bool(sign)}</p>"
    if sign:
        yield f'<pre class="command">python {_text(command)}</pre>'
    if verdict.plan.changes:
        yield "<p>Exploratory, asked for after the first run:</p>" + _list(verdict.plan.changes)
    if verdict.exploratory is not None:
        yield "<p>Exploratory, with what was added later:</p>" + _list(verdict.exploratory.lines())


def _base(verdict: StudyVerdict, base: str, runs: Mapping[str, Mapping[int, Outcome]], pictures: Path) -> Iterator[str]:
    pictures.mkdir(parents=True, exist_ok=True)
    comparison = verdict.bases.get(base)
    if comparison is not None:
        draw_differences(comparison, pictures / "differences.png")
        yield "<h3>Differences</h3>" + _image(pictures / "differences.png", "differences of every seed")
        bars = (
            "the bar is the interval at the looks' level"
            if comparison.pairs[0].looks
            else "the thin line is the 95% interval (off zero: one is better), the thick one the 90% interval (within "
            "the grey: they are equivalent)"
        )
        what = "Dots are seeds, one above the other for the eye alone; the diamond is their mean"
        yield f'<p class="small">{what}; {bars}.</p>'
    yield from _curves(runs, pictures)
    if comparison is not None:
        yield "<h3>Numbers</h3>" + _markdown(text.details(comparison).partition("\n\n")[2])
    if base in verdict.terms:
        yield "<h3>Where the first arm's gain comes from</h3>"
        yield _markdown("\n".join(decomposition.table(verdict.terms[base], next(iter(verdict.plan.arms)))))
    if any(outcome.settings for arm in runs.values() for outcome in arm.values()):
        yield "<h3>Settings that differ</h3>" + _markdown(_settings(runs))
    yield "<h3>Samples</h3>" + _samples(runs)


def _settings(runs: Mapping[str, Mapping[int, Outcome]]) -> str:
    firsts = {name: next(iter(arm.values())).settings for name, arm in runs.items()}
    keys = dict.fromkeys(key for settings in firsts.values() for key in settings)
    differing = [
        key
        for key in keys
        if key not in ("seed", "study") and len({str(settings.get(key)) for settings in firsts.values()}) > 1
    ]
    lines = [f"| option | {' | '.join(firsts)} |", "|---" * (len(firsts) + 1) + "|"]
    return "\n".join(
        [*lines, *(f"| {key} | {' | '.join(_setting(s.get(key)) for s in firsts.values())} |" for key in differing)]
    )


def _setting(value: object) -> str:
    return "as by default" if value is None else str(value)


def _samples(runs: Mapping[str, Mapping[int, Outcome]]) -> str:
    """Greedy completions of some problems, one run of each arm, side by side: those first on which the arms differ."""
    found = {name: next(iter(arm.values())).texts for name, arm in runs.items()}
    problems = set.intersection(*(set(rows) for rows in found.values())) if found else set()
    order = sorted(problems, key=lambda p: (len({rows[p]["correct"] for rows in found.values()}) == 1, p))
    if not order:
        return '<p class="small">The runs kept no completions.</p>'
    lines = [f'<table class="samples"><tr><th>problem</th>{"".join(f"<th>{_text(name)}</th>" for name in found)}</tr>']
    for problem in order[:_SAMPLES]:
        question = next(iter(found.values()))[problem]["question"]
        cells = "".join(_completion(rows[problem]) for rows in found.values())
        lines.append(f"<tr><td>{_text(question)}</td>{cells}</tr>")
    seeds_shown = ", ".join(f"{name}: seed {next(iter(arm))}" for name, arm in runs.items())
    apart = sum(len({rows[p]["correct"] for rows in found.values()}) > 1 for p in problems)
    shown = min(_SAMPLES, len(order))
    others = f" and {shown - apart} more" if apart < shown else ""
    what = f"the first {min(apart, shown)} of {apart} problems on which the arms disagree{others}, of {len(problems)}"
    note = (
        f"Greedy completions after training ({_text(seeds_shown)}), green: right, red: wrong. Shown are {what}: "
        "chosen, and no random sample."
    )
    return "".join(['<div class="wide">', *lines, f'</table></div><p class="small">{note}</p>'])


def _completion(row: Mapping[str, object]) -> str:
    return f'<td class="{"right" if row["correct"] else "wrong"}"><pre>{_text(row["text"])}</pre></td>'


def _plan(verdict: StudyVerdict) -> Iterator[str]:
    plan = verdict.plan
    looks = f"looks after {', '.join(map(str, plan.looks))} seeds" if plan.looks else "one look, after all seeds"
    rows = {
        "arms": ", ".join(plan.arms),
        "seeds": ", ".join(map(str, plan.seeds)),
        "bases": ", ".join(plan.bases),
        "all runs": " ".join(plan.common) or "as by default",
        "metric": MEASURED[plan.metric],
        "does not matter": f"differences within {text.points(plan.margin)}",
        "begun with": _conditions(plan.conditions),
        "looks": looks,
        "digest": plan.digest,
    }
    cells = "".join(f"<tr><th>{k}</th><td>{_text(v)}</td></tr>" for k, v in rows.items())
    yield f'<div class="wide"><table>{cells}</table></div>'
    if verdict.notes:
        yield _list(verdict.notes)


def _conditions(conditions: Mapping[str, Any]) -> str:
    """Processor, threads and versions at the first command."""
    shown = {name: value for name, value in conditions.items() if value and not isinstance(value, Mapping | list)}
    return ", ".join(f"{name} {value}" for name, value in shown.items()) or "not known"


def _markdown(text: str) -> str:
    """Tables, lists and lines of our own Markdown as HTML."""
    lines: list[str] = []
    for kind, group in itertools.groupby(text.splitlines(), key=_kind):
        rows = list(group)
        if kind == "table":
            head, body = rows[0], [row for row in rows[1:] if not re.fullmatch(r"[|\s:-]+", row)]
            cells = ["".join(_cell(tag, c.strip()) for c in row.strip("| ").split("|"))
                     for tag, row in [("th", head), *(("td", row) for row in body)]]  # fmt: skip
            table = "".join(f"<tr>{row}</tr>" for row in cells)
            lines.append(f'<div class="wide"><table>{table}</table></div>')
        elif kind == "list":
            lines.append(_list([row[2:] for row in rows]))
        else:
            lines += [f"<p>{_text(row)}</p>" for row in rows if row.strip()]
    return "".join(lines)


def _kind(line: str) -> str:
    return "table" if line.startswith("|") else "list" if line.startswith("- ") else "text"


def _cell(tag: str, content: str) -> str:
    """One of a table; short ones stay on a line, so that a number is not broken at its sign."""
    whole = ' class="whole"' if len(content) <= _WHOLE else ""
    return f"<{tag}{whole}>{_text(content)}</{tag}>"


def _image(file: Path, what: str) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<p><img alt="{_text(what)}" src="data:image/png;base64,{data}"></p>'


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _text(value: object) -> str:
    return html.escape(str(value))
