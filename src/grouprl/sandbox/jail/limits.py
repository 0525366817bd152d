"""Limits of a process (``setrlimit.2``) and of the folder of a block."""

from __future__ import annotations

import errno
import resource

from grouprl.sandbox.jail.kernel import PR_SET_THP_DISABLE, libc, succeed

MEBIBYTE = 2**20
FOLDER_BYTES = 64 * MEBIBYTE
FOLDER_FILES = 4_096
"""Files and folders together."""
FILE_BYTES = 16 * MEBIBYTE
OPEN_FILES = 64
QUEUED_SIGNALS = 64
"""Timers count among them."""
NO_CORE = 1
"""Bytes; at 0 a crash would still be given to a program that the machine has for crashes (``core.5``)."""


def restrict(memory: int, cpu: int, processes: int) -> list[str]:
    """Limit this process and all it starts; which limits the machine already had lower.

    Args:
        memory: Bytes of a process.
        cpu: Seconds of processor time of a process.
        processes: How many may run at once in the user namespace.
    """
    wanted = {
        "memory": (resource.RLIMIT_AS, memory),
        "processor time": (resource.RLIMIT_CPU, cpu),
        "file size": (resource.RLIMIT_FSIZE, FILE_BYTES),
        "open files": (resource.RLIMIT_NOFILE, OPEN_FILES),
        "processes with the sandbox's own": (resource.RLIMIT_NPROC, processes),
        "core dumps": (resource.RLIMIT_CORE, NO_CORE),
        "locked memory": (resource.RLIMIT_MEMLOCK, 0),
    }
    if hasattr(resource, "RLIMIT_SIGPENDING"):  # Linux
        wanted["queued signals"] = (resource.RLIMIT_SIGPENDING, QUEUED_SIGNALS)
    lower = []
    for name, (kind, value) in wanted.items():
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY and most < value:
            lower += [f"{name} {most} instead of {value}"] if value != NO_CORE else []
        least = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (least, least))
    return lower


def refuse_huge_pages() -> None:
    """Have memory in small pages: of a huge page a corner keeps the whole, and only the corner is counted."""
    try:
        succeed(libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel that has none
            raise
