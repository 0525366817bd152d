"""The page of a study: what stands first, that it needs no other file, and that nothing in it is taken for HTML."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.studies import make_run

from grouprl.cli import compare
from grouprl.studies.beginning import begin
from grouprl.studies.plan import plan_of
from grouprl.studies.show.pictures import Curve, mean_accuracy
from grouprl.studies.show.report import REPORT_FILE

pytestmark = pytest.mark.slow
HARD = np.random.default_rng(0).uniform(0.3, 0.7, 40)


class Page(HTMLParser):
    """Texts by tag, open tags that were not closed, and what is loaded from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.loaded = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "s"
    swept = {"policy": ["tiny", "tiny_b"], "advantage": ["rank", "zscore"], "seed": ["0", "1", "2", "3"]}
    begin(plan_of(swept, [], question="Is z-score <better> & why?"), folder)
    for base in ("tiny", "tiny_b"):
        for seed in range(4):
            for advantage, more in (("rank", 0.0), ("zscore", 0.3 if base == "tiny" else 0.0)):
                run = folder / f"{base}-{advantage}-{seed}"
                make_run(run, advantage=advantage, seed=seed, chances=HARD + more, policy=base)
    with pytest.raises(SystemExit):
        compare.main([str(folder), "--report"])
    return folder


@pytest.fixture
def page(finished_study):
    return (finished_study / REPORT_FILE).read_text()


def test_the_verdict_stands_first_and_nothing_is_loaded(page):
    found = Page(page)
    assert found.open == []
    texts = [text for tag, text in found.texts if tag not in ("title", "style")]
    assert texts[:2] == ["Is z-score <better> & why?", "s"]  # the question, and the study's name
    assert texts[2].startswith("policy=tiny: advantage=zscore is better than advantage=rank by ")
    assert texts[3].startswith("policy=tiny_b: advantage=zscore against advantage=rank is undecided")
    assert texts[4] == "advantage=rank and advantage=zscore: advantage=zscore better on 1, undecided on 1 of 2 bases."
    assert len(found.loaded) == 4
    assert all(link.startswith("data:image/png;base64,") for link in found.loaded)
    classes = re.findall(r'<div class="(verdict[^"]*)">', page)
    assert classes == ["verdict decided", "verdict", "verdict"]


def test_completions_are_shown_as_text(page):
    assert "<b>rank</b>" not in page
    assert "&lt;b&gt;rank&lt;/b&gt;" in page
    questions = [text for tag, text in Page(page).texts if tag == "td" and re.fullmatch(r"What is \d+\?", text)]
    assert len(questions) == 2 * 6


def test_pictures_lie_beside_the_page(finished_study):
    files = sorted(str(file.relative_to(finished_study / "pictures")) for file in finished_study.rglob("*.png"))
    assert files == [f"base-{n}/{name}.png" for n in (0, 1) for name in ("curves", "differences")]


def test_a_run_that_ended_early_keeps_its_last_value_in_the_mean():
    curves = [Curve({}, [20.0, 40.0, 70.0]), Curve({}, [20.0, 5.0])]
    assert mean_accuracy(curves).tolist() == [20.0, 22.5, 37.5]
