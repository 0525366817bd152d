"""What is shown and kept of a run: progress, metric file, failed rewards, saved policies."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from grouprl.evaluation.heldout import rows_of
from grouprl.files import append, finite, write_parquet
from grouprl.module import GroupRLModule
from grouprl.progress import SILENCE_S, watched
from grouprl.rewards.base import FAILURE_KINDS
from grouprl.runtime.ranks import gathered
from grouprl.training.records import (
    HELDOUT_FOLDER,
    METRICS_FILE,
    heldout_file,
    keep_evaluations,
    keep_metrics,
)

_LONG_S = 300.0
"""Seconds of one evaluation from which it is warned of."""
_log = logging.getLogger(__name__)


class Progress(Callback):
    """A progress bar in a terminal; elsewhere a plain line every ``every`` iterations.

    What is longer than a few seconds tells how many tokens it has done.
    """

    def __init__(self, every: int = 10) -> None:
        self.every, self.bar = every, None
        self.started, self.first, self._warned = 0.0, 0, False
        self._watch: contextlib.ExitStack | None = None
        self._begin("")

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            self._watch = contextlib.ExitStack()
            self._watch.enter_context(watched(self._goes_on))

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if self._watch is not None:
            self._watch.close()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, module, "fit")  # which Lightning leaves out then

    def _begin(self, name: str, most: int = 0) -> None:
        """Something begins, which takes so many tokens at most (0: that is not known)."""
        self._name, self._most, self._work, self._tokens = name, most, "", 0
        self._begun = self._said = self._latest = time.perf_counter()

    def _goes_on(self, work: str, tokens: int) -> None:
        now = time.perf_counter()
        if work != self._work:  # the seconds since the other's last tokens are this one's
            self._work, self._tokens, self._begun = work, 0, self._latest
        self._tokens, self._latest = self._tokens + tokens, now
        if now - self._said < SILENCE_S:
            return
        self._said, done = now, self._tokens
        most = f" of at most {self._most:,}" if self._most and work == "sampling" else ""
        text = f"{self._name}: {work}, {done:,}{most} tokens in {now - self._begun:.0f} s"
        print(f"  {text}", flush=True) if self.bar is None else self.bar.set_description(text)
        longest = (now - self._begun) * self._most / max(done, 1)
        if self._most and work == "sampling" and longest > _LONG_S and not self._warned:
            self._warned = True
            _log.warning(
                "%s: up to %.0f min at this rate, if no completion ends early. Fewer problems (data.heldout_size), "
                "samples (eval_samples) or evaluations (eval_every) take less.",
                *(self._name, longest / 60),
            )

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:  # type: ignore[override]
        assert isinstance(module, GroupRLModule)
        self._begin(f"iteration {module.iteration + 1}")

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        samples = module.final_eval_samples if module.iteration == module.steps else module.eval_samples
        problems = len(getattr(getattr(trainer, "datamodule", None), "heldout_prompts", ()))
        longest = getattr(module.sampler, "max_new_tokens", 0)
        self._begin(f"evaluation after {module.iteration} iterations", problems * (samples + 1) * longest)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        self.started, self.first = time.perf_counter(), module.iteration
        if trainer.is_global_zero and sys.stderr.isatty():
            total = trainer.num_training_batches
            self.bar = tqdm(total=total, initial=self.first, desc="training", unit="it", dynamic_ncols=True)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, GroupRLModule)
        if not trainer.is_global_zero:
            return
        metrics = module.last_metrics
        shown = {
            "reward": f"{metrics['reward']:.3f}",
            "correct": f"{metrics['reward/correct']:.3f}" if "reward/correct" in metrics else "-",
            "length": f"{metrics['completion/length']:.1f}",
            "tok/s": f"{metrics['tokens_per_s']:.0f}",
        }
        if self.bar is not None:
            self.bar.set_description("training", refresh=False)
            self.bar.update()
            self.bar.set_postfix(shown)
            return
        done, total = module.iteration, int(trainer.num_training_batches)
        if done == 1 or done % self.every == 0 or done == total:
            left = (time.perf_counter() - self.started) / (done - self.first) * (total - done)
            text = "  ".join(f"{name} {value}" for name, value in shown.items())
            print(f"iteration {done}/{total}  {text}  left {left:.0f} s", flush=True)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        if not trainer.is_global_zero or module.iteration not in module.evaluations:
            return
        estimates = module.evaluations[module.iteration]
        names = ("pass@1", "greedy", "correct_if_stepped")
        text = "  ".join(f"{name} {estimates[name]}" for name in names)
        line = f"held-out after {module.iteration} iterations: {text}"
        self._begin(f"iteration {module.iteration + 1}")
        print(line, flush=True) if self.bar is None else self.bar.write(line)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class MetricsFile(Callback):
    """Appends each iteration's metrics, and each evaluation with its intervals, to ``metrics.jsonl``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS_FILE

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Drop what an interrupted iteration left behind: each iteration stands in the file once."""
        if trainer.is_global_zero:
            keep_metrics(self.path, checkpoint["grouprl"]["iteration"])

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, GroupRLModule)
        self._write(trainer, {"iteration": module.iteration, **module.last_metrics})

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        estimates = module.evaluations.get(module.iteration)
        if estimates is not None:
            heldout = {f"heldout/{name}": list(estimate) for name, estimate in estimates.items()}
            self._write(trainer, {"iteration": module.iteration, **heldout})

    def _write(self, trainer: L.Trainer, row: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            append(self.path, json.dumps(finite(row), allow_nan=False) + "\n")


class HeldoutFile(Callback):
    """Writes every completion of an evaluation, right or wrong, to ``heldout/iteration-00020.parquet``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / HELDOUT_FOLDER

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Drop what an interrupted run left of later iterations."""
        if trainer.is_global_zero:
            keep_evaluations(self.folder.parent, checkpoint["grouprl"]["iteration"])

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        if trainer.is_global_zero and module.last_evaluation:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_parquet(self.folder / heldout_file(module.iteration), rows_of(module.last_evaluation))


class RewardFailures(Callback):
    """Appends completions that got no reward, on any rank, with the reason to ``reward_failures.jsonl``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "reward_failures.jsonl"
        self.said = False

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, GroupRLModule)
        if not any(module.last_metrics[f"reward/failures/{kind}"] for kind in FAILURE_KINDS):
            return  # on no rank
        rows = [row for part in gathered(_failures(module), trainer.world_size) for row in part]
        if not trainer.is_global_zero:
            return
        append(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        if not self.said:
            first = rows[0]
            _log.warning(
                "%d completions got no reward (%s: %s); see %s",
                *(len(rows), first["kind"], first["reason"], self.path),
            )
            self.said = True


def _failures(module: GroupRLModule) -> list[dict[str, Any]]:
    """This rank's completions of the latest iteration that got no reward."""
    assert module.last_rollouts is not None
    prompts, rollouts, rewards, _advantages = module.last_rollouts
    return [
        {
            "iteration": module.iteration,
            "kind": failure.kind,
            "reason": failure.reason,
            "problem": prompts.problems[failure.prompt],
            "completion": rollouts.completions[failure.prompt][failure.sample],
        }
        for failure in rewards.failures
    ]


class SavePolicy(Callback):
    """Writes the policy as a Hugging Face folder every ``every`` iterations (0: never) under ``policies/``."""

    def __init__(self, folder: Path, every: int = 0) -> None:
        self.folder, self.every = folder, every

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, GroupRLModule)
        if self.every and module.iteration % self.every == 0 and trainer.is_global_zero:
            module.policy.save(self.folder / f"iteration-{module.iteration:05d}")
