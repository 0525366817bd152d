"""A study published without its run folders: the same verdict and report, and what is edited in it is named."""

import base64
import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import prints
from helpers.studies import finish, make_run

from grouprl.cli import compare, verify
from grouprl.cli import study as tables
from grouprl.files import FileError, read_parquet, write_parquet
from grouprl.studies.beginning import begin
from grouprl.studies.exchange.published import publish
from grouprl.studies.plan import plan_of
from grouprl.studies.verification import sealed
from grouprl.training.records import read_result, write_result

HARD = np.random.default_rng(0).uniform(0.3, 0.7, 40)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A study of two bases, and the folder that it was published to."""
    monkeypatch.chdir(tmp_path)
    swept = {"policy": ["tiny", "tiny_b"], "advantage": ["rank", "zscore"], "seed": ["0", "1", "2", "3"]}
    begin(plan_of(swept, []), Path("s"))
    for base, gain in (("tiny", 0.2), ("tiny_b", 0.0)):
        for seed in range(4):
            for advantage, more in (("rank", 0.0), ("zscore", gain)):
                run = Path(f"s/{base}-{advantage}-{seed}")
                make_run(run, advantage=advantage, seed=seed, chances=HARD + more, policy=base)
                finish(run, f"{advantage} {seed}".encode())
    monkeypatch.setattr(sys, "argv", ["study", "s", "--publish", "p"])
    tables.main()
    return Path("p")


def verified(capsys, *arguments):
    return prints(verify.main, capsys)(*arguments)


@pytest.mark.slow
def test_verdict_and_report_are_those_of_the_run_folders(published, capsys):
    call = prints(compare.main, capsys)
    code, whole = call("s", "--json", "s.json", "--report")
    shutil.rmtree("s")
    assert whole.endswith("written: s/report.html\nwritten: s/paper.md\nwritten: s.json\n")
    again = whole.replace("written: s/", "written: p/").replace("written: s.json", "written: p.json")
    assert call("p", "--json", "p.json", "--report") == (code, again)
    assert json.loads(Path("p.json").read_text()) == json.loads(Path("s.json").read_text())
    assert "<b>zscore</b>".replace("<", "&lt;").replace(">", "&gt;") in (published / "report.html").read_text()
    assert {file.name for file in published.iterdir()} >= {"study.json", "results.csv", "heldout.parquet"}


@pytest.mark.slow
def test_the_tables_for_a_paper_say_what_the_verdict_does(published, capsys):
    prints(compare.main, capsys)("p", "--json", "p.json", "--report")
    lines = (published / "paper.md").read_text().splitlines()
    found = json.loads(Path("p.json").read_text())["bases"]["policy=tiny"]
    (row,) = [line for line in lines if line.endswith("| advantage=zscore is better |")]
    (pair,) = found["pairs"]
    value, low, high = (100 * x for x in (pair["test"]["single"]["value"], pair["test"]["low"], pair["test"]["high"]))
    assert f"| {value:+.2f} | [{low:+.2f}, {high:+.2f}] |" in row
    scores = 100 * np.array(found["arms"][0]["scores"])
    assert any(
        line.startswith(f"| advantage=rank | {scores.mean():.1f} ± {scores.std(ddof=1):.1f} |") for line in lines
    )
    caption = next(
        line for line in lines if line.startswith("Pass@1 after training on 40 held-out problems, 8 samples")
    )
    assert "mean and standard deviation over 4 seeds" in caption
    assert "no difference of 1 point." in caption


def test_its_rows_say_what_the_runs_scored(published):
    rows = list(csv.DictReader((published / "results.csv").open()))
    assert len(rows) == 16
    heldout = read_parquet(published / "heldout.parquet")
    for row in rows:
        marks = [r["correct"] for r in heldout if (r["run"], r["iteration"]) == (row["run"], 4) and r["sample"] >= 0]
        assert float(row["pass@1"]) == pytest.approx(np.mean(marks), abs=1e-6)
        assert json.loads(row["digests"]).keys() > {"weights", "metrics", "heldout"}


AS_RECORDED = "all as recorded: the files of 16 runs; none run again (n=2), which alone finds a forged one\n"


def test_a_study_whose_weights_are_elsewhere_is_published_and_one_with_other_weights_is_not(published):
    """Weights are not published; where they are there, they are those that the run wrote."""
    policies = sorted(Path("s").glob("*/policy"))
    assert len(policies) == 16
    (weights,) = policies[3].glob("*.safetensors")
    weights.write_bytes(b"others")
    with pytest.raises(FileError, match=f"{policies[3].parent}: not what the run wrote: weights"):
        publish(Path("s"), Path("p2"))
    for folder in policies:
        shutil.rmtree(folder)
    publish(Path("s"), Path("p2"))
    assert (Path("p2") / "results.csv").read_bytes() == (published / "results.csv").read_bytes()
    next(Path("s").glob("*/heldout/*.parquet")).unlink()
    with pytest.raises(FileError, match="not what the run wrote: heldout"):
        publish(Path("s"), Path("p2"))


def test_as_published_all_is_as_recorded(published, capsys):
    assert verified(capsys, "p", "n=0") == (0, AS_RECORDED)


def test_an_edited_row_is_named(published, capsys):
    file = published / "results.csv"
    rows = list(csv.DictReader(file.open()))
    rows[3]["pass@1"] = "0.999"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    assert verified(capsys, "p", "n=0") == (1, f"{rows[3]['run']}: its row is not what the run wrote\n")


def test_an_edited_completion_is_named(published, capsys):
    file = published / "heldout.parquet"
    rows = read_parquet(file)
    rows[77]["correct"] = not rows[77]["correct"]
    write_parquet(file, rows)
    assert verified(capsys, "p", "n=0") == (1, f"{rows[77]['run']}: its heldout is not what the run wrote\n")


def test_a_run_that_was_left_out_is_missed(published, capsys):
    """A row less, with its completions and without: neither is whole."""
    file, completions = published / "results.csv", published / "heldout.parquet"
    rows = list(csv.DictReader(file.open()))
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[1:])
    code, text = verified(capsys, "p", "n=0")
    assert (code, f"results.csv has no row of {rows[0]['run']}" in text) == (2, True), text
    write_parquet(completions, [row for row in read_parquet(completions) if row["run"] != rows[0]["run"]])
    code, text = verified(capsys, "p", "n=0")
    assert (code, "p: not all planned runs are in it" in text) == (1, True), text


@pytest.mark.slow
def test_another_picture_is_named(published, capsys):
    """In the folder, in the page, or gone."""
    prints(compare.main, capsys)("p", "--report")
    assert verified(capsys, "p", "n=0")[0] == 0
    one, other = (published / "pictures" / f"base-{n}/differences.png" for n in (0, 1))
    page, drawn, wanted = published / "report.html", one.read_bytes(), "p: its pictures/base-0/differences.png is not"
    one.write_bytes(other.read_bytes())
    code, text = verified(capsys, "p", "n=0")
    assert (code, text.startswith(wanted)) == (1, True), text
    one.write_bytes(drawn)
    text = page.read_text()
    page.write_text(text.replace(*(base64.b64encode(file.read_bytes()).decode() for file in (one, other))))
    code, text = verified(capsys, "p", "n=0")
    assert (code, text.startswith(wanted)) == (1, True), text


def test_what_was_edited_before_is_not_published(published, tmp_path, monkeypatch, capsys):
    metrics = Path("s/tiny-rank-0/metrics.jsonl")
    metrics.write_text(metrics.read_text().replace("10.0", "11.0"))
    monkeypatch.setattr(sys, "argv", ["study", "s", "--publish", "q"])
    with pytest.raises(SystemExit):
        tables.main()
    assert "its metrics is not what was written" in capsys.readouterr().err
    assert not Path("q").exists()


def test_what_has_no_verdict_is_not_published_nor_anything_in_the_study_s_own_folder(published, monkeypatch, capsys):
    for target, wanted in (("s", "the study's own folder"), ("q", "are one arm, and differ in group_size")):
        if target == "q":
            run = Path("s/tiny-rank-0")
            config = run / "config.yaml"
            config.write_text(config.read_text().replace("group_size: 4", "group_size: 8"))
            write_result(run, read_result(run) | {"digests": sealed(run, read_result(run))})
        monkeypatch.setattr(sys, "argv", ["study", "s", "--publish", target])
        with pytest.raises(SystemExit):
            tables.main()
        assert wanted in capsys.readouterr().err
    assert not Path("q").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["results.csv", "heldout.parquet", "study.json"])
def test_a_damaged_file_is_named(published, capsys, name):
    (published / name).write_bytes(b"run,state\nx,y\n")
    code, text = prints(compare.main, capsys)("p")
    assert (code, name in text, "Traceback" in text) == (1, True, False), text


@pytest.mark.slow
def test_a_verdict_is_not_read_from_what_was_edited(published, capsys):
    """Whatever was edited, in the folder of the runs or as published, and where a run is called failed."""
    call = prints(compare.main, capsys)
    assert call("s", "--report")[0] == 3
    for study in ("s", "p"):
        code, text = verified(capsys, study, "n=0")
        assert (code, text.startswith("all as recorded: the files of 16 runs")) == (0, True)
        assert ("verdict.md, verdict.json, report.html, paper.md" in text) == (study == "s")
    result = Path("s/tiny-rank-0/result.json")
    for old, new in (('"state": "finished"', '"state": "failed"'), ("advantage=rank", "advantage=zscore")):
        before = result.read_text()
        result.write_text(before.replace(old, new))
        assert result.read_text() != before
        code, text = call("s")
        assert (code, "its options or conditions is not what was written" in text) == (1, True), text
        assert verified(capsys, "s", "n=0")[0] == 1
        result.write_text(before)
    for name in ("verdict.md", "verdict.json", "report.html", "paper.md"):
        file = Path("s") / name
        before = file.read_text()
        file.write_text(before.replace("advantage=rank", "it"))
        assert file.read_text() != before
        again = "Anew: python compare.py s --report"
        assert verified(capsys, "s", "n=0") == (
            1,
            f"s: its {name} is not what this version of grouprl writes of its runs. {again}\n",
        )
        file.write_text(before)
    rows = read_parquet(published / "heldout.parquet")
    write_parquet(published / "heldout.parquet", [row | {"correct": True} for row in rows])
    code, text = call("p", "--report")
    assert (code, "its heldout is not what was written" in text) == (1, True), text


@pytest.mark.slow
def test_a_failed_run_without_an_evaluation_is_said(published, capsys):
    run = Path("s/tiny-rank-3")
    shutil.rmtree(run / "heldout")
    (run / "heldout").mkdir()
    failed = read_result(run) | {"state": "failed"}
    write_result(run, failed | {"digests": sealed(run, failed)})
    sys.argv = ["study", "s", "--publish", "q"]
    tables.main()
    call = prints(compare.main, capsys)
    code, text = call("q")
    assert "policy=tiny, seed 3: failed: " in text
    assert code == 3
