"""Sizes rounded up to a few, where what is prepared for each size is kept: CUDA graphs, oneDNN's compiled products."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Buckets:
    """Sizes that others are rounded up to: multiples of ``unit``, coarser from ``2 * parts * unit`` on.

    Each doubling of the size is cut into ``parts`` buckets.
    """

    unit: int
    parts: int

    def round_up(self, size: int) -> int:
        """The smallest bucket that holds ``size``."""
        step = self.unit
        while size > 2 * self.parts * step:
            step *= 2
        return -(-size // step) * step
