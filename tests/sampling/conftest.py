"""The sandbox, where this machine can have one."""

import subprocess
import sys

import pytest

from grouprl.sampling.tools.sandbox import Sandbox

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
