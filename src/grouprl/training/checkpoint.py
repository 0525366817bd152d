"""Checkpoints from which a run goes on exactly: written at iteration boundaries, atomically, kept to a bound.

A checkpoint holds the trained weights (the adapter alone under LoRA), optimizer, schedule, random states of every
rank, Lightning's loop counters, and the run's own counters. Prompts, sampling and the order of minibatches are
functions of (seed, iteration), so that a run repeats an interrupted iteration from its start, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from grouprl.checks import say_once
from grouprl.files import FileError, Shape, check_shape
from grouprl.module import GroupRLModule
from grouprl.runtime.ranks import gathered
from grouprl.training.stopping import GracefulStop

FOLDER = "checkpoints"
FORMAT = 2
_SHARE, _GRACE_S = 0.05, 1.0
"""Of a run's time, and seconds beside, that go into checkpoints where the user gives no rhythm."""
_ROOM = 1.2
"""Of a checkpoint's size, what has to be free."""
_LARGE_BYTES = 100_000_000
_REMEDY = "It is no whole checkpoint"
_SHAPE: Shape = {
    **{"state_dict": dict, "optimizer_states": list, "lr_schedulers": list, "loops": dict},
    **{"global_step": int, "epoch": int, "pytorch-lightning_version": str, "PromptDataModule": dict},
}
_OWN_SHAPE: Shape = {
    **{"threads": int, "random": list, "skipped_in_a_row": int, "evaluations": dict, "limits?": dict},
    **{"frozen": list},
}
_RANDOM_SHAPE = {"torch": torch.Tensor, "cuda": list, "numpy": list, "python": list}
_NAME = re.compile(r"iteration-(\d+)\.ckpt")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The text names its path and what is wrong."""


class Checkpoints(Callback):
    """Saves a checkpoint every ``every`` iterations, after an evaluation that is due, and when a run is stopped."""

    def __init__(
        self,
        folder: Path,
        stop: GracefulStop | None = None,
        *,
        config_hash: str = "",
        every: int | None = 1,
        keep: int = 2,
        eval_every: int = 0,
    ) -> None:
        """Set the schedule.

        Args:
            folder: Run folder; checkpoints go to ``checkpoints/`` in it.
            stop: Callback that says when a run is stopped; it has to come first among the callbacks.
            config_hash: Hash of the run's configuration: a checkpoint of another one is refused.
            every: Iterations between checkpoints, 0: none; None: as often as takes about 5% of the time, and after the
                last, where the disk has room.
            keep: Newest checkpoints to keep.
            eval_every: Iterations between evaluations, after which a checkpoint waits; 0: none.
        """
        self.folder, self.config_hash = folder / FOLDER, config_hash
        self.stop, self.every, self.keep, self.eval_every = stop, every, keep, eval_every
        self._to_restore: dict[str, Any] | None = None
        self._started, self._spent, self._latest, self._bytes = time.perf_counter(), 0.0, 0.0, 0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, GroupRLModule)
        if not (self.eval_every and module.iteration % self.eval_every == 0):
            self._save_if_due(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        if trainer.state.fn == "fit" and module.iteration:
            self._save_if_due(trainer, module)

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["grouprl"] = checkpoint.get("grouprl", {}) | {
            "format": FORMAT,
            "threads": torch.get_num_threads(),
            "config_hash": self.config_hash,
            "random": gathered(random_state(), trainer.world_size),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        states = checkpoint["grouprl"]["random"]
        if len(states) != trainer.world_size:
            raise CheckpointError(
                f"The checkpoint was written by {len(states)} processes, this run has {trainer.world_size}. "
                f"Set trainer.devices={len(states)}."
            )
        self._to_restore = states[trainer.global_rank]
        # A run that is given more steps is not at its last batch any more.
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False
        threads = checkpoint["grouprl"]["threads"]
        if threads != torch.get_num_threads():
            rank_zero_warn(
                f"The run was started with {threads} threads and goes on with {torch.get_num_threads()}: sums are made "
                f"in another order, so that it is not repeated bit for bit. Set OMP_NUM_THREADS={threads}."
            )

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        self._started, self._spent = time.perf_counter(), 0.0
        self._bytes = 3 * sum(p.numel() * p.element_size() for p in module.trained_parameters())  # with Adam's state
        if trainer.is_global_zero:
            for unfinished in self.folder.glob(".iteration-*.tmp"):
                unfinished.unlink(missing_ok=True)

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:  # type: ignore[override]
        # Not earlier: setting up the data loaders draws from the global generator.
        if self._to_restore is not None:
            try:
                restore_random_state(self._to_restore)
            except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(f"{trainer.ckpt_path}: its random states are none ({error}).") from error
            self._to_restore = None

    def _save_if_due(self, trainer: L.Trainer, module: GroupRLModule) -> None:
        last = self.stop is not None and self.stop.decided
        due = (
            self._has_time(trainer, module) if self.every is None else self.every and not module.iteration % self.every
        )
        if due or (last and self.every != 0 and (self.every is not None or self._has_room(trainer))):
            started = time.perf_counter()
            path = self.save(trainer, module.iteration)
            self._latest = time.perf_counter() - started
            self._say_what_one_takes(trainer, path)
            self._spent += self._latest

    def _has_time(self, trainer: L.Trainer, module: GroupRLModule) -> bool:
        """Whether one more takes no more than a small share of the time: as the first rank's clock and disk say."""
        allowed = _GRACE_S + _SHARE * (time.perf_counter() - self._started)
        due = module.iteration >= module.steps or self._spent + self._latest <= allowed
        return bool(trainer.strategy.broadcast(due)) and self._has_room(trainer)

    def _has_room(self, trainer: L.Trainer) -> bool:
        """Whether the first rank's disk holds one more."""
        fits = True
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            fits = shutil.disk_usage(self.folder).free > _ROOM * self._bytes
            if not fits:
                say_once(
                    f"{self.folder}: no checkpoint is written, since less is free than the {self._bytes / 1e9:.1f} GB "
                    "that one takes. Make room, or give hydra.run.dir=DIR on another disk."
                )
        return bool(trainer.strategy.broadcast(fits))

    def _say_what_one_takes(self, trainer: L.Trainer, path: Path) -> None:
        """What a large checkpoint takes, after the first."""
        if not trainer.is_global_zero or self._spent:
            return
        self._bytes = path.stat().st_size
        if self._bytes > _LARGE_BYTES:
            rhythm = f"after every {self.every} iterations (checkpoint_every)"
            if self.every is None:
                rhythm = f"about {_SHARE:.0%} of the time goes into them; checkpoint_every=N gives another rhythm"
            print(
                f"checkpoints: {self._bytes / 1e9:.1f} GB each, written in {self._latest:.1f} s. {rhythm}", flush=True
            )

    def save(self, trainer: L.Trainer, iteration: int) -> Path:
        """Write one checkpoint: to a temporary file, to the disk, then under its name. Older ones go afterwards."""
        path = self.folder / f"iteration-{iteration:06d}.ckpt"
        temporary = self.folder / f".{path.name}.tmp"
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                _sync(temporary)
                temporary.replace(path)
                _sync(self.folder)
                for old in find_checkpoints(self.folder)[: -self.keep or None]:
                    old.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if not trainer.is_global_zero:
                raise  # it waited for the first, which says why
            kept = find_checkpoints(self.folder)
            still = f"The previous one, {kept[-1]}, stands" if kept else "There is none before it"
            raise CheckpointError(f"{path}: cannot be written ({error}). {still}.") from error
        return path


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first; unfinished files do not count."""
    return sorted(path for path in folder.glob("iteration-*.ckpt") if _NAME.fullmatch(path.name))


def iteration_of(path: Path) -> int:
    """The iteration a checkpoint was taken after, from its name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path}: not named like a checkpoint (iteration-000010.ckpt).")
    return int(match.group(1))


