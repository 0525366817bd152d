"""What losses are tested on."""

from __future__ import annotations

import torch

from grouprl.batch import LossInputs

LENGTHS = torch.tensor([[2, 4], [1, 3]])


def inputs(seed=0, reference=True):
    """Ragged sequences with ratios on both sides of the clip."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(4) < LENGTHS.flatten().unsqueeze(-1)
    old = -torch.rand(4, 4, generator=generator, dtype=torch.float64) * 2
    new = old + 0.5 * torch.randn(4, 4, generator=generator, dtype=torch.float64)
    return new.requires_grad_(), LossInputs(
        old_logprobs=old,
        advantages=torch.tensor([1.0, -0.5, 0.25, -1.0], dtype=torch.float64),
        mask=mask,
        token_weights=torch.tensor([0.3, 0.1, 0.2, 0.4], dtype=torch.float64),
        ref_logprobs=old + 0.1 * torch.randn(4, 4, generator=generator, dtype=torch.float64) if reference else None,
    )
