"""What tests of a CUDA GPU share: they are skipped, and say so, where there is none."""

from dataclasses import fields, replace

import pytest
import torch

from grouprl.cli.environment import prepare

prepare()  # before the device is opened, as the scripts do

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: torch sees none")


def on_gpu(batch):
    """A batch whose tensors lie on the GPU."""
    found = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: value.to("cuda") for name, value in found.items() if torch.is_tensor(value)})


def bf16(enabled=True):
    """Autocast as Lightning's ``bf16-mixed`` has it."""
    return torch.autocast("cuda", torch.bfloat16, enabled=enabled, cache_enabled=False)
