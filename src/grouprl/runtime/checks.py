"""What the limits of a run refuse, without torch."""

from __future__ import annotations

from typing import Any

from grouprl.checks import on_one_device

ON_OUT_OF_MEMORY = ("stop", "halve")
_MOST_THREADS = 1024


def check_threads(threads: int | None) -> None:
    """Threads of this process's CPU work; None: as many as the model's size pays for."""
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise ValueError(
            f"threads={threads}: give at least 1 and at most {_MOST_THREADS}, or leave it to the model's size."
        )


def halve_on_one_device(on_out_of_memory: str, devices: Any, key: str = "trainer.devices") -> None:
    """Devices exchange gradients in the last backward pass, where one that begins again would leave others waiting."""
    if on_out_of_memory == "halve" and not on_one_device(devices):
        raise ValueError(
            f"on_out_of_memory=halve: {key}={devices}, and devices cannot halve their micro-batches each by itself. "
            "Use on_out_of_memory=stop, or trainer.devices=1."
        )


def group_filter(rounds: int, drop: float) -> None:
    """Arguments of `grouprl.runtime.groups.GroupFilter`."""
    if rounds < 1:
        raise ValueError(f"filter.rounds={rounds}: give at least 1, the first draw.")
    if not 0 <= drop < 1:
        raise ValueError(f"filter.drop={drop}: give a share of the groups, at least 0 and below 1.")
