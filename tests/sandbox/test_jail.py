"""What confines a block, in its parts: the filter of calls, the view of files, the removal of what is left."""

import errno
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from grouprl.sandbox.jail import namespaces, seccomp, syscalls, view
from grouprl.sandbox.removal import remove_tree

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
EPERM, ENOSYS = seccomp.ERROR | errno.EPERM, seccomp.ERROR | errno.ENOSYS


def header_numbers(machine):
    """Numbers of system calls by name, from the kernel's header; names that stand for others are followed."""
    text = HEADERS[machine].read_text()
    found = dict(re.findall(r"#define (__NR(?:3264)?_\w+)\s+(\w+)", text))
    return {
        name.removeprefix("__NR_"): int(found.get(value, value))
        for name, value in found.items()
        if name.startswith("__NR_") and found.get(value, value).isdigit()
    }


@pytest.mark.parametrize("machine", syscalls.ARCHITECTURES)
def test_numbers_of_calls_are_the_kernels(machine):
    if not HEADERS[machine].exists():
        pytest.skip("no headers of the kernel on this machine")
    known = header_numbers(machine)
    ours = syscalls.numbers(machine)
    assert ours == {name: known[name] for name in ours}
    # a call that has no number here has none there
    assert not {name for table in syscalls.REFUSED.values() for name in table if name not in ours and name in known}


