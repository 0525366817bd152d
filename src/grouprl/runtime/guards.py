"""Guards on learning itself: the policy that is trained is the one that sampled, and no step is taken on NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from grouprl.batch import Minibatch
from grouprl.runtime.measures import Largest, Mean, Measure
from grouprl.runtime.ranks import gathered


class TrainingError(RuntimeError):
    """Training that must not go on. Its text says what was seen and what to do."""


_FLOORS, _CAP = 3.0, 0.1
"""Of a precision's own floor: so far may ratios be away from 1 in the mean, whatever the tolerance, and no farther."""


def outside(log_ratio: Tensor, band: tuple[float, float]) -> Tensor:
    """Whether ratios are beyond a clip by ``band`` below and above 1."""
    ratio = log_ratio.exp()
    return (ratio < 1 - band[0]) | (ratio > 1 + band[1])


@dataclass(frozen=True)
class _Away:
    """How far ratios are away from 1: sums over tokens."""

    deviations: float = 0.0
    beyond: int = 0
    tokens: int = 0

    @classmethod
    def sum_of(cls, parts: Iterable[_Away]) -> _Away:
        parts = list(parts)
        return cls(sum(p.deviations for p in parts), sum(p.beyond for p in parts), sum(p.tokens for p in parts))

    @property
    def mean(self) -> float:
        return self.deviations / max(1, self.tokens)

    @property
    def share(self) -> float:
        return self.beyond / max(1, self.tokens)


