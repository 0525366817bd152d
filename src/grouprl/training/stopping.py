"""Stopping on a signal: finish the iteration if time allows, save, and leave with the signal's exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from grouprl.module import GroupRLModule
from grouprl.progress import watched
from grouprl.runtime.ranks import gathered
from grouprl.training import signals


class _Left(Exception):
    """An evaluation was left where it was."""


class GracefulStop(Callback):
    """A signal finishes the iteration and stops; a second one, or the end of the grace, stops at once."""

    def __init__(self, grace_s: float = 0.0) -> None:
        """Give the iteration under way some time.

        Args:
            grace_s: Seconds after which the process ends all the same; 0: no limit.
        """
        self.grace_s = grace_s
        self.signal: int | None = None
        self.decided = False
        """Whether this iteration is the last."""
        self.on_giving_up: Callable[[], None] = lambda: None
        """Called before the process ends because the grace is over."""
        self._leaves, self._ends = False, "iteration"
        """Whether what goes on is left where it is, or else what is finished first."""

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal's number."""
        return 0 if self.signal is None else 128 + self.signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals while the context lasts."""
        with signals.handled(self._handle):
            yield

    def validate(self, trainer: L.Trainer, module: GroupRLModule, data: L.LightningDataModule) -> None:
        """Evaluate before or after training; a signal leaves the evaluation, which is made anew when the run goes on.

        Several ranks finish it: each is signalled at another place.
        """

        def leave(_work: str, _tokens: int) -> None:
            if self.signal is not None:
                raise _Left

        self._leaves = trainer.world_size == 1
        with contextlib.suppress(_Left), watched(leave) if self._leaves else contextlib.nullcontext():
            trainer.validate(module, datamodule=data, verbose=False)
        self._leaves, self._ends = False, "iteration"

    def _handle(self, number: int, _frame: Any) -> None:
        signals.note(number)
        if self.signal is not None:
            if number == signal.SIGHUP:  # which the shell and the terminal both send
                return
            # Not by an exception, which Lightning would turn into an exit of its own.
            self._leave("stopping at once; the checkpoint before stands")
        self.signal = number
        limit = f" or {self.grace_s:g} s" if self.grace_s else ""
        when = "leaving the evaluation" if self._leaves else f"stopping after this {self._ends}{limit}"
        print(f"\n{when} (once more to stop at once)", file=sys.stderr, flush=True)
        if self.grace_s:
            timer = threading.Timer(self.grace_s, self._give_up)
            timer.daemon = True
            timer.start()

    def _give_up(self) -> None:
        self._leave(f"the iteration did not end within stop_grace_s={self.grace_s:g}: stopping now")

    def _leave(self, why: str) -> None:
        print(why, file=sys.stderr)
        self.on_giving_up()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.exit_code)

    def agree(self, trainer: L.Trainer) -> None:
        """Take a signal that has reached any rank for one that has reached this one, so that all take one way.

        Before Lightning has started the other ranks there are none to agree with.
        """
        if trainer.world_size > 1 and torch.distributed.is_initialized():
            self.signal = next(filter(None, gathered(self.signal, trainer.world_size)), None)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._listen_again()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._listen_again()
        self._ends = "evaluation"

    def _listen_again(self) -> None:
        # Lightning puts a SIGTERM handler of its own in place.
        for number in (signal.SIGTERM, signal.SIGINT):
            if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._decide(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._ends = "iteration"
        self._decide(trainer, module)

    def _decide(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop after this iteration if any rank was signalled: all ranks leave at the same one.

        Not by ``trainer.should_stop``, for which Lightning would run an evaluation that the schedule does not have.
        """
        number = torch.tensor(float(self.signal or 0), device=trainer.strategy.root_device)
        number = trainer.strategy.reduce(number, reduce_op="max")  # type: ignore[assignment]
        if number > 0:
            self.decided, self.signal = True, self.signal or int(number)
            assert isinstance(module, GroupRLModule)
            module.stop_requested = True
