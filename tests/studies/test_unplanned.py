"""What is no study's verdict: some of its runs, an edited plan, and what a table cannot hold."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.runs import prints
from helpers.studies import HARD, make_run

from grouprl.cli import compare
from grouprl.files import FileError
from grouprl.studies.plan import read_plan


def test_runs_of_a_study_one_by_one_are_exploratory(study, capsys):
    """Some of its runs at one look are not what was planned; edited ones are refused as in the study."""
    study({"tiny": 0.3})
    some = [f"s/tiny-{advantage}-{seed}" for advantage in ("rank", "zscore") for seed in range(4)]
    code, text = prints(compare.main, capsys)(*some)
    assert code == 3
    assert text.splitlines()[0] == "exploratory: these are runs of a study. Its verdict: python compare.py s"
    file = max((Path(some[0]) / "heldout").iterdir())
    shutil.copy(max((Path(some[5]) / "heldout").iterdir()), file)
    code, text = prints(compare.main, capsys)(*some)
    assert (code, "its heldout is not what was written" in text) == (1, True)
    result = json.loads(Path(some[0], "result.json").read_text())
    Path(some[0], "result.json").write_text(json.dumps({k: v for k, v in result.items() if k != "digests"}))
    for arguments in (some, ["s"]):
        code, text = prints(compare.main, capsys)(*arguments)
        assert (code, "its digests is not what was written" in text) == (1, True)


def test_what_a_plan_announced_is_sealed(study):
    study({"tiny": 0.3})
    file = Path("s/study.json")
    for old, new in (("12 runs", "2 runs"), ("1.43", "0.10")):
        before = file.read_text()
        file.write_text(before.replace(old, new))
        assert file.read_text() != before
        with pytest.raises(FileError, match="was changed after it was written"):
            read_plan(Path("s"))
        file.write_text(before)


def test_the_area_of_a_study_is_not_exported_as_its_end(study, capsys):
    study({"tiny": 0.3}, metric="area")
    code, text = prints(compare.main, capsys)("s", "--export", "t.csv")
    assert (code, "this study's metric is area" in text, Path("t.csv").exists()) == (1, True, False)


def test_a_run_that_failed_midway_is_exported_with_its_fewer_samples(study, capsys):
    study({"tiny": 0.3})
    shutil.rmtree("s/tiny-zscore-5")
    make_run(
        Path("s/tiny-zscore-5"), advantage="zscore", seed=5, chances=HARD, samples=4, policy="tiny", state="failed"
    )
    code, text = prints(compare.main, capsys)("s", "--export", "t.csv")
    again, of_table = prints(compare.main, capsys)("t.csv", "--margin", "1")
    assert (again, of_table.splitlines()[0]) == (code, text.splitlines()[0])
    assert "The runs have 4 to 8 samples of a problem" in of_table
