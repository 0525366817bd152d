"""The folders that the runs of a command line will write to, known and checked before the first of them starts."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from grouprl.cli.config.messages import UsageError, first_line
from grouprl.cli.config.saved import read_values
from grouprl.files import make_own, refuse_links
from grouprl.training.records import read_result

_LONGEST_NAME = 255
"""Bytes of a file's name, on all usual file systems."""
_OF_ITS_OWN = "Leave it out for run folders that are named after their overrides, or add ${hydra.job.num}."


def run_folder(job: DictConfig) -> Path:
    """The folder of a single run."""
    return Path(_resolved(job, "hydra.run.dir"))


def sweep_folders(jobs: Sequence[DictConfig]) -> list[Path]:
    """The folder of each job of a sweep, numbered as Hydra numbers them; each job has one of its own."""
    folders = []
    for number, job in enumerate(jobs):
        with read_write(job.hydra), open_dict(job.hydra):
            job.hydra.job.id, job.hydra.job.num = str(number), number
        folders.append(Path(_resolved(job, "hydra.sweep.dir"), _resolved(job, "hydra.sweep.subdir")))
    _refuse_shared(jobs[0], folders)
    return folders


def sweep_folder(job: DictConfig) -> Path:
    """The folder of a sweep, in which its runs have theirs."""
    return Path(_resolved(job, "hydra.sweep.dir"))


def pinned(job: DictConfig) -> list[str]:
    """The override that keeps a sweep's folder the same whenever it is read, where its name holds the time."""
    if "${now:" not in str(_written(job, "hydra.sweep.dir")):
        return []
    value = _resolved(job, "hydra.sweep.dir").replace("'", r"\'")
    return [f"hydra.sweep.dir='{value}'"]


def check_writable(folder: Path, remedy: str = "hydra.run.dir=DIR") -> None:
    """Whether a run's folder can be made; Hydra makes it with a traceback where that is not possible.

    Args:
        folder: The run's.
        remedy: The option that names another one.

    Raises:
        UsageError: It cannot, or something else has its name.
    """
    parent = folder.parent
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise UsageError(f"{folder}: the run folder cannot be made ({error.strerror}). Set {remedy}.") from error


def prepare_folder(folder: Path, job: DictConfig) -> None:
    """See to it that what is written to a folder stays in it, before Hydra writes there.

    Raises:
        FileError: A link leads out of it, or the result or the configuration in it is damaged.
    """
    refuse_links(folder)
    read_result(folder)
    read_values(folder)
    for pattern in (f"{job.hydra.output_subdir}/*.yaml", "*.log"):  # which are written in place
        for file in folder.glob(pattern):
            make_own(file)


def prepare_sweep(job: DictConfig) -> None:
    """See to it that what Hydra writes to a sweep's folder itself stays in it."""
    make_own(Path(_resolved(job, "hydra.sweep.dir"), "multirun.yaml"))


def _resolved(job: DictConfig, key: str) -> str:
    try:
        value = str(OmegaConf.select(job, key, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise UsageError(f"{key}={_written(job, key)}: it cannot be made out ({first_line(error)}).") from error
    if not value.strip() and not key.endswith("subdir"):
        raise UsageError(f"{key}=: it is empty. Name a folder, or leave it out.")
    if any(len(os.fsencode(name)) > _LONGEST_NAME for name in Path(value).parts):
        raise UsageError(f"{key}={_written(job, key)}: a name of more than {_LONGEST_NAME} bytes. {_OF_ITS_OWN}")
    return value


def _written(job: DictConfig, key: str) -> object:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(job, parent)
    return OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[call-overload, index]


def _refuse_shared(job: DictConfig, folders: Sequence[Path]) -> None:
    places = [Path(os.path.realpath(folder)) for folder in folders]
    for number, place in enumerate(places):
        for earlier, other in enumerate(places[:number]):
            if place == other or place in other.parents or other in place.parents:
                inside = "" if place == other else ", one inside the other's"
                raise UsageError(
                    f"hydra.sweep.subdir={_written(job, 'hydra.sweep.subdir')}: jobs {earlier} and {number} would "
                    f"write to one run folder, {folders[number]}{inside}. {_OF_ITS_OWN}"
                )
