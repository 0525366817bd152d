"""Removing a folder that code nobody has read has written in, whatever it left there."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator

_log = logging.getLogger(__name__)
_ROUNDS = 30_000
"""Enough for folders nested that deep, and an end where something goes on writing."""


def remove_tree(folder: str) -> None:
    """Remove a folder and all in it, of any depth, mode and name; follows no link and never raises.

    Folders in folders are lifted to the top, one level a round, so that neither paths nor open descriptors grow. What
    may not be removed (an immutable file, say) stays, and is logged.
    """
    with contextlib.suppress(OSError), _opened(folder) as top:
        for _ in range(_ROUNDS):
            names = os.listdir(top)
            if not names or not sum(_remove(name, top) for name in names):
                break
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("%s: what a tool left there could not be removed (%s); remove it by hand.", folder, error.strerror)


def _remove(name: str, top: int) -> bool:
    """Remove an entry, or lift the folders in it to the top; whether something came of it."""
    try:
        os.unlink(name, dir_fd=top)
        return True
    except OSError:  # a folder, mostly
        pass
    moved = False
    with contextlib.suppress(OSError):
        with _opened(name, top) as folder:
            for inner in os.listdir(folder):
                moved |= _lift(inner, folder, top)
        os.rmdir(name, dir_fd=top)
        moved = True
    return moved


def _lift(name: str, folder: int, top: int) -> bool:
    """Remove an entry, or move it to the top."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
        return True
    with contextlib.suppress(OSError):
        _unlock(name, folder)  # its entry ".." changes
        os.rename(name, f"lifted-{secrets.token_hex(8)}", src_dir_fd=folder, dst_dir_fd=top)
        return True
    return False


@contextlib.contextmanager
def _opened(name: str, parent: int | None = None) -> Iterator[int]:
    """A descriptor of a folder, of which everything is allowed from then on."""
    with contextlib.suppress(OSError):
        _unlock(name, parent)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unlock(name: str, parent: int | None) -> None:
    """Allow everything of a folder, and of nothing that a link leads to."""
    if not hasattr(os, "O_PATH"):  # elsewhere than on Linux chmod can be told so
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        return
    entry = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{entry}", 0o700)
    finally:
        os.close(entry)
