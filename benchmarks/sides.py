"""What both sides of the comparison have: a training loop that runs one RL iteration at a time, its phases timed."""

from __future__ import annotations

import logging
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from workload import Clock, Size, completion_lengths

LR, CLIP_NORM, LORA_RANK, LORA_ALPHA = 1e-6, 1.0, 16, 32


@dataclass(frozen=True)
class Setting:
    """What is varied beside the size."""

    beta: float = 0.0
    lora: bool = False
    device: str = "cpu"
    bf16: bool = False
    """bfloat16 arithmetic over float32 weights (autocast), on both sides; else float32."""
    attention: str = "sdpa"
    """TRL's; grouprl calls torch's scaled_dot_product_attention itself."""
    micro_batch_size: int = 0
    """Sequences of a forward and backward pass; 0: all of a step."""
    checkpointing: bool = False
    """Gradient checkpointing, on both sides."""
    graphs: bool = True
    """grouprl's decode steps as CUDA graphs, on a GPU."""
    compiled: bool = False
    """grouprl's layers compiled for training."""
    compact_head: bool = False
    """Let TRL's fused head score completions alone, as it does with Triton; without Triton it scores prompts too."""
    wall: bool = False
    """Seconds of the clock on the wall, not CPU seconds. Always so on a GPU."""


class Turns:
    """A loop in a thread of its own that stops after each iteration until it is told to go on.

    Both libraries own their loop; so one of them rests while an iteration of the other is timed.
    """

    def __init__(self, loop: Callable[[], object]) -> None:
        self._go, self._done, self._error = threading.Semaphore(0), threading.Semaphore(0), None
        self._ending = False

        def run() -> None:
            self._go.acquire()
            try:
                loop()
            except _EndError:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again in `iterate`
                self._error = error
            self._done.release()

        threading.Thread(target=run, daemon=True).start()

    def iterate(self) -> None:
        """Let the loop do one iteration."""
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def rest(self) -> None:
        """Called by the loop between iterations."""
        self._done.release()
        self._go.acquire()
        if self._ending:
            raise _EndError

    def end(self) -> None:
        """End the loop."""
        self._ending = True
        self.iterate()


class _EndError(BaseException):
    pass


class Side(ABC):
    """One of the two; `step` does one RL iteration and gives its seconds by phase."""

    turns: Turns
    clock: Clock
    iterations = 10_000
    lengths: list[int]
    """Completion lengths of the latest iteration, the samples of a prompt next to each other."""
    backward_passes: int
    """Of the latest iteration."""
    prompt_ids: list[list[int]]
    """Prompt tokens of the latest iteration: of each prompt, or of each sequence."""

    size: Size
    ragged = True
    """Whether each iteration has lengths of its own, as in a real run; else all have those of the first."""

    def __init__(self) -> None:
        self._started = 0.0
        self.steps = 0
        """Finished iterations."""

    @property
    def forced(self) -> Tensor:
        """Completion lengths of the iteration under way."""
        return completion_lengths(self.size, self.steps if self.ragged else 0)

    def start_iteration(self) -> None:
        """Called where the work of an iteration begins."""
        self.clock.take()
        self._started = self.clock.now()

    def end_iteration(self) -> None:
        """Called where it ends."""
        whole = self.clock.now() - self._started
        self.backward_passes = self.clock.calls["backward"]
        self.seconds = {"whole step": whole} | self.clock.take()
        self.turns.rest()

    @property
    @abstractmethod
    def model(self) -> torch.nn.Module:
        """The model that is trained, with its adapter."""

    @property
    @abstractmethod
    def optimizer_steps(self) -> int:
        """Optimizer steps since the start."""

    def step(self) -> dict[str, float]:
        """One iteration's seconds: the whole step, its phases, and what is neither."""
        self.turns.iterate()
        self.steps += 1
        seconds = self.seconds
        seconds["training"] = seconds["whole step"] - seconds["generation"] - seconds.get("old and reference", 0.0)
        seconds["optimizer and rest"] = seconds["training"] - seconds["forward"] - seconds["backward"]
        assert min(seconds.values()) >= 0, f"Phases overlap: {seconds}"
        return seconds

    def end(self) -> None:
        """End the loop."""
        self.turns.end()


def quiet() -> None:
    """No warnings or progress bars between the lines of a benchmark."""
    import datasets
    import transformers

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
