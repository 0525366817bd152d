"""What a sandbox may be told to be."""

from __future__ import annotations

from grouprl.checks import above


def sandbox(timeout_s: float, memory_mb: int, processes: int, max_output: int, workers: int) -> None:
    """Arguments of `grouprl.sandbox.sandbox.Sandbox`."""
    above("sandbox.timeout_s", timeout_s)
    least = {"memory_mb": (memory_mb, 16), "processes": (processes, 1), "max_output": (max_output, 1)}
    for key, (value, smallest) in {**least, "workers": (workers, 1)}.items():
        if value < smallest:
            raise ValueError(f"sandbox.{key}={value}: give at least {smallest}.")
