"""The committed studies: what lies beside their results is what one command makes of them, and the results are whole."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.runs import prints

from grouprl.cli import compare, verify
from grouprl.studies.outcomes import Evaluation, Outcome
from grouprl.studies.plan import PLAN_FILE
from grouprl.studies.seeds import compare_arms
from grouprl.studies.show.pictures import DRAWN_ALIKE, draw_differences, pixels_apart
from grouprl.studies.show.report import REPORT_FILE
from grouprl.studies.verdict import VERDICT_FILE

pytestmark = pytest.mark.slow
STUDIES = sorted(file.parent for file in (ROOT / "experiments").glob(f"*/{PLAN_FILE}"))
LIMIT = 5 * 2**20
"""Bytes of a study's completions."""


def without_pictures(page):
    return re.sub(r"data:image/[^\"']+", "", page)


def test_a_moved_point_is_another_picture(tmp_path):
    """One seed of six by half a point, in the comparison of pictures that the committed ones are held to."""
    scores = {"a": [0.70, 0.71, 0.72, 0.70, 0.73, 0.71], "b": [0.71, 0.73, 0.72, 0.72, 0.75, 0.72]}
    for name, moved in (("one", 0.0), ("same", 0.0), ("other", 0.005)):
        with_moved = scores | {"b": [scores["b"][0] + moved, *scores["b"][1:]]}
        draw_differences(
            compare_arms({arm: {s: outcome(s, x) for s, x in enumerate(of)} for arm, of in with_moved.items()}),
            tmp_path / f"{name}.png",
        )
    assert pixels_apart(tmp_path / "one.png", tmp_path / "same.png") == 0.0
    assert pixels_apart(tmp_path / "one.png", tmp_path / "other.png") > DRAWN_ALIKE


def outcome(seed, score):
    marks = np.arange(1000)[:, None] < round(1000 * score)
    evaluation = Evaluation(1, marks, marks[:, 0], tokens=0)
    nan = float("nan")
    return Outcome(str(seed), seed, "finished", {}, "", (evaluation,), np.array([1.0]), nan, nan)


@pytest.mark.parametrize("study", STUDIES, ids=lambda folder: folder.name)
def test_verdict_and_page_are_what_one_command_makes_of_the_results(study, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "experiments" / study.name
    shutil.copytree(study, copy)
    monkeypatch.chdir(tmp_path)
    code, text = prints(compare.main, capsys)(f"experiments/{study.name}", "--report")
    assert code in (0, 3), text
    for name in (VERDICT_FILE, "verdict.json", "paper.md"):
        assert (copy / name).read_text() == (study / name).read_text(), f"experiments/{study.name}/{name}"
    assert without_pictures((copy / REPORT_FILE).read_text()) == without_pictures((study / REPORT_FILE).read_text())
    drawn = {folder: sorted(f.relative_to(folder / "pictures") for f in (folder / "pictures").rglob("*.png"))
             for folder in (copy, study)}  # fmt: skip
    assert drawn[copy] == drawn[study] != []
    for name in drawn[study]:
        assert pixels_apart(study / "pictures" / name, copy / "pictures" / name) < DRAWN_ALIKE, name
    assert (study / "heldout.parquet").stat().st_size < LIMIT


@pytest.mark.parametrize("study", STUDIES, ids=lambda folder: folder.name)
def test_no_row_and_no_completion_was_edited(study, capsys):
    code, text = prints(verify.main, capsys)(str(study), "n=0")
    assert code == 0, text


@pytest.mark.parametrize("study", STUDIES, ids=lambda folder: folder.name)
def test_the_page_says_what_was_asked_how_and_what_came_out(study):
    text = (study / "README.md").read_text()
    assert re.findall(r"\*\*(Question|Predicted|Command|Hardware|Verdict)s?\.\*\*", text)[:1] == ["Question"]
    for part in ("Command", "Hardware", "Verdict"):
        assert f"**{part}" in text
    first = (study / VERDICT_FILE).read_text().splitlines()[2]
    assert first in text.replace("\n", " ").replace("  ", " "), f"its verdict is: {first}"


@pytest.mark.parametrize("name", ["spike", "aa"])
def test_the_readme_says_their_verdicts(name):
    (line,) = (ROOT / "experiments" / name / VERDICT_FILE).read_text().splitlines()[2:3]
    assert f"> {line}" in (ROOT / "README.md").read_text().splitlines()


def test_each_row_of_the_readmes_table_is_a_verdict():
    (table,) = re.findall(r"<!-- studies -->\n\|.*\n\|-.*\n((?:\|.*\n)+)", (ROOT / "README.md").read_text())
    rows = re.findall(r"^\| .*? \| (.*) \(\[(\w+)\]\(experiments/(\w+)/README.md\)\) \|$", table, re.MULTILINE)
    assert len(rows) == len(table.splitlines()) >= 5
    for line, shown, name in rows:
        assert shown == name
        assert line in (ROOT / "experiments" / name / "verdict.md").read_text().splitlines()


def test_there_are_studies():
    assert {"aa", "spike"} <= {study.name for study in STUDIES}
