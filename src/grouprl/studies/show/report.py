"""A study as one page of HTML that needs no other file: the verdict first, then pictures, tables and samples."""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from grouprl.files import write_text
from grouprl.studies import decomposition, tuning
from grouprl.studies.outcomes import Outcome
from grouprl.studies.plan import MEASURED
from grouprl.studies.show import paper, text
from grouprl.studies.show.pictures import curve_of, draw_curves, draw_differences
from grouprl.studies.verdict import StudyVerdict

REPORT_FILE = "report.html"
PICTURES = "pictures"
"""Folder of the PNGs beside it."""
_SAMPLES = 6
"""Problems whose completions are shown."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
.verdict { padding: .6rem 1rem; border-left: 6px solid #c80; background: #fdf6e8; font-size: 1.1rem; margin: .4rem 0; }
.decided { border-color: #2a7; background: #eaf7f0; }
table { border-collapse: collapse; margin: .6rem 0; } td, th { border: 1px solid #ccc; padding: .25rem .55rem; }
th { background: #f2f2f2; text-align: left; } td { vertical-align: top; }
pre { white-space: pre-wrap; margin: 0; font: 12px/1.4 ui-monospace, monospace; } img { max-width: 100%; }
.right { background: #eaf7f0; } .wrong { background: #fbeeee; } .small { color: #666; font-size: .85rem; }
"""


def write_report(verdict: StudyVerdict, folder: Path) -> Path:
    """Write ``report.html`` with its pictures, and ``paper.md``, to a study's folder; the page's path."""
    question = verdict.plan.question
    body = [f"<h1>{_text(question[:1].upper() + question[1:])}</h1>", *_verdicts(verdict)]
    for number, base in enumerate(verdict.plan.bases):
        runs = {name: of_arm for name, of_arm in verdict.outcomes.get(base, {}).items() if of_arm}
        if not runs:
            continue
        if len(verdict.plan.bases) > 1:
            body.append(f"<h2>{_text(base)}</h2>")
        body += _base(verdict, base, runs, folder / PICTURES / f"base-{number}")
    if verdict.attempts:
        body += ["<h2>Tuning</h2>", _markdown("\n".join(tuning.table(verdict.plan, verdict.attempts)))]
    body += ["<h2>What was planned</h2>", *_plan(verdict)]
    page = "\n".join(body)
    title = _text(question)
    whole = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"</head><body>\n{page}\n</body></html>\n"
    )
    write_text(folder / REPORT_FILE, whole)
    write_text(folder / paper.PAPER_FILE, paper.describe(verdict))
    return folder / REPORT_FILE


def _verdicts(verdict: StudyVerdict) -> Iterator[str]:
    for line, decided in verdict.judged_lines():
        yield f'<div class="verdict{" decided" if decided else ""}">{_text(line)}</div>'
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
    curves = {name: [curve_of(outcome) for outcome in arm.values()] for name, arm in runs.items()}
    draw_curves(curves, pictures / "curves.png")
    yield "<h3>On the way</h3>" + _image(pictures / "curves.png", "held-out accuracy of every seed")
    if comparison is not None:
        yield "<h3>Numbers</h3>" + _markdown(text.details(comparison))
    if base in verdict.terms:
        yield "<h3>What the first arm's gain is made of</h3>"
        yield _markdown("\n".join(decomposition.table(verdict.terms[base])))
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
        [*lines, *(f"| {key} | {' | '.join(str(s.get(key)) for s in firsts.values())} |" for key in differing)]
    )


def _samples(runs: Mapping[str, Mapping[int, Outcome]]) -> str:
    """Greedy completions of some problems, one run of each arm, side by side: those first on which the arms differ."""
    found = {name: next(iter(arm.values())).texts for name, arm in runs.items()}
    problems = set.intersection(*(set(rows) for rows in found.values())) if found else set()
    order = sorted(problems, key=lambda p: (len({rows[p]["correct"] for rows in found.values()}) == 1, p))
    if not order:
        return '<p class="small">The runs kept no completions.</p>'
    lines = [f"<table><tr><th>problem</th>{''.join(f'<th>{_text(name)}</th>' for name in found)}</tr>"]
    for problem in order[:_SAMPLES]:
        question = next(iter(found.values()))[problem]["question"]
        cells = "".join(_completion(rows[problem]) for rows in found.values())
        lines.append(f"<tr><td>{_text(question)}</td>{cells}</tr>")
    seeds_shown = ", ".join(f"{name}: seed {next(iter(arm))}" for name, arm in runs.items())
    apart = sum(len({rows[p]["correct"] for rows in found.values()}) > 1 for p in problems)
    note = (
        f"Greedy completions after training ({_text(seeds_shown)}). One is right and another wrong on {apart} of "
        f"{len(problems)} problems, which stand first."
    )
    return "".join([*lines, f'</table><p class="small">{note}</p>'])


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
        "does not matter": f"differences within {plan.margin:g} points",
        "looks": looks,
        "digest": plan.digest,
    }
    yield "<table>" + "".join(f"<tr><th>{k}</th><td>{_text(v)}</td></tr>" for k, v in rows.items()) + "</table>"
    if verdict.notes:
        yield _list(verdict.notes)


def _markdown(text: str) -> str:
    """Tables, lists and lines of our own Markdown as HTML."""
    lines: list[str] = []
    for is_table, group in itertools.groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        rows = list(group)
        if is_table:
            head, body = rows[0], [row for row in rows[1:] if not re.fullmatch(r"[|\s:-]+", row)]
            cells = ["".join(f"<{tag}>{_text(c.strip())}</{tag}>" for c in row.strip("| ").split("|"))
                     for tag, row in [("th", head), *(("td", row) for row in body)]]  # fmt: skip
            lines.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
        else:
            lines += [f"<p>{_text(row.lstrip('- '))}</p>" for row in rows if row.strip()]
    return "".join(lines)


def _image(file: Path, what: str) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<p><img alt="{_text(what)}" src="data:image/png;base64,{data}"></p>'


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _text(value: object) -> str:
    return html.escape(str(value))
