"""The sandbox, where this machine can have one."""

import shutil
import subprocess
import sys

import pytest

from grouprl.sampling.tools import process
from grouprl.sampling.tools.sandbox import Sandbox

JAIL = "grouprl/sampling/tools/jail"
NEEDED = (  # a user namespace with one of mounts in it, and Landlock
    "import ctypes, sys\nlibc = ctypes.CDLL(None)\n"
    "sys.exit(libc.unshare(0x10020000) != 0 or libc.syscall(444, None, ctypes.c_long(0), 1) < 1)"
)


@pytest.fixture(scope="session")
def python():
    """A sandbox with little time; a machine that could confine and does not is a failure, and no reason to skip."""
    if subprocess.run([sys.executable, "-c", NEEDED], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine lets no process make namespaces, or has no Landlock")
    Sandbox().check()
    return Sandbox(timeout_s=2.0)


@pytest.fixture
def changed_jail(monkeypatch, tmp_path):
    """Has the jail run from a copy, in which some text may be changed."""
    for part in ("grouprl", "grouprl/sampling", "grouprl/sampling/tools", JAIL):
        (tmp_path / part).mkdir()
        for source in (process.SOURCE / part).glob("*.py"):
            shutil.copy(source, tmp_path / part)
    monkeypatch.setattr(process, "SOURCE", tmp_path)

    def change(file, old, new):
        text = (tmp_path / JAIL / file).read_text()
        assert text.count(old) == 1
        (tmp_path / JAIL / file).write_text(text.replace(old, new))

    return change
