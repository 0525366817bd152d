"""Confines its own process, then runs ``block.py`` in it. A script of its own: standard library alone.

``python -I jail.py ORDER REPORT_FD``. The order is JSON (see `grouprl.sampling.tools.sandbox`); what could not be
enforced is written to the report as a JSON list before the block runs. Linux: namespaces, Landlock (landlock.7),
seccomp, rlimits.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import json
import os
import platform
import resource
import signal
import site
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
READ = 0b1101  # execute, read file, read directory
EVERYTHING = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
"""File system rights by Landlock version; from 5 on, device ioctl is one more."""
_BLOCKED = {
    # socket, ptrace, process_vm_readv, process_vm_writev, io_uring_setup, keyctl, bpf, perf_event_open, userfaultfd,
    # unshare, setns, mount, add_key, request_key, open_by_handle_at, memfd_create, memfd_secret
    "x86_64": (0xC000003E, (41, 101, 310, 311, 425, 250, 321, 298, 323, 272, 308, 165, 248, 249, 304, 319, 447)),
    "aarch64": (0xC00000B7, (198, 117, 270, 271, 425, 219, 280, 241, 282, 97, 268, 40, 217, 218, 265, 279, 447)),
}
libc = ctypes.CDLL(None, use_errno=True)


def call(result: int) -> int:
    """The result of a libc call, or OSError."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def leave_namespaces() -> None:
    """No network, and process ids of its own."""
    user = 0 if os.geteuid() == 0 else CLONE_NEWUSER
    call(libc.unshare(user | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNS))


def reveal(paths: list[str]) -> None:
    """Mount what lies in folders that other users may not enter (an interpreter below /root, say) at its place.

    In this mount namespace alone. Nothing else of those folders is there any more.
    """
    if os.geteuid() != 0:
        return
    call(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    closed: dict[str, list[tuple[str, int]]] = {}
    for path in paths:
        above = next((a for a in ancestors(path) if not os.stat(a).st_mode & 0o001), None)
        if above is not None and os.path.exists(path):
            closed.setdefault(above, []).append((path, os.open(path, os.O_PATH)))
    for above, inside in closed.items():
        call(libc.mount(b"tmpfs", above.encode(), b"tmpfs", 0, b"mode=755,size=1m"))
        for path, descriptor in sorted(inside):
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                os.makedirs(path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            call(libc.mount(f"/proc/self/fd/{descriptor}".encode(), path.encode(), None, MS_BIND | MS_REC, None))
            os.close(descriptor)


def ancestors(path: str) -> list[str]:
    """The folders above a path, the root first."""
    found = []
    while (path := os.path.dirname(path)) != "/":
        found.append(path)
    return found[::-1]


def drop_user(uid: int) -> None:
    """Another user than root, whom limits bind and whose processes none else's are."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def limit(order: dict[str, Any]) -> None:
    """Memory, processor time, file size, open files, processes, core dumps."""
    wanted = {
        resource.RLIMIT_AS: order["memory"],
        resource.RLIMIT_CPU: order["cpu"],
        resource.RLIMIT_FSIZE: 16 * 2**20,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: order["processes"],
        resource.RLIMIT_CORE: 0,
    }
    for name, value in wanted.items():
        resource.setrlimit(name, (value, value))


def lock_files(folder: str) -> None:
    """Landlock: read the interpreter, write the folder, nothing else; no TCP."""
    version = call(libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1))
    rights = EVERYTHING.get(min(version, 3), EVERYTHING[3]) | ((1 << 15) if version >= 5 else 0)
    network, scope = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("QQQ", rights, network, scope)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = call(libc.syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0))
    for path, allowed in [*((path, READ) for path in readable()), (folder, rights)]:
        allow(ruleset, path, allowed)
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        allow(ruleset, device, 0b110)
    call(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def allow(ruleset: int, path: str, rights: int) -> None:
    """One Landlock rule; a path that is not there needs none."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights = rights if os.path.isdir(path) else rights & 0b111
        rule = struct.pack("=Qi", rights, descriptor)
        call(libc.syscall(LANDLOCK_ADD_RULE, ruleset, 1, rule, 0))
        os.close(descriptor)


def readable() -> list[str]:
    """The interpreter, its libraries and packages."""
    places = {os.path.dirname(os.__file__), os.path.dirname(os.path.realpath(sys.executable)), *site.getsitepackages()}
    places |= {os.path.join(sys.base_prefix, "lib"), os.path.join(sys.prefix, "pyvenv.cfg")}
    places |= {"/usr/lib", "/lib", "/lib64", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"}
    return sorted(os.path.realpath(place) for place in places)


def block_calls() -> None:
    """Seccomp: no sockets of any family, no looking into other processes, no new namespaces or mounts."""
    if platform.machine() not in _BLOCKED:
        raise OSError(f"no list of system calls for {platform.machine()}")
    architecture, numbers = _BLOCKED[platform.machine()]
    load, jump_equal, give = 0x20, 0x15, 0x06
    deny, permit, kill = 0x50001, 0x7FFF0000, 0x80000000  # EPERM, allow, kill
    program = [(load, 0, 0, 4), (jump_equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    # x86-64's second calling convention (x32) has numbers of its own.
    program += [(0x35, len(numbers) + 1, 0, 0x40000000)] if architecture == 0xC000003E else []
    program += [(jump_equal, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    program += [(give, 0, 0, permit), (give, 0, 0, deny)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    call(libc.prctl(PR_SET_SECCOMP, 2, header, 0, 0))


def attempt(missing: list[str], what: str, step: Callable[[], object]) -> None:
    """Take a step of the confinement; one that cannot be taken is noted."""
    try:
        step()
    except (OSError, ValueError, AttributeError) as error:
        missing.append(f"{what} ({error})")


def confine(order: dict[str, Any]) -> list[str]:
    """Confine this process; what could not be enforced. Returns in a child that is alone in its namespaces."""
    missing: list[str] = []
    attempt(missing, "no network, own process ids (namespaces)", leave_namespaces)
    attempt(missing, "an interpreter that other users may read", lambda: reveal([*readable(), order["folder"]]))
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) % 256)
    attempt(missing, "an unprivileged user", lambda: drop_user(order["uid"]))
    attempt(missing, "dying with its parent", lambda: call(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)))
    attempt(missing, "limits on memory and processes", lambda: limit(order))
    attempt(missing, "no new privileges", lambda: call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
    attempt(missing, "reading and writing its own folder alone (Landlock)", lambda: lock_files(order["folder"]))
    attempt(missing, "no sockets (seccomp)", block_calls)
    return missing


def run_block(path: str) -> None:
    """Run the block; a last line that is an expression prints its value."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), "block.py")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(tree, "block.py", "exec"), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "block.py", "eval"), names)
        if value is not None:
            print(value)


def main() -> None:
    """Confine, report, run."""
    order, report = json.loads(sys.argv[1]), int(sys.argv[2])
    missing = confine(order)
    os.write(report, json.dumps(missing).encode())
    os.close(report)
    if missing and not order["allow_unsandboxed"]:
        os._exit(97)
    code = 0
    try:
        run_block(os.path.join(order["folder"], "block.py"))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:  # noqa: BLE001 - shown to the policy
        print("".join(traceback.format_exception_only(error)).strip().splitlines()[-1])
        code = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
