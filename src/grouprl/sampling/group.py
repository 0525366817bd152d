"""The built-in sampler: it decodes with the policy itself, so that its logprobs are the trainer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from grouprl.batch import Prompts, Rollouts
from grouprl.policy.policy import Policy
from grouprl.sampling import checks
from grouprl.sampling.base import DecodedRows, assemble, check_lengths, keys_of
from grouprl.sampling.decoding import Decoder, Key
from grouprl.sampling.rounds import ToolRounds


@dataclass(frozen=True)
class GroupSampler:
    """Samples a group of completions for each prompt, prefilling each prompt once.

    ``top_k`` and ``top_p`` are here to be refused: a truncated distribution is not the policy's own, and its
    probabilities would not be those that are trained.
    """

    exact: ClassVar[bool] = True

    group_size: int = 8
    max_new_tokens: int = 96
    """Longest completion, the output of tools included."""
    max_sequences: int = 1024
    """At most so many sequences are decoded at once; more prompts are taken in turns."""
    top_k: int = 0
    top_p: float = 1.0
    stop: Sequence[str] = ()
    """Texts that end a completion, as a token does; they are cut off its text."""
    tools: ToolRounds | None = None
    """Rounds of writing Python and being given its output (see `grouprl.sampling.rounds`); None: none."""

    def __post_init__(self) -> None:
        sizes = (self.group_size, self.max_new_tokens, self.max_sequences)
        checks.group_sampler(*sizes, self.top_k, self.top_p, self.stop)
        object.__setattr__(self, "stop", checks.stop_texts("sampler.stop", self.stop))

    @torch.no_grad()
    def __call__(self, policy: Policy, prompts: Prompts, *, seed: int, greedy: bool = False) -> Rollouts:
        """Sample ``group_size`` completions for each prompt (one with ``greedy``).

        Args:
            policy: The policy; its temperature is the sampling temperature.
            prompts: P prompts.
            seed: Seed of the run.
            greedy: Take the most likely token each time.
        """
        check_lengths(policy, prompts, self.max_new_tokens)
        group = 1 if greedy else self.group_size
        per_chunk = max(1, self.max_sequences // group)
        decoded: list[DecodedRows] = []
        for start in range(0, len(prompts), per_chunk):
            chunk = prompts.take(range(len(prompts))[start : start + per_chunk])
            keys = None if greedy else keys_of(chunk, group, seed)
            decoded.append(self._decode(policy, chunk, group, keys))
        return assemble(policy, prompts, decoded, group, self.stop)

    def _decode(self, policy: Policy, prompts: Prompts, group: int, keys: Sequence[Key] | None) -> DecodedRows:
        if self.tools:
            return self.tools.decode(policy, prompts.token_ids, group, self.max_new_tokens, keys=keys, stop=self.stop)
        return DecodedRows.of(
            Decoder(policy, prompts.token_ids, group, self.max_new_tokens, keys=keys, stop=self.stop).run()
        )
