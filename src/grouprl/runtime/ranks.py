"""What several processes know together."""

from __future__ import annotations

from typing import TypeVar

import torch

_Value = TypeVar("_Value")


def gathered(value: _Value, world_size: int) -> list[_Value]:
    """The values of all ranks, in their order; values are pickled."""
    values = [value] * world_size
    if world_size > 1:  # and not where a process group is: an engine in this process forms one of its own
        torch.distributed.all_gather_object(values, value)
    return values
