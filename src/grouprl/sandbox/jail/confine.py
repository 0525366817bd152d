"""From the caller to a confined block in three processes, each the child of the one before.

The *keeper* leaves the caller's namespaces; its child *init* is the first of the block's processes, with whose death
the kernel ends them all (``pid_namespaces.7``); *init*'s child is the *block*, which is confined for good before it
runs a line that a policy wrote. Each dies with its parent, the keeper with the caller.

The order comes over the control socket, a marshalled dictionary (`grouprl.sandbox.process`). Said in answer, a
line each: the process id of *init*, which then waits for a byte; what could not be enforced; `CONFINED`.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from grouprl.sandbox.jail import block, kernel, landlock, limits, namespaces, seccomp, view

CONFINED = "confined"
"""Said last, when the block is about to run."""
LOWER = "lower: "
"""Before a limit that was already lower than asked."""
NOT_STARTED = 97
MOST_DESCRIPTORS = 256
"""The jail opens fewer; the control socket has the number that its caller gave it."""


def main() -> NoReturn:
    """Confine and run; ``sys.argv`` names the folder of the package's source and the control socket's descriptor."""
    source, control = sys.argv[1:]
    sys.path.remove(source)
    with open(int(control), "rb", closefd=False) as file:
        order = marshal.load(file)
    begin_afresh()
    Jail(order, int(control)).keep()


class Jail:
    """What the three processes know, and what each of them does."""

    def __init__(self, order: dict[str, Any], control: int) -> None:
        self.order, self.control = order, control
        self.caller = os.geteuid()
        self.user, self.group = namespaces.outside_id("uid"), namespaces.outside_id("gid")
        self.counted = 2 if self.user == self.caller else 1
        """What the limit on processes counts beside the block's own: *init*, and a keeper of the same user."""
        self.places = view.places()
        self.folder = order["folder"] or view.FOLDER
        self.missing: list[str] = []

    def keep(self) -> NoReturn:
        """The keeper's part: new namespaces, and *init* with its exit code."""
        mapper = namespaces.Mapper(self.user, self.group)
        steps = [self.enter_view, lambda: self.enter_namespaces(mapper)]
        for step in steps if self.caller == 0 else reversed(steps):  # root while it may read everything
            step()
        mapper.end()
        self.attempt("an end with its caller's", lambda: die_unless(lambda: os.getppid() == self.order["caller"]))
        keeper = os.pidfd_open(os.getpid()) if hasattr(os, "pidfd_open") else None
        init = os.fork()
        if init == 0:
            self.begin(keeper)
        self.say(str(init))
        os._exit(exit_code(os.waitpid(init, 0)[1]))

    def enter_view(self) -> None:
        """See nothing of the machine but the interpreter."""
        if self.attempt("a file system of its own (mounts)", lambda: view.enter(self.places, self.user, self.group)):
            self.folder = view.FOLDER

    def enter_namespaces(self, mapper: namespaces.Mapper) -> None:
        """Be a user and have processes and a network of its own."""
        if self.attempt("a user, processes and a network of its own (namespaces)", lambda: namespaces.enter(mapper)):
            self.user = self.group = namespaces.INSIDE

    def begin(self, keeper: int | None) -> NoReturn:
        """*init*'s part: wait until the caller holds it, start the block, and end with it."""
        os.setsid()  # signals to the block's group must not come to the keeper
        self.attempt("an unprivileged user", lambda: namespaces.become(self.user, self.group))
        self.attempt("an end with its keeper's", lambda: die_unless(lambda: not has_ended(keeper)))
        self.attempt("no privileges", kernel.drop_capabilities)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if not os.read(self.control, 1):
            os._exit(NOT_STARTED)
        child = os.fork()
        if child == 0:
            self.run_block()
        ended, status = os.wait()
        while ended != child:
            ended, status = os.wait()
        os._exit(exit_code(status))

    def run_block(self) -> NoReturn:
        """The block's part."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(os.devnull, "rb") as nothing:  # its own, which is read-only
            os.dup2(nothing.fileno(), 0)
        settled = self.attempt("a folder of its own", self.settle)
        self.confine()
        for line in self.missing:
            self.say(line)
        if not settled or (self.missing and not self.order["allow_unsandboxed"]):
            os._exit(NOT_STARTED)
        self.say(CONFINED)
        os.close(self.control)
        forget()
        os._exit(block.run(self.order["code"]))

    def settle(self) -> None:
        """Make the folder the block's home, with its code."""
        os.chdir(self.folder)
        os.environ.update(HOME=self.folder, TMPDIR=self.folder)
        with open(block.NAME, "w", encoding="utf-8", errors="replace") as file:
            file.write(self.order["code"])

    def confine(self) -> None:
        """Limits on what it takes, no way to become more, and a filter on files and on calls."""
        self.attempt("limits on memory and processes", self.limit)
        self.attempt("no new privileges", kernel.refuse_privileges)
        self.attempt(
            "its own files alone (Landlock)", lambda: landlock.restrict(self.folder, self.places, view.DEVICES)
        )
        self.attempt("no sockets, no new namespaces (seccomp)", lambda: seccomp.install(os.uname().machine))

    def limit(self) -> None:
        """Limit, and tell what was lower already."""
        limits.refuse_huge_pages()
        order = self.order
        for lower in limits.restrict(order["memory"], order["cpu"], order["processes"] + self.counted):
            self.say(LOWER + lower)

    def attempt(self, what: str, step: Callable[[], object]) -> bool:
        """Take a step of the confinement; one that cannot be taken is noted."""
        try:
            step()
        except (OSError, ValueError, AttributeError) as error:
            self.missing.append(f"{what} ({error})")
            return False
        return True

    def say(self, line: str) -> None:
        """Tell the caller."""
        os.write(self.control, f"{line}\n".encode())


def begin_afresh() -> None:
    """Undo what a process inherits: which signals are ignored or held back, the mode of new files."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # these two Python ignores itself
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)


def die_unless(parent_lives: Callable[[], bool]) -> None:
    """Have the kernel kill this process when its parent dies, and end here where that has happened."""
    kernel.die_with_parent()
    if not parent_lives():
        os._exit(NOT_STARTED)


def has_ended(process: int | None) -> bool:
    """Whether a process is gone, by a descriptor that is closed: in a namespace of one's own its id says nothing."""
    if process is None:
        return False
    poll = select.poll()
    poll.register(process, select.POLLIN)
    gone = bool(poll.poll(0))
    os.close(process)
    return gone


def exit_code(status: int) -> int:
    """What a process exits with to pass on another's wait status."""
    return os.waitstatus_to_exitcode(status) % 256


def forget() -> None:
    """Leave nothing of the jail for the block to find: descriptors, arguments, modules."""
    os.closerange(3, MOST_DESCRIPTORS)
    sys.argv, sys.orig_argv, sys.dont_write_bytecode = [block.NAME], [sys.executable, block.NAME], True
    for name in [name for name in sys.modules if name.partition(".")[0] == "grouprl"]:
        del sys.modules[name]
