"""The committed studies: what lies beside their results is what one command makes of them, and the results are whole."""

from __future__ import annotations

import re
import shutil

import pytest
from helpers.paths import ROOT
from helpers.runs import prints

from grouprl.cli import compare, verify
from grouprl.studies.plan import PLAN_FILE
from grouprl.studies.show.report import REPORT_FILE
from grouprl.studies.verdict import VERDICT_FILE

pytestmark = pytest.mark.slow
STUDIES = sorted(file.parent for file in (ROOT / "experiments").glob(f"*/{PLAN_FILE}"))
LIMIT = 5 * 2**20
"""Bytes of a study's completions."""


def without_pictures(page):
    return re.sub(r"data:image/[^\"']+", "", page)


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
    assert {file.name for file in (copy / "pictures").iterdir()} == {
        file.name for file in (study / "pictures").iterdir()
    }
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


def test_there_are_studies():
    assert {"aa", "spike"} <= {study.name for study in STUDIES}
