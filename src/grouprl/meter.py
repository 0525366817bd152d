"""Token means and maxima of what the losses of one iteration measured, over micro-batches, steps and ranks."""

from __future__ import annotations

from collections import defaultdict

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from grouprl.batch import LossOutputs


class Meter:
    """Collects `LossOutputs` of one iteration. Token means are over trained tokens of rows with a signal."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.maxima: dict[str, float] = defaultdict(float)
        self.tokens = 0.0
        self.steps = 0
        self.norms = 0.0

    def add(self, outputs: LossOutputs, entropy: Tensor) -> None:
        """Take in the outputs of one micro-batch and the entropy of its tokens."""
        for name, value in outputs.token_sums.items():
            self.sums[name] += float(value)
        for name, value in outputs.maxima.items():
            self.maxima[name] = max(self.maxima[name], float(value))
        self.sums["entropy"] += float(entropy.sum())
        self.tokens += float(outputs.tokens)

    def end_step(self, norm: Tensor) -> None:
        """Count an optimizer step."""
        self.steps += 1
        self.norms += float(norm)

    def over_ranks(self, strategy: Strategy) -> Meter:
        """This meter with the tokens of all ranks."""
        parts: list[dict[str, object]] = [vars(self)]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [{} for _ in range(strategy.world_size)]  # type: ignore[attr-defined]
            torch.distributed.all_gather_object(parts, vars(self))
        total = Meter()
        total.steps, total.norms = self.steps, self.norms
        for part in parts:
            total.tokens += part["tokens"]  # type: ignore[operator]
            for name, value in part["sums"].items():  # type: ignore[attr-defined]
                total.sums[name] += value
            for name, value in part["maxima"].items():  # type: ignore[attr-defined]
                total.maxima[name] = max(total.maxima[name], value)
        return total

    def means(self) -> dict[str, float]:
        """Token means and maxima; nothing but the gradient norm where no token was trained on."""
        norm = {"ppo/grad_norm": self.norms / max(1, self.steps)}
        if not self.tokens:
            return norm
        means = {f"ppo/{name}": value / self.tokens for name, value in self.sums.items()}
        return means | {f"ppo/{name}": value for name, value in self.maxima.items()} | norm
