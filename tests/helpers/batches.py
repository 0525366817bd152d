"""Prompts and batches by hand."""

from __future__ import annotations

import torch

from grouprl.batch import Experience, LossInputs, Minibatch, Prompts


def batch_of(prompts, completions, pad=0):
    """Ragged prompts padded left and completions padded right."""
    width, longest = max(map(len, prompts)), max(map(len, completions))
    return Minibatch(
        prompt_ids=torch.tensor([[pad] * (width - len(p)) + p for p in prompts]),
        prompt_mask=torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts]),
        completion_ids=torch.tensor([c + [pad] * (longest - len(c)) for c in completions]),
        completion_mask=torch.tensor([[True] * len(c) + [False] * (longest - len(c)) for c in completions]),
    )


def prompts_of(*rows):
    return Prompts(tuple("p" for _ in rows), tuple("1" for _ in rows), tuple(map(tuple, rows)), tuple(range(len(rows))))


def recomputed(policy, rollouts):
    experience = Experience(rollouts, torch.zeros_like(rollouts.lengths), torch.ones_like(rollouts.truncated))
    batch = experience.minibatch(torch.arange(len(rollouts.prompt_ids)), experience.advantages)
    assert isinstance(batch.loss_inputs, LossInputs)
    return policy.logprobs(batch).logprobs.view_as(rollouts.sampler_logprobs)
