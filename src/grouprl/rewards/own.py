"""Rewards of one's own, tried before anything is sampled."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from grouprl.batch import Prompts
from grouprl.rewards.base import Reward
from grouprl.rewards.scoring import Scorer, ScoringError

WANTED = "reward(completions, prompts) gives a number for each text of completions, a list of groups of texts"


def try_reward(reward: Reward | Callable[..., Any], prompts: Prompts, group_size: int) -> None:
    """Call a reward of one's own on a group of plain answers, so that it fails before anything is sampled.

    Args:
        reward: One of this package is not tried.
        prompts: A prompt, with its gold answer.
        group_size: How many texts a group has.

    Raises:
        ValueError: It fails on each of them; the text says why, with the line of one's own code that failed.
    """
    inner = getattr(reward, "func", reward)  # of a partial
    target = str(getattr(reward, "target", "") or getattr(inner, "__module__", ""))
    if target.startswith("grouprl.") or os.environ.get("LOCAL_RANK", "0") != "0":
        return  # of several processes the first says it
    answer = prompts.answers[0]
    texts = [f"The answer is \\boxed{{{answer}}}.", "I do not know.", "", f"It is {answer}.\n\nSo \\boxed{{0}}."]
    group = [texts[i % len(texts)] for i in range(group_size)]
    try:
        Scorer(reward)([group], prompts)
    except ScoringError as error:
        first = error.failures[0]
        if first.kind != "unscorable":  # as NaN is, which a reward gives to a text that it does not score
            raise ValueError(f"reward: it fails on every completion. {first.reason}. {WANTED}.") from None
