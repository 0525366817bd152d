"""A sandbox that can be broken."""

import shutil

import pytest

from grouprl.sandbox import process

JAIL = "grouprl/sandbox/jail"


@pytest.fixture
def changed_jail(monkeypatch, tmp_path):
    """Has the jail run from a copy, in which some text may be changed."""
    for part in ("grouprl", "grouprl/sandbox", JAIL):
        (tmp_path / part).mkdir()
        for source in (process.SOURCE / part).glob("*.py"):
            shutil.copy(source, tmp_path / part)
    monkeypatch.setattr(process, "SOURCE", tmp_path)

    def change(file, old, new):
        text = (tmp_path / JAIL / file).read_text()
        assert text.count(old) == 1
        (tmp_path / JAIL / file).write_text(text.replace(old, new))

    return change
