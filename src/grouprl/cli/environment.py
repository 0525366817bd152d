"""What has to be set before torch is imported; a value of the user's own stays."""

from __future__ import annotations

import os

_DEFAULTS = {
    # OpenMP's threads would else spin while they wait: two processes on two cores then take ten times as long.
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    # cuBLAS gives the same bits twice only with a workspace of its own.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TOKENIZERS_PARALLELISM": "false",
}


def prepare() -> None:
    """Set the environment of this process and of those it starts."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
