"""Folders in which one process works at a time."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from grouprl.cli.config.messages import UsageError
from grouprl.files import refuse_links
from grouprl.training.records import LOCK_FILE, shown


class FolderError(UsageError):
    """A folder that is somebody else's; nothing in it is touched."""


@contextlib.contextmanager
def alone(folder: Path, option: str = "hydra.run.dir") -> Iterator[None]:
    """Hold a folder, which is made where it is missing: a second process that would write to it is refused.

    Args:
        folder: The folder.
        option: What sets it, for messages.

    Raises:
        FolderError: Another process holds it, or it cannot be written to or locked.
        FileError: A link leads out of it.
    """
    refuse_links(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("a")
    except OSError as error:
        raise FolderError(
            f"{folder}: the folder cannot be written ({error.strerror}). Set {option} to another."
        ) from error
    with lock:
        _hold(lock, folder, option)
        yield


def _hold(lock: TextIO, folder: Path, option: str) -> None:
    """Take the lock; one that only looks whether a process works in the folder has it for an instant."""
    for left in reversed(range(10)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if not left:
                raise FolderError(f"{shown(folder)}: another process is working in this folder.") from error
            time.sleep(0.05)
        except OSError as error:
            text = f"{shown(folder)}: it cannot be locked ({error.strerror}). Set {option} to a local folder."
            raise FolderError(text) from error
