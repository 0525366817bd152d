"""Runs of a study run again: the same bits, files that were edited, and a run that was doctored."""

import json
from pathlib import Path

import pytest
from helpers.runs import prints

from grouprl.cli import verify
from grouprl.studies.verification import sealed
from grouprl.training.records import read_result

OPTIONS = ["-m", "lr=1e-3,2e-3", "seed=0,1", "study=a study", "steps=1", "max_new_tokens=64", "threads=1"]
STUDY = Path("runs/a study")


@pytest.fixture
def call(train, capsys):
    """A small study, and verify.py."""
    assert train(*OPTIONS) in (0, 3)
    capsys.readouterr()
    return prints(verify.main, capsys)


@pytest.mark.slow
def test_a_study_is_verified_and_what_was_changed_is_found(call):
    runs = sorted(path for path in STUDY.iterdir() if (path / "result.json").is_file())
    assert all(read_result(run)["digests"] == sealed(run, read_result(run)) for run in runs)
    code, text = call(str(STUDY), "n=1")
    assert (code, text.count("the same bits: weights ")) == (0, 1), text
    # An edited file is seen without a run.
    metrics = runs[0] / "metrics.jsonl"
    before = metrics.read_text()
    metrics.write_text(before.replace('"iteration": 1, "reward": 0.', '"iteration": 1, "reward": 0.9'))
    code, text = call(str(STUDY), "n=0")
    assert (code, f"{runs[0].name}: its metrics is not what the run wrote" in text) == (1, True), text
    # One whose record was made to fit is seen when it is run again.
    result = json.loads((runs[0] / "result.json").read_text())
    (runs[0] / "result.json").write_text(json.dumps(result | {"digests": sealed(runs[0], result)}))
    assert call(str(STUDY), "n=0")[0] == 0
    code, text = call(str(STUDY), f"runs={runs[0].name}")
    assert (code, f"{runs[0].name}: run again, other metrics (under the same recorded conditions)" in text) == (1, True)
    assert not list(STUDY.glob("tmp*"))


def test_what_cannot_be_verified_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call = prints(verify.main, capsys)
    Path("empty").mkdir()
    for arguments, wanted in (
        (["empty"], "no finished run is here"),
        (["nowhere"], "nowhere"),
        (["empty", "m=2"], "m=2: give n=2, or runs=NAME"),
    ):
        code, text = call(*arguments)
        assert (code, wanted in text) == (2, True), text
