"""The machine a run is on: how many threads compute, whether sums have one order, and what is written down of it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_MOST_THREADS = {2_000_000: 1, 10_000_000: 2, 200_000_000: 8}
"""Weights below which more than so many threads wait for each other more than they compute."""
_BFLOAT16 = ("amx_bf16", "avx512_bf16")
"""Instructions that multiply matrices of bfloat16."""
_LARGE = 50_000_000
"""Weights from which on they are used unasked."""
_FLAGS = ("amx_tile", "amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd", "bf16")
"""Instructions that decide which products a library takes."""


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(weights: int, available: int, *, devices: int = 1) -> int:
    """How many threads a CPU computes with: from the model's size and the machine's cores, never from its load.

    So a run on a busy machine has the bits of one on an idle machine.

    Args:
        weights: Weights of the model.
        available: Cores this process may run on.
        devices: Processes that share them.
    """
    most = next((threads for bound, threads in _MOST_THREADS.items() if weights < bound), available)
    return max(1, min(most, available // devices))


def use_threads(threads: int | None, weights: int, *, devices: int = 1) -> int:
    """Set the number of threads; the number.

    Args:
        threads: What the user set; None: the environment's ``OMP_NUM_THREADS``, else `threads_for`.
        weights: Weights of the model.
        devices: Processes that share the machine.
    """
    if threads is None and not os.environ.get("OMP_NUM_THREADS"):
        threads = threads_for(weights, cores(), devices=devices)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def accelerator_of(asked: str) -> str:
    """The trainer's accelerator: what was asked, and for ``auto`` a CUDA GPU where there is one, else the CPU.

    Not Lightning's auto: Apple's MPS has no float64, which advantages are computed in.
    """
    return asked if asked != "auto" else "gpu" if torch.cuda.is_available() else "cpu"


def precision_for(weights: int, accelerator: str, dtype: str = "float32") -> tuple[str, str]:
    """The precision where the user leaves it to the machine, and why it is not float32 (empty: it is).

    From the model's size and the processor's instructions alone: bfloat16 arithmetic over float32 weights where a CPU
    multiplies matrices of it and the model is large enough for products to be what takes the time.

    Args:
        weights: Weights of the model.
        accelerator: The trainer's.
        dtype: Of the weights.
    """
    found = [flag for flag in _BFLOAT16 if flag in instructions()]
    if accelerator != "cpu" or not found or weights < _LARGE or dtype != "float32":
        return "32-true", ""
    return "bf16-mixed", f"the processor has {found[0]}, and the model {weights / 1e6:.0f} million weights"


def use_determinism(deterministic: bool) -> None:
    """Make sums in one order, so that the same command gives the same bits at the same number of threads.

    An operation that has no such form on its device is refused (see `without_determinism`) and not warned of: when
    torch warns, attention takes its other form on a CUDA GPU without a need.

    Args:
        deterministic: False: in whatever order is fastest.
    """
    torch.use_deterministic_algorithms(deterministic)
    # Nothing reads memory that was not written; filling it costs as much as some operations.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def without_determinism(error: BaseException) -> str | None:
    """What to say of an operation that was refused because it cannot give the same bits twice; None: it was not."""
    name, found, _ = str(error).partition(" does not have a deterministic implementation")
    if not isinstance(error, RuntimeError) or not found:
        return None
    return (
        f"The operation {name.strip()} has no form here that gives the same bits twice. deterministic=false goes "
        "on, and the same command may then give other numbers."
    )


def describe(precision: str) -> dict[str, Any]:
    """What the bits of a run depend on beside its configuration, data and code.

    Args:
        precision: The trainer's.
    """
    found: dict[str, Any] = {
        "processor": processor(),
        "instructions": instructions(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two descriptions and can change bits: the number of cores alone does not."""
    return {key: (before[key], now.get(key)) for key in before if key != "cores" and before[key] != now.get(key)}


def processor() -> str:
    """Name of the processor."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instructions() -> list[str]:
    """The processor's instructions that matter here."""
    known = set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())
    return [flag for flag in _FLAGS if flag in known]


def _cpuinfo(key: str) -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(rf"^{key}\s*: (.*)$", file.read_text(), re.MULTILINE) if file.is_file() else None
    return found.group(1).strip() if found else ""
