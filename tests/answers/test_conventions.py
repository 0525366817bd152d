"""The page of conventions says what the grader does."""

import re

import pytest
from helpers.paths import ROOT

from grouprl.answers.grading import grade

PAGE = (ROOT / "docs" / "grading.md").read_text()
ROW = re.compile(r"^\|(.*?)\| `+ ?(.*?) ?`+ \| `(.*?)` \| (yes|no) \|(.*?)\|$", re.MULTILINE)
EXAMPLES = [(answer, gold, right) for _, answer, gold, right, _ in ROW.findall(PAGE)]


def test_every_row_of_the_page_is_read():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert len(EXAMPLES) == len(rows) - 2
    assert len(EXAMPLES) > 50


@pytest.mark.parametrize(("answer", "gold", "right"), EXAMPLES)
def test_the_page_of_conventions_says_what_the_grader_does(answer, gold, right):
    answer, gold = answer.replace(r"\|", "|"), gold.replace(r"\|", "|")
    completion = answer[4:].replace(r"\n", "\n") if answer.startswith("RAW:") else rf"\boxed{{{answer}}}"
    verdict = grade(completion, gold)
    assert verdict.correct is (right == "yes"), verdict
    assert verdict.status != "timeout"
