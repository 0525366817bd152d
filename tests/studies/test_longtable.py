"""One long table of completions: our own study handed on, another trainer's runs, and what is no such table."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import prints
from helpers.studies import change, make_run

from grouprl.cli import compare
from grouprl.statistics.seeds import paired_t
from grouprl.studies.beginning import begin
from grouprl.studies.plan import plan_of

HARD = np.random.default_rng(0).uniform(0.3, 0.7, 40)


def numbers(file):
    """What a comparison found, without what a table does not hold."""
    found = json.loads(Path(file).read_text())["bases"]
    return {
        base: (
            {a["name"]: a["scores"] for a in c["arms"]},
            [p["test"] for p in c["pairs"]],
            [p["verdict"] for p in c["pairs"]],
        )
        for base, c in found.items()
    }


@pytest.mark.slow
def test_a_study_handed_on_gives_the_same_verdict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    swept = {"policy": ["tiny", "tiny_b"], "advantage": ["rank", "zscore"], "seed": ["0", "1", "2", "3"]}
    begin(plan_of(swept, []), Path("s"))
    for base in ("tiny", "tiny_b"):
        for seed in range(4):
            for advantage, more in (("rank", 0.0), ("zscore", 0.1)):
                folder = Path(f"s/{base}-{advantage}-{seed}")
                make_run(folder, advantage=advantage, seed=seed, chances=HARD + more, policy=base)
    call = prints(compare.main, capsys)
    code, text = call("s", "--export", "results.csv", "--json", "study.json")
    other, again = call("results.csv", "--json", "table.json")
    assert other == code
    assert numbers("table.json") == numbers("study.json")
    assert text.splitlines()[0].partition(": ")[2] in again


def test_what_a_table_cannot_say_is_in_the_command_that_is_printed(tmp_path, monkeypatch, capsys):
    """Looks and margin are the plan's; a study under way is not handed on."""
    monkeypatch.chdir(tmp_path)
    swept = {"advantage": ["rank", "zscore"], "seed": [str(seed) for seed in range(6)]}
    begin(plan_of(swept, [], looks=(2, 4, 6), margin=8.0), Path("s"))
    for seed in range(6):
        for advantage, more in (("rank", 0.0), ("zscore", 0.04)):
            make_run(Path(f"s/{advantage}-{seed}"), advantage=advantage, seed=seed, chances=HARD + more)
    call = prints(compare.main, capsys)
    code, text = call("s", "--export", "results.csv")
    again = shlex.split(text.splitlines()[-1].removeprefix("Again: python compare.py "))
    assert again == ["results.csv", "--margin", "8", "--looks", "2", "4", "6", "--seeds", *map(str, range(6))]
    other, said = call(*again)
    assert (other, text.splitlines()[0] in said) == (code, True)
    assert call("results.csv")[1].splitlines()[0] != text.splitlines()[0]
    assert "--looks belongs to a table" in call("s", "--looks", "2", "4")[1]
    shutil.rmtree("s/rank-1")  # of the first look
    code, text = call("s", "--export", "other.csv")
    assert (code, "A table cannot say so" in text, Path("other.csv").exists()) == (1, True, False)


