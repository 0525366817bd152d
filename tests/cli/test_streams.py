"""A run does not end because nobody reads of it any more, nor a command in a traceback because somebody stopped it."""

import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from grouprl.cli import commands
from grouprl.cli.streams import lasting_streams

WRITES = """
import sys
from grouprl.cli.streams import lasting_streams
with lasting_streams():
    for _ in range(20_000):
        print("a line", flush=True)
    print("the end", file=sys.stderr)
print("after it")
"""


def test_a_reader_that_is_gone_ends_nothing():
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES], stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT / "src"
    )
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "the end\n")


def test_streams_are_put_back(capsys):
    before = sys.stdout
    with lasting_streams():
        assert not sys.stdout.isatty()
        print("said")
    assert sys.stdout is before
    assert capsys.readouterr().out == "said\n"


@pytest.mark.parametrize("name", ["train", "evaluate", "compare", "verify"])
def test_an_interrupt_while_a_command_is_imported_is_one_line(name, monkeypatch, capsys):
    def interrupted(module):
        assert module == f"grouprl.cli.{name}"
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.importlib, "import_module", interrupted)
    with pytest.raises(SystemExit) as stopped:
        getattr(commands, name)()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == f"{name}.py: stopped. Give the command again.\n"