class SamplerMismatch:
    """Compares the trainer's logprobs with the sampler's, before a rollout's first optimizer step.

    One function computes new, old and reference logprobs, so that ratios start at 1 up to rounding. Anything more
    means that another policy is trained than the one that sampled.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        exact: bool,
        tolerance: float | None = None,
        band: tuple[float, float] = (0.2, 0.2),
    ) -> None:
        """Compare nothing yet.

        Args:
            tokenizer: It names the token that deviates most.
            exact: Judge the largest ratio (float32 and float64), else the mean (reduced precision, or a sampler whose
                logprobs are not the trainer's).
            tolerance: Largest deviation from 1; None: 1e-3 where arithmetic is exact, else 0.02. The mean is
                of absolute deviations: the mean ratio itself is 1 for any policy.
            band: How far ratios may fall and rise before a loss clips them; tokens beyond are counted.
        """
        self.tokenizer, self.exact = tokenizer, exact
        self.tolerance = tolerance if tolerance is not None else 1e-3 if exact else 0.02
        self.band, self.beyond, self.floor = band, 0, _Away()
        self.done = False
        """Whether the comparison was made: later logprobs are of a policy that has been trained."""
        self.largest, self.offender = 0.0, ""
        self.deviations, self.differences, self.tokens = 0.0, 0.0, 0

    @torch.no_grad()
    def add(self, logprobs: Tensor, batch: Minibatch) -> None:
        """Take in one micro-batch with its current logprobs [sequences, tokens], in nats, before the first step."""
        if self.done:
            return
        assert batch.loss_inputs is not None
        mask, recorded = batch.drawn, batch.loss_inputs.sampler_logprobs
        if recorded is None:
            recorded = batch.loss_inputs.old_logprobs
        difference = (logprobs - recorded).masked_fill(~mask, 0.0)
        deviation = difference.expm1().abs().nan_to_num(nan=math.inf)
        self.deviations += float((deviation * mask).sum())
        self.beyond += int((outside(difference, self.band) & mask).sum())
        self.differences += float(difference.abs().sum())
        self.tokens += int(mask.sum())
        if deviation.numel() and float(deviation.max()) > self.largest:
            self.largest = float(deviation.max())
            row, token = divmod(int(deviation.argmax()), mask.shape[1])
            self.offender = (
                f"token {self.tokenizer.decode(batch.completion_ids[row, token : token + 1])!r} at position {token} of "
                f"a completion: trainer {float(logprobs[row, token]):.6g}, "
                f"sampler {float(recorded[row, token]):.6g} nats"
            )

    def metrics(self) -> dict[str, Measure]:
        """Largest deviation of a ratio from 1, mean absolute difference of logprobs in nats, share beyond the clip."""
        tokens = max(1, self.tokens)
        floor = {"mismatch/floor": Mean(self.floor.mean, self.floor.tokens)} if self.floor.tokens else {}
        return floor | {
            "mismatch/max_deviation": Largest(self.largest),
            "mismatch/logprob": Mean(self.differences / tokens, self.tokens),
            "mismatch/outside_clip": Mean(self.beyond / tokens, self.tokens),
        }

    def is_beyond(self, strategy: Strategy) -> bool:
        """Whether the mean deviation of all ranks is beyond the tolerance."""
        ranks = gathered((self.deviations, self.tokens), getattr(strategy, "world_size", 1))
        return sum(rank[0] for rank in ranks) > self.tolerance * max(1, sum(rank[1] for rank in ranks))

    def add_floor(self, together: Tensor, alone: Tensor, mask: Tensor) -> None:
        """Take in what the same weights give in the same precision at two batch shapes, [sequences, tokens]."""
        difference = (together - alone).masked_fill(~mask, 0.0)
        deviations = float((difference.expm1().abs() * mask).sum())
        beyond = int((outside(difference, self.band) & mask).sum())
        self.floor = _Away(deviations, beyond, int(mask.sum()))

    def check(self, strategy: Strategy, iteration: int) -> None:
        """Once before the first optimizer step: stop all ranks if the tokens of all deviate beyond the tolerance.

        Args:
            strategy: The trainer's strategy.
            iteration: For the message.

        Raises:
            TrainingError: They do.
        """
        if self.done:
            return
        self.done = True
        here = _Away(self.deviations, self.beyond, self.tokens)
        ranks = gathered((self.largest, self.offender, here, self.floor), getattr(strategy, "world_size", 1))
        largest, offender, _, _ = max(ranks, key=lambda rank: rank[0])
        all_here, floor = _Away.sum_of(rank[2] for rank in ranks), _Away.sum_of(rank[3] for rank in ranks)
        deviation = largest if self.exact else all_here.mean
        self.found = (
            f"ratios of trainer and sampler are {all_here.mean:.2g} away from 1 on average, {all_here.share:.2%} of "
            f"them beyond the clip; at another batch shape the same weights give {floor.mean:.2g} and {floor.share:.2%}"
        )
        excused = 0.0 if self.exact or not math.isfinite(floor.mean) else min(_CAP, _FLOORS * floor.mean)
        if deviation <= max(self.tolerance, excused):
            return
        at_floor = "" if self.exact else f" The floor of this precision: {self.found}."
        raise TrainingError(
            f"The policy's ratio to the sampler is {deviation:.3g} away from 1 before the first optimizer step of "
            f"iteration {iteration} (mismatch_tolerance is {self.tolerance:g}).{at_floor}\n"
            f"Largest: {offender}.\n"
            "Likely causes: dropout, a temperature that is not applied on both sides, positions under left padding, "
            "another dtype in sampling than in training, or weights changed after sampling."
        )


class FiniteSteps:
    """Decides whether an optimizer step may be taken, and stops after too many in a row that may not."""

    def __init__(self, most_in_a_row: int) -> None:
        self.most_in_a_row, self.in_a_row = most_in_a_row, 0

    def allows(self, strategy: Strategy, loss: float, norm: Tensor) -> bool:
        """Whether loss and gradient norm are finite on all ranks.

        Args:
            strategy: The trainer's strategy.
            loss: This rank's part of the loss; the parts add up to it.
            norm: The norm of the gradient.

        Raises:
            TrainingError: More steps in a row than the limit were not.
        """
        if not _on_any_rank(strategy, not (math.isfinite(loss) and math.isfinite(float(norm)))):
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        if self.in_a_row > self.most_in_a_row:
            losses = strategy.reduce(torch.tensor(loss, device=strategy.root_device), reduce_op="sum")
            raise TrainingError(
                f"{self.in_a_row} optimizer steps in a row had a loss or gradient that is not finite (the last: loss "
                f"{float(losses):.6g}, gradient norm {float(norm):.6g}); none was taken, so the weights are those "
                "before them. Lower lr, or look at the reward; max_skipped_steps sets the limit."
            )
        return False


def _on_any_rank(strategy: Strategy, flag: bool) -> bool:
    """Whether the flag is set on any rank: every rank takes the same branch."""
    reduced = strategy.reduce(torch.tensor(float(flag), device=strategy.root_device), reduce_op="max")
    return bool(reduced > 0)
