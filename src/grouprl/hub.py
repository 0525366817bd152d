"""The Hugging Face hub, asked once whether it answers: libraries try one that does not for up to a minute each time."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from functools import lru_cache

_ANSWER_S = 4.0
"""Seconds in which it has to answer."""


@lru_cache(maxsize=1)
def answers() -> bool:
    """Whether the hub answers, whatever it says. Where it does not, this process is offline to the hub from then on.

    What is in the hub's cache is used all the same. It is asked as its own library would, with the user's proxies and
    certificates, and in a thread: a name that does not resolve can take longer than any limit.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    found: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            get_session().head(constants.ENDPOINT, timeout=_ANSWER_S)
            found.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_S)
    if not found:
        os.environ["HF_HUB_OFFLINE"] = "1"  # for what is imported or started later
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
    return bool(found)


def reason(error: BaseException) -> str:
    """Why something could not be had, in one line."""
    if not answers():
        return "which does not answer, and it is not in the cache"
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
