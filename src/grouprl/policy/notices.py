"""Notices that are given once, however often their occasion comes."""

from __future__ import annotations

import logging
from functools import lru_cache

_log = logging.getLogger(__name__)


@lru_cache(maxsize=64)
def say_once(text: str) -> None:
    """Log a warning, the first time it is asked for."""
    _log.warning(text)