def test_runs_of_any_trainer(tmp_path, monkeypatch, capsys):
    """Written by hand: no greedy completions, problems by name, seeds in any order."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    rows, scores = [], {}
    for arm, chance in (("ours", 0.6), ("theirs", 0.4)):
        for seed in (3, 1, 2):
            marks = rng.random((30, 2)) < chance
            scores[arm, seed] = marks.mean()
            rows += [[arm, seed, f"p{p}", s, str(bool(marks[p, s]))] for p in range(30) for s in range(2)]
    rng.shuffle(rows)
    with Path("t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["arm", "seed", "problem", "sample", "correct"], *rows])
    _, text = prints(compare.main, capsys)("t.csv", "--json", "t.json", "--baseline", rows[0][0])
    (pair,) = json.loads(Path("t.json").read_text())["bases"]["the one base"]["pairs"]
    wanted = paired_t([scores[pair["second"], n] - scores[pair["first"], n] for n in (1, 2, 3)])
    assert pair["test"]["single"]["value"] == pytest.approx(wanted.value)
    assert pair["test"]["single"]["low"] == pytest.approx(wanted.low)
    assert pair["greedy"] is None
    assert "| - |" in text


HEAD = "arm,seed,problem,sample,correct\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "no column arm"),
        ("arm,seed,problem,sample\na,1,p,0\n", "no column correct"),
        (HEAD, "no row"),
        (HEAD + "a,1,p,0,maybe\n", "row 2: correct='maybe'"),
        (HEAD + "a,one,p,0,1\n", "row 2: seed='one'"),
        (HEAD + "a,1,p\n", "row 2: it has too few cells"),
        (HEAD + "a,1,p,0,1\na,1,p,0,1\n", "row 3: sample 0 of problem p is there twice"),
        (HEAD + "a,1,p,0,1\nb,1,q,0,1\n", "differ in problem p"),
        (HEAD + "a,1,p,0,1\na,1,q,0,1\na,1,q,1,1\n", "not as many samples"),
        (HEAD + "a,1,p,-1,1\n", "greedy completions alone (sample -1), which are no part of a verdict"),
        (HEAD + ",1,p,0,1\n", "row 2: its arm is empty"),
        (HEAD + "a,1, ,0,1\n", "row 2: its problem is empty"),
        ("arm,seed,problem,sample,correct,correct\na,1,p,0,1,0\n", "the column correct is there twice"),
        (HEAD + "a,1,p,0,1\na,2,p,0,1\n", "a comparison takes two arms"),
    ],
)
def test_what_is_no_table_is_said(tmp_path, monkeypatch, capsys, text, wanted):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(text)
    code, shown = prints(compare.main, capsys)("t.csv")
    assert (code, wanted in shown) == (1, True), shown


@pytest.mark.parametrize("lost", [None, 11])
def test_a_study_that_looks_is_handed_on_with_the_order_of_its_seeds(tmp_path, monkeypatch, capsys, lost):
    """Seeds that do not rise, and one that came to nothing: the looks are those of the plan."""
    monkeypatch.chdir(tmp_path)
    seeds = [10, 11, 12, 13, 0, 1]
    begin(plan_of({"advantage": ["rank", "zscore"], "seed": [str(s) for s in seeds]}, [], looks=(4, 6)), Path("s"))
    for seed in seeds:
        for advantage, more in (("rank", 0.0), ("zscore", 0.3 if seed < 5 else 0.05)):
            run = make_run(Path(f"s/{advantage}-{seed}"), advantage=advantage, seed=seed, chances=HARD + more)
            if seed == lost:
                shutil.rmtree(run / "heldout")
                change(run, state="failed")
    call = prints(compare.main, capsys)
    code, text = call("s", "--export", "results.csv", "--json", "study.json")
    again = shlex.split(text.splitlines()[-1].removeprefix("Again: python compare.py "))
    assert again[-6:] == list(map(str, seeds))
    other, _ = call(*again, "--json", "table.json")
    assert (other, numbers("table.json")) == (code, numbers("study.json"))
    code, text = call(*again[:-7], "--seeds", "10", "11", "12")
    assert (code, "3 seeds are there, and no look is after so many" in text) == (1, True)


def test_a_table_has_a_page_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    rows = [[arm, seed, f"p{p}", 0, int(rng.random() < chance)]
            for arm, chance in (("ours", 0.9), ("theirs", 0.2)) for seed in range(6) for p in range(30)]  # fmt: skip
    with Path("of others.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEAD.strip().split(","), *rows])
    code, text = prints(compare.main, capsys)("of others.csv", "--report")
    page = Path("of others.report/report.html").read_text()
    assert (code, text.splitlines()[0] in page) == (0, True)
    assert "ours is better than theirs by " in page
    assert ("On the way" in page, "train.py" in page) == (False, False)
    assert {"verdict.md", "verdict.json", "paper.md", "pictures"} <= {
        f.name for f in Path("of others.report").iterdir()
    }
