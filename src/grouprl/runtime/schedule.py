"""The learning rate over a run's iterations."""

from __future__ import annotations

from dataclasses import dataclass

from grouprl.checks import say_once


@dataclass(frozen=True)
class WarmupDecay:
    """Share of the peak learning rate in each iteration: a linear rise, then a constant or a linear fall to a tenth."""

    steps: int
    """Iterations of the run, at which the fall ends."""
    warmup_steps: int = 0
    """Iterations of the rise."""
    decay: bool = True
    """Whether the rate falls after it."""

    def __call__(self, iteration: int) -> float:
        """The share in an iteration, counted from 0."""
        if iteration < self.warmup_steps:
            return (iteration + 1) / (self.warmup_steps + 1)
        if not self.decay:
            return 1.0
        return max(0.1, 1 - 0.9 * (iteration - self.warmup_steps) / max(1, self.steps - self.warmup_steps))


def say_what_ends(max_steps: int, steps_of_an_iteration: int) -> None:
    """Say what a Lightning trainer's ``max_steps`` counts, where it is given (-1: it is not)."""
    if max_steps != -1:
        say_once(
            f"Trainer(max_steps={max_steps}) counts optimizer steps, and an iteration has {steps_of_an_iteration}: "
            f"training ends after {-(-max_steps // steps_of_an_iteration)} iterations. Leave it out: "
            "GroupRLModule(steps=N) ends training after N."
        )
