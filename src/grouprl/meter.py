"""Token means and maxima of what the losses of a PPO epoch measured, over micro-batches, steps and ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from grouprl.batch import LossOutputs


class Meter:
    """Collects `LossOutputs`. Token means are over trained tokens of rows with a signal."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.maxima: dict[str, float] = defaultdict(float)
        self.tokens = 0.0
        self.steps = 0
        self.skipped = 0
        self.norms = 0.0

    def add(self, outputs: LossOutputs, entropy: Tensor) -> None:
        """Take in the outputs of one micro-batch and the entropy of its tokens."""
        for name, value in outputs.token_sums.items():
            self.sums[name] += float(value)
        for name, value in outputs.maxima.items():
            self.maxima[name] = max(self.maxima[name], float(value))
        self.sums["entropy"] += float(entropy.sum())
        self.tokens += float(outputs.tokens)

    def end_step(self, norm: float) -> None:
        """Count an optimizer step, which is the same on all ranks."""
        self.steps += 1
        self.norms += norm

    def skip_step(self) -> None:
        """Count an optimizer step that was not taken."""
        self.skipped += 1

    def over_ranks(self, strategy: Strategy) -> Meter:
        """This meter with the tokens of all ranks."""
        parts, world_size = [self], getattr(strategy, "world_size", 1)
        if world_size > 1:  # and not where a process group is: an engine in this process forms one of its own
            gathered: list[Meter] = [self] * world_size
            torch.distributed.all_gather_object(gathered, self)
            parts = gathered
        total = Meter.sum_of(parts)
        total.steps, total.skipped, total.norms = self.steps, self.skipped, self.norms
        return total

    @classmethod
    def sum_of(cls, meters: Iterable[Meter]) -> Meter:
        """One meter for several epochs."""
        total = cls()
        for meter in meters:
            total.tokens += meter.tokens
            total.steps += meter.steps
            total.skipped += meter.skipped
            total.norms += meter.norms
            for name, value in meter.sums.items():
                total.sums[name] += value
            for name, value in meter.maxima.items():
                total.maxima[name] = max(total.maxima[name], value)
        return total

    def means(self) -> dict[str, float]:
        """Token means and maxima; gradient norm and skipped steps alone where no token was trained on."""
        found = {"grad_norm": self.norms / max(1, self.steps), "skipped_steps": float(self.skipped)}
        if self.tokens:
            found |= {name: value / self.tokens for name, value in self.sums.items()} | self.maxima
        return found
