"""Calls of the Linux kernel that Python has no names for."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

from grouprl.sandbox.jail import syscalls

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_THP_DISABLE = 1, 4, 38, 41
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x4000, 0x40000
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE, AT_EMPTY_PATH = -100, 0x8000, 0x1000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4

libc = ctypes.CDLL(None, use_errno=True)
_numbers = syscalls.numbers(os.uname().machine)


def succeed(result: int) -> int:
    """The result of a call, or `OSError`."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def system_call(name: str, *arguments: int | bytes | None) -> int:
    """One of the calls in `syscalls`, by its name."""
    if name not in _numbers:
        raise OSError(errno.ENOSYS, f"no number of {name} for {os.uname().machine}")
    return succeed(libc.syscall(ctypes.c_long(_numbers[name]), *(_word(argument) for argument in arguments)))


def _word(argument: int | bytes | None) -> ctypes.c_long | bytes | None:
    return ctypes.c_long(argument) if isinstance(argument, int) else argument


def mount(kind: bytes | None, target: str, flags: int, options: str = "") -> None:
    """Mount a file system that has no device, or change how a mount spreads."""
    succeed(libc.mount(b"none", os.fsencode(target), kind, ctypes.c_ulong(flags), options.encode()))


def open_tree(path: str) -> int:
    """A descriptor of a copy of what is mounted at a path and below, attached nowhere yet."""
    return system_call("open_tree", AT_FDCWD, os.fsencode(path), OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC)


def move_mount(tree: int, path: str) -> None:
    """Attach what `open_tree` gave, to a folder or file that is there."""
    system_call("move_mount", tree, b"", AT_FDCWD, os.fsencode(path), MOVE_MOUNT_F_EMPTY_PATH)


def set_mount(descriptor: int, attributes: int, *, below: bool = True) -> None:
    """Make what is mounted where a descriptor points read-only, and the like; with all mounts below it, or alone."""
    request = struct.pack("QQQQ", attributes, 0, 0, 0)
    how = AT_EMPTY_PATH | (AT_RECURSIVE if below else 0)
    system_call("mount_setattr", descriptor, b"", how, request, len(request))


def die_with_parent() -> None:
    """Have this process killed when its parent dies; changing user undoes it."""
    succeed(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def refuse_privileges() -> None:
    """Gain nothing by running another program, for good, and leave no image of this one."""
    succeed(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    succeed(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def drop_capabilities() -> None:
    """Give up all that root may do in this process's user namespace."""
    version_3, this_process = 0x20080522, 0
    succeed(libc.capset(struct.pack("Ii", version_3, this_process), bytes(24)))
