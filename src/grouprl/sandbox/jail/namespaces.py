"""Namespaces (``namespaces.7``): a user, processes, a network and a host name of the block's own."""

from __future__ import annotations

import os

from grouprl.sandbox.jail.kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    libc,
    succeed,
)

INSIDE = 1_000
"""User and group of every block, as it sees them itself."""
HOST = b"sandbox"
FEWEST = 1_000
"""Ids that must be there for a block to be given one of its own."""
MOST = 2**31
"""Programs that show ids print higher ones as negative numbers."""


def outside_id(kind: str) -> int:
    """The user (``kind`` "uid") or group ("gid") that a block has outside of its namespace.

    Under root one that nothing else runs as: counted down from the highest of this machine by this process's id, which
    no other living process has. Otherwise the caller's.
    """
    own = os.geteuid() if kind == "uid" else os.getegid()
    if os.geteuid() != 0 or not os.path.exists(known := f"/proc/self/{kind}_map"):
        return own
    with open(known, encoding="ascii") as file:
        first, _, count = max((tuple(map(int, line.split())) for line in file), key=lambda extent: extent[2])
    count = min(count, MOST - first)
    return first + count - 2 - os.getpid() % (count // 2) if count >= FEWEST else own


class Mapper:
    """A child that stays outside, and maps the users of the namespace that this process enters later."""

    def __init__(self, user: int, group: int) -> None:
        self.stranger = user != os.geteuid()
        waiting, self._tell = os.pipe()
        enters = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._tell)
            os._exit(_write_maps(enters, user, group) if os.read(waiting, 1) else 0)
        os.close(waiting)

    def map(self) -> None:
        """Have the maps written."""
        os.write(self._tell, b".")
        error = self.end()
        if error:
            raise OSError(error, os.strerror(error))

    def end(self) -> int:
        """Let the child go; the number of the error that it met, or 0."""
        if not self._child:
            return 0
        os.close(self._tell)
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        return os.waitstatus_to_exitcode(status)


def _write_maps(process: int, user: int, group: int) -> int:
    try:
        for name, line in [
            ("setgroups", "deny"),
            ("gid_map", f"{INSIDE} {group} 1"),
            ("uid_map", f"{INSIDE} {user} 1"),
        ]:
            with open(f"/proc/{process}/{name}", "w", encoding="ascii") as file:
                file.write(line)
    except OSError as error:
        return error.errno or 1
    return 0


def enter(mapper: Mapper) -> None:
    """Leave the caller's namespaces; this process's children are wholly in the new ones."""
    if mapper.stranger:
        os.setgroups([])
    succeed(libc.unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS))
    mapper.map()
    succeed(libc.sethostname(HOST, len(HOST)))


def become(user: int, group: int) -> None:
    """Be that user from here on, with all its ids."""
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
