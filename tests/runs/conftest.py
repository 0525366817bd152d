"""A finished run, and copies of it to go on from."""

import shutil
from pathlib import Path

import pytest
from helpers.resumed import SMALL
from helpers.runs import run_forked


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (outcome,) = run_forked(folder, [{"arguments": [*SMALL, "steps=2", "hydra.run.dir=runs/a"]}])
    assert outcome["status"] == 0, (folder / "log.txt").read_text()
    return folder / "runs" / "a"


@pytest.fixture
def run_copy(finished_run, tmp_path, monkeypatch):
    """A copy of a finished run, in the working folder."""
    shutil.copytree(finished_run, tmp_path / "runs" / "a")
    monkeypatch.chdir(tmp_path)
    return Path("runs/a")
