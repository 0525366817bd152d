"""A run does not end because nobody reads of it any more, nor a command in a traceback because somebody stopped it."""

import os
import shlex
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from helpers.runs import SMALL

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


@pytest.mark.slow
def test_a_locale_without_utf_8_and_a_folder_with_a_space(cli):
    """What is printed can be pasted: each command names the folder as one word."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = cli("train.py", *SMALL, "steps=1", "data.heldout_size=2", "hydra.run.dir=runs/x y", **locale)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    printed = {line.partition("  ")[0]: shlex.split(line) for line in done.stdout.splitlines() if "runs/x y" in line}
    assert printed["TensorBoard"][-2:] == ["--logdir", "runs/x y"]
    assert "policy=runs/x y" in printed["try it"]
    again = cli("train.py", "resume=runs/x y", **locale)
    assert (again.returncode, again.stdout.startswith("runs/x y is finished")) == (0, True), again.stderr


def test_a_reader_of_the_help_may_leave(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "--help"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("usage: python ")
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (0, "")
