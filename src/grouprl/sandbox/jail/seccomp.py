"""The filter of system calls (seccomp, ``linux/filter.h``): a small program that the kernel runs before each call."""

from __future__ import annotations

import ctypes
import errno
import struct

from grouprl.sandbox.jail import syscalls
from grouprl.sandbox.jail.kernel import libc, succeed

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_ABOVE, JUMP_BITS, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # where they stand in struct seccomp_data

Line = tuple[int, int, int, int]
"""An instruction: its code, how many lines to jump where true and where false, its constant."""


def install(machine: str) -> None:
    """Refuse the calls of `syscalls` from here on, in this process and all it starts."""
    lines = program(machine)
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(buffer))
    succeed(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0))


def program(machine: str) -> list[Line]:
    """The filter for a machine; `OSError` where its calls are not known here."""
    if machine not in syscalls.ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    number = syscalls.numbers(machine)
    refused = [number[name] for table in syscalls.REFUSED.values() for name in table if name in number]
    lines: list[Line] = [
        (LOAD, 0, 0, ARCHITECTURE),
        # 32-bit programs have numbers of their own; so has x86-64's second convention, x32, above a high bit.
        *when_not(syscalls.ARCHITECTURES[machine], KILL),
        (LOAD, 0, 0, NUMBER),
        *when_above(syscalls.LAST_KNOWN, ERROR | errno.ENOSYS),
    ]
    for name in syscalls.UNKNOWN:
        lines += when(number[name], ERROR | errno.ENOSYS)
    for value in refused:
        lines += when(value, ERROR | errno.EPERM)
    for name, (_, place, test, values) in syscalls.REFUSED_ARGUMENTS.items():
        tests = [line for value in values for line in TESTS[test](value, ERROR | errno.EPERM)]
        lines += with_argument(number[name], place, tests)
    return [*lines, (RETURN, 0, 0, ALLOW)]


def when(value: int, verdict: int) -> list[Line]:
    """A verdict where the loaded word is a value."""
    return [(JUMP_EQUAL, 0, 1, value), (RETURN, 0, 0, verdict)]


def when_not(value: int, verdict: int) -> list[Line]:
    """A verdict where the loaded word is another value."""
    return [(JUMP_EQUAL, 1, 0, value), (RETURN, 0, 0, verdict)]


def when_above(value: int, verdict: int) -> list[Line]:
    """A verdict where the loaded word is above a value."""
    return [(JUMP_ABOVE, 0, 1, value), (RETURN, 0, 0, verdict)]


def when_any(bits: int, verdict: int) -> list[Line]:
    """A verdict where the loaded word has any of some bits."""
    return [(JUMP_BITS, 0, 1, bits), (RETURN, 0, 0, verdict)]


TESTS = {syscalls.IS: when, syscalls.IS_NOT: when_not, syscalls.HAS: when_any}


def with_argument(number: int, place: int, tests: list[Line]) -> list[Line]:
    """Tests of the low word of one call's argument; all else passes by."""
    load = [(LOAD, 0, 0, ARGUMENTS + 8 * place), *tests, (LOAD, 0, 0, NUMBER)]
    return [(JUMP_EQUAL, 0, len(load), number), *load]
