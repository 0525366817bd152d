"""What several prompts begin with, such as worked examples: computed once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 32
"""Tokens that prompts begin with alike, of which a pass of their own pays."""


def shared_tokens(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens of all prompts are computed once; 0 where that does not pay.

    Of each prompt one token at least is its own: its logits are wanted.
    """
    if len(prompts) < 2:
        return 0
    ordered = sorted(map(list, prompts))  # where first and last agree, all others do
    most = min(map(len, prompts)) - 1
    pairs = enumerate(zip(ordered[0], ordered[-1], strict=False))
    shared = min(most, next((place for place, (a, b) in pairs if a != b), most))
    return shared if shared >= LEAST else 0


def visible_after(shared: int, tokens: int, like: Tensor) -> Tensor:
    """What tokens after those that are shared see: these, and each the ones before it; 0 or -inf.

    [tokens, shared + tokens], with the dtype and on the device of ``like``.
    """
    seen = torch.arange(tokens, device=like.device).unsqueeze(-1) >= torch.arange(-shared, tokens, device=like.device)
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(~seen, -torch.inf)
