"""A run does not end because nobody reads of it any more."""

import os
import subprocess
import sys

from helpers.paths import ROOT

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
