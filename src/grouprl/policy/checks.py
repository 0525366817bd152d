"""What a policy refuses, without torch."""

from __future__ import annotations

import math
from typing import Any


def load_policy(
    fast: Any,
    gradient_checkpointing: Any,
    cuda_graphs: Any,
    compile: Any,
    trust_remote_code: Any,
    skip_special_tokens: Any = True,
) -> None:
    """The switches of `grouprl.policy.load.load_policy`."""
    for key, value in locals().items():
        if not isinstance(value, bool):
            raise ValueError(f"policy.{key}={value}: give true or false.")


def lora_adapter(rank: int, alpha: float, init: bool | str) -> None:
    """Arguments of `grouprl.policy.adapters.LoraAdapter`."""
    if rank < 1:
        raise ValueError(f"adapter.rank={rank}: give a number of at least 1.")
    if not 0 < alpha < math.inf:
        raise ValueError(f"adapter.alpha={alpha}: give a number above 0, by which what the adapter learns is scaled.")
    if init not in (True, "gaussian"):
        raise ValueError(
            f"adapter.init={init!r}: this start does not leave the base as it is, so that the base with the "
            "adapter off would not be the starting policy. Choose true or gaussian."
        )
