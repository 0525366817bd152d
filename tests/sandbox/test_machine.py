"""What the sandbox says of a machine that cannot confine a block, and does without where that is allowed."""

import os
import sys
import tempfile
from dataclasses import replace

import pytest

from grouprl.sandbox.attacks import ATTACKS
from grouprl.sandbox.sandbox import Sandbox, SandboxError


def test_a_machine_that_cannot_confine_is_refused(python, changed_jail, caplog):
    changed_jail("seccomp.py", "if machine not in syscalls.ARCHITECTURES:", "if True:")
    with pytest.raises(SandboxError, match=r"no sockets, no new namespaces \(seccomp\).*allow_unsandboxed=true"):
        Sandbox().run("1")
    assert Sandbox(allow_unsandboxed=True).run("1").text.strip() == "1"
    assert "runs without: no sockets, no new namespaces (seccomp)" in caplog.text


BROKEN = {
    "a file system of its own": ("view.py", "kernel.succeed(kernel.libc.unshare(kernel.CLONE_NEWNS))"),
    "a user, processes and a network of its own": (
        "namespaces.py",
        "succeed(libc.unshare(CLONE_NEWUSER | CLONE_NEWPID",
    ),
}


@pytest.mark.parametrize("broken", [[name] for name in BROKEN] + [list(BROKEN)])
def test_a_block_does_without_namespaces_where_that_is_allowed(python, changed_jail, broken, monkeypatch, caplog):
    """In a folder of the caller's then, which is removed with whatever was left in it."""
    made, make = [], tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **options: made.append(make(**options)) or made[-1])
    for name in broken:
        file, call = BROKEN[name]
        changed_jail(file, call, f"raise OSError(1, 'no'); {call}")
    with pytest.raises(SandboxError, match=f"{broken[0]} .*It needs user namespaces"):
        python.run("1")
    assert made == []
    loose = replace(python, timeout_s=1.0, allow_unsandboxed=True)
    assert (
        loose.run("import os\nos.makedirs('a/b'); os.chmod('a', 0); sorted(os.listdir())").text == "['a', 'block.py']\n"
    )
    assert loose.run(ATTACKS["odd names"]).text == "made\n"
    assert loose.run("import time; time.sleep(1000)").status == "timeout"
    assert len(made) == 3
    assert not any(os.path.exists(folder) for folder in made)
    assert all(f"{name} (" in caplog.text for name in broken)


def test_a_block_that_cannot_be_given_a_folder_is_refused_even_where_much_is_allowed(python, changed_jail):
    changed_jail("confine.py", "os.chdir(self.folder)", "raise PermissionError(13, 'denied')")
    with pytest.raises(SandboxError, match=r"a folder of its own \(.*denied\)"):
        replace(python, allow_unsandboxed=True).run("1")


def test_an_interpreter_that_fails_is_named(python, changed_jail):
    changed_jail("confine.py", "order = marshal.load(file)", "raise LookupError('a broken interpreter')")
    with pytest.raises(SandboxError, match=rf"did not start with {sys.executable}: LookupError: a broken interpreter"):
        python.run("1")
