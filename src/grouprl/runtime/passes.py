"""Forward passes over rollouts before their first optimizer step, in micro-batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from grouprl.batch import Experience, Minibatch
from grouprl.policy.policy import Policy
from grouprl.runtime.memory import MemoryLimits

_COMPARED = 8
"""Sequences that the floor of a precision is measured on."""


@torch.no_grad()
def logprobs_of_all(
    memory: MemoryLimits,
    experience: Experience,
    logprobs_of: Callable[[Minibatch], Tensor],
    *,
    parts: Sequence[Tensor] | None = None,
    all_rows: bool = True,
) -> Tensor:
    """Logprobs of all completions, [prompts, group, tokens].

    Args:
        memory: It cuts the rollouts into micro-batches.
        experience: The rollouts.
        logprobs_of: Logprobs of a micro-batch, [sequences, tokens].
        parts: Groups that are cut into micro-batches together; None: all.
        all_rows: False: those alone whose advantage is not 0; of the others what the sampler recorded.
    """
    advantages, recorded = experience.advantages, experience.rollouts.sampler_logprobs
    every = torch.arange(advantages.numel(), device=advantages.device).view_as(advantages)

    def all_micro_batches() -> Tensor:
        logprobs = (torch.zeros_like(recorded) if all_rows else recorded.clone()).flatten(0, 1)
        for groups in [torch.arange(len(every), device=every.device)] if parts is None else parts:
            part, places = experience.minibatch(groups, torch.zeros_like(advantages[groups])), every[groups].flatten()
            if not all_rows:
                part, places = part.with_signal(), places[advantages[groups].flatten() != 0]
            for rows in memory.cuts(part):
                micro_batch = part.piece(rows)
                with memory.running("old or reference logprobs", micro_batch):
                    found = logprobs_of(micro_batch)
                logprobs[places[rows], : found.shape[1]] = found.to(logprobs.dtype)
        return logprobs.view_as(recorded)

    return memory.fitting(all_micro_batches)


@torch.no_grad()
def first_pass(memory: MemoryLimits, policy: Policy, minibatch: Minibatch) -> tuple[Tensor, Minibatch]:
    """Current logprobs of the first rows of a minibatch, and those rows."""

    def forward() -> tuple[Tensor, Minibatch]:
        micro_batch = minibatch.piece(memory.cuts(minibatch)[0])
        with memory.running("comparison with the sampler", micro_batch):
            return policy.logprobs(micro_batch).logprobs, micro_batch

    return memory.fitting(forward)


@torch.no_grad()
def at_another_shape(memory: MemoryLimits, policy: Policy, minibatch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
    """Logprobs of some sequences from one forward pass, from a pass for each alone, and their mask.

    They are those of the same weights in the same precision: what differs is the shape of the batch.
    """

    def forward() -> tuple[Tensor, Tensor, Tensor]:
        every = torch.linspace(
            0, len(minibatch) - 1, min(_COMPARED, len(minibatch)), device=minibatch.prompt_ids.device
        )
        some = minibatch.rows(every.long())  # of as many groups as there are
        few = some.piece(memory.cuts(some)[-1])  # with the longest
        with memory.running("comparison with another batch shape", few):
            together = policy.logprobs(few).logprobs
            alone = torch.zeros_like(together)
            for row in range(len(few)):
                single = policy.logprobs(few.piece(torch.tensor([row], device=together.device))).logprobs
                alone[row, : single.shape[1]] = single[0]
        return together, alone, few.drawn

    return memory.fitting(forward)