def verdict(machine, number, *arguments, architecture=None):
    """What the filter says to a call: classic BPF (``linux/filter.h``), as the kernel runs it."""
    arguments = [*arguments, *[0] * (6 - len(arguments))]
    architecture = syscalls.ARCHITECTURES[machine] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(a % 2**64 for a in arguments))
    program, line, word = seccomp.program(machine), 0, 0
    for code, yes, no, value in iter(lambda: program[line], None):
        line += 1
        if code == 0x20:
            (word,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return value
        else:
            line += yes if {0x15: word == value, 0x25: word > value, 0x45: bool(word & value)}[code] else no


@pytest.mark.parametrize("machine", syscalls.ARCHITECTURES)
def test_verdicts_of_the_filter(machine):
    number = syscalls.numbers(machine)
    refused = [name for table in syscalls.REFUSED.values() for name in table if name in number]
    assert len(refused) > 90
    assert {verdict(machine, number[name]) for name in refused} == {EPERM}
    clone, sigchld, threads = number["clone"], 17, 0x3D0F00
    assert verdict(machine, clone, sigchld) == verdict(machine, clone, threads) == seccomp.ALLOW
    spaces = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
    assert {verdict(machine, clone, flag | sigchld) for flag in spaces} == {EPERM}
    assert verdict(machine, number["clone3"]) == ENOSYS
    assert verdict(machine, number["fcntl"], 1, 1031, 2**20) == EPERM
    assert verdict(machine, number["fcntl"], 1031, 3, 1031) == seccomp.ALLOW  # the place of the argument counts
    assert verdict(machine, number["socketpair"], 1, 1) == seccomp.ALLOW
    assert verdict(machine, number["socketpair"], 2, 1) == EPERM
    assert verdict(machine, number["prctl"], 41) == EPERM
    assert verdict(machine, number["prctl"], 15) == seccomp.ALLOW
    read, write = {"x86_64": (0, 1), "aarch64": (63, 64)}[machine]
    assert verdict(machine, read) == verdict(machine, write) == seccomp.ALLOW


@pytest.mark.parametrize("machine", syscalls.ARCHITECTURES)
def test_calls_that_are_newer_or_of_another_convention(machine):
    assert {verdict(machine, number) for number in (451, 452, 463, 469, 600, 0x40000000, 0x40000029, 2**32 - 1)} == {
        ENOSYS
    }
    others = (0x40000003, 0x40000028, 0xC00000B7 if machine == "x86_64" else 0xC000003E, 0)
    assert {verdict(machine, 39, architecture=other) for other in others} == {seccomp.KILL}


def test_a_machine_without_a_list_of_calls_is_refused():
    with pytest.raises(OSError, match="no list of system calls for riscv64"):
        seccomp.program("riscv64")


def test_links_on_the_way_to_a_place(tmp_path):
    root = os.path.realpath(tmp_path)
    os.makedirs(f"{root}/real/deep")
    os.symlink("real", f"{root}/near")
    os.symlink(f"{root}/near/deep", f"{root}/far")
    os.symlink("../real/../far", f"{root}/real/round")
    assert view.links_on_the_way(f"{root}/real/deep") == {}
    assert view.links_on_the_way(f"{root}/near/deep") == {f"{root}/near": "real"}
    assert view.links_on_the_way(f"{root}/near/round") == {
        f"{root}/near": "real",
        f"{root}/real/round": "../real/../far",
        f"{root}/far": f"{root}/near/deep",
    }


def test_places_that_lie_in_others_are_shown_once():
    paths = ["/usr/lib", "/usr/lib64", "/usr/lib/python3", "/usr/lib-x", "/usr/lib", "/a/b/c", "/a/b"]
    assert view.outermost(paths) == ["/a/b", "/usr/lib", "/usr/lib-x", "/usr/lib64"]


def nested(folder, depth):
    """Make folders in folders, without ever naming a long path."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)


@pytest.fixture
def hostile():
    """A folder in memory where that can be had: on a disk 20,000 folders take long."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    yield folder
    remove_tree(folder)


@pytest.mark.parametrize("depth", [1_500, 20_000])
def test_deep_folders_are_removed(hostile, depth):
    nested(hostile, depth)
    remove_tree(hostile)
    assert not os.path.exists(hostile)


def test_whatever_its_mode_and_name_a_folder_is_removed(hostile, tmp_path):
    (tmp_path / "kept").touch()
    tmp_path.chmod(0o755)
    os.makedirs(f"{hostile}/a/b")
    Path(f"{hostile}/a/b/file").touch()
    for name in (b"\xff\xfe", b"\n", b"-rf", b"*", b"x" * 255):
        os.mkdir(os.fsencode(hostile) + b"/" + name)
    os.mkfifo(f"{hostile}/a/fifo")
    for place in (hostile, f"{hostile}/a", f"{hostile}/a/b"):
        os.symlink(tmp_path, f"{place}/link")
        os.symlink("link", f"{place}/lifted")
    for folder in (f"{hostile}/a/b", f"{hostile}/a", hostile):
        os.chmod(folder, 0)
    remove_tree(hostile)
    assert not os.path.lexists(hostile)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").touch()
    os.symlink(tmp_path / "target", tmp_path / "link")
    remove_tree(str(tmp_path / "link"))
    assert (tmp_path / "target" / "kept").exists()


@pytest.mark.slow
def test_removal_ends_beside_a_process_that_goes_on_writing(hostile):
    code = (
        "import os, sys\nprint('.', flush=True)\nwhile True:\n    for n in range(50):\n"
        "        try: os.makedirs(f'{sys.argv[1]}/a{n}/b'); open(f'{sys.argv[1]}/a{n}/b/c', 'w').close()\n"
        "        except OSError: pass"
    )
    with subprocess.Popen([sys.executable, "-c", code, hostile], stdout=subprocess.PIPE) as writer:
        writer.stdout.read(1)
        remove_tree(hostile)
        writer.kill()


def test_what_cannot_be_removed_is_said(hostile, monkeypatch, caplog):
    Path(hostile, "immutable").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda *args, **options: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
        remove_tree(hostile)
    assert os.path.exists(hostile)
    assert f"{hostile}: what a tool left there could not be removed" in caplog.text


def test_root_gives_a_block_an_id_that_nothing_else_has(monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    first, second = (outside_id_of(pid, monkeypatch) for pid in (4242, 4243))
    assert first - second == 1
    assert 60_000 < second < first < 2**31
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert namespaces.outside_id("uid") == 1234


def outside_id_of(pid, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: pid)
    return namespaces.outside_id("uid")