def newest_checkpoint(run: Path, config_hash: str, *, fall_back: bool = False) -> Path | None:
    """The newest checkpoint of a run, verified; None where there is none.

    Args:
        run: Run folder.
        config_hash: Hash that the checkpoint must carry.
        fall_back: Take the newest good one where newer ones are damaged, instead of refusing.
    """
    refused: CheckpointError | None = None
    for path in reversed(find_checkpoints(run / FOLDER)):
        try:
            _check_parts(_verified(path, config_hash), path)
        except CheckpointError as error:
            if not fall_back:
                raise
            refused = error
        else:
            return path
    if refused:
        raise refused
    return None


def verify(path: Path, config_hash: str) -> int:
    """Check every byte of a checkpoint and whose it is; the iteration it was taken after."""
    return _verified(path, config_hash)["grouprl"]["iteration"]


def _verified(path: Path, config_hash: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{path}: damaged: the checksum of its record {damaged} is wrong.")
        content = read(path)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: damaged, or no checkpoint ({type(error).__name__}: {error}).") from error
    saved = content.get("grouprl") if isinstance(content, dict) else None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise CheckpointError(f"{path}: no checkpoint of this version of grouprl.")
    _check_shape(saved, {"config_hash": str, "iteration": int}, path)
    if saved["config_hash"] != config_hash:
        raise CheckpointError(f"{path}: belongs to a run with another configuration.")
    return content


def _check_parts(content: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint that lacks what a run goes on with; a missing part would else begin anew unnoticed."""
    _check_shape(content, _SHAPE, path)
    for name in ("optimizer_states", "lr_schedulers"):
        if len(content[name]) != 1:
            raise CheckpointError(f"{path}: it holds {len(content[name])} {name}, and a run has one. {_REMEDY}.")
    _check_shape(content["PromptDataModule"], {"iteration": int}, path)
    _check_shape(content["grouprl"], _OWN_SHAPE, path)
    if not content["grouprl"]["random"]:
        raise CheckpointError(f"{path}: it holds no random states. {_REMEDY}.")
    for state in content["grouprl"]["random"]:
        _check_shape(state, _RANDOM_SHAPE, path)


def _check_shape(value: Any, shape: Shape, path: Path) -> dict[str, Any]:
    try:
        return check_shape(value, shape, str(path), remedy=_REMEDY)
    except FileError as error:
        raise CheckpointError(str(error)) from error


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors, numbers, texts. Nothing in it is executed."""
    return torch.load(path, map_location="cpu", weights_only=True)


def random_state() -> dict[str, Any]:
    """States of the global generators, as tensors and plain lists."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the global generators."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
