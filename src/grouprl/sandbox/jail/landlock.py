"""Landlock (``landlock.7``): which files a process may open at all, whatever its file system shows."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable

from grouprl.sandbox.jail.kernel import system_call

READ = 0b1101  # execute, read a file, list a folder
OF_A_FILE = 0b111  # execute, write, read
READ_WRITE = 0b110
VERSION, PATH_BENEATH = 1, 1
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights on files, by the version that came with new ones."""
TCP, OUTSIDE = 0b11, 0b11  # bind and connect (version 4); signals and abstract sockets to the outside (version 6)


def restrict(folder: str, places: Iterable[str], devices: Iterable[str]) -> None:
    """Read ``places``, read and write the folder and ``devices``, nothing else, from here on."""
    version = system_call("landlock_create_ruleset", None, 0, VERSION)
    rights = RIGHTS[max(known for known in RIGHTS if known <= version)]
    attributes = struct.pack("QQQ", rights, TCP, OUTSIDE)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = system_call("landlock_create_ruleset", attributes, len(attributes), 0)
    for path in places:
        allow(ruleset, path, READ)
    for path in devices:
        allow(ruleset, path, READ_WRITE)
    allow(ruleset, folder, rights)
    system_call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def allow(ruleset: int, path: str, rights: int) -> None:
    """One rule; a path that is not there needs none."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights = rights if os.path.isdir(path) else rights & OF_A_FILE
        system_call("landlock_add_rule", ruleset, PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
        os.close(descriptor)
