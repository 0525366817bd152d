"""Prompts for each RL iteration, as a pure function of (seed, iteration)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset

from grouprl.batch import Prompts
from grouprl.data import prompts as prompts_of
from grouprl.data.exemplars import read_exemplars
from grouprl.data.problems import ProblemSplits
from grouprl.data.rows import Problem
from grouprl.policy.policy import Policy

_log = logging.getLogger(__name__)


class PromptStream(Dataset[Prompts]):
    """Item ``i`` holds the prompts of RL iteration ``first + i`` for one rank: epochs of seeded permutations.

    With more than one round, those of the further rounds are spare, see `grouprl.runtime.groups`.

    Its length is that of the whole run: Lightning counts the finished iterations of a resumed run against it.
    """

    def __init__(
        self,
        prompts: Prompts,
        *,
        steps: int,
        prompts_per_step: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        first: int = 0,
        rounds: int = 1,
    ) -> None:
        self.prompts, self.steps, self.per_step, self.rounds = prompts, steps, prompts_per_step, rounds
        self.seed, self.rank, self.world_size, self.first = seed, rank, world_size, first

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, item: int) -> Prompts:
        iteration = self.first + item
        share = self.per_step // self.world_size
        starts = (draw * self.per_step + self.rank * share for draw in range(self.rounds))
        slots = [slot for start in starts for slot in range(start, start + share)]
        rows = [self._row(iteration * self.per_step * self.rounds + slot) for slot in slots]
        drawn = replace(self.prompts.take(rows), indices=tuple(slots), iteration=iteration)
        return replace(drawn, spares=len(slots) - share)

    @property
    def rows(self) -> list[int]:
        """All rows of the prompts that the run can draw, in their order."""
        positions = min(self.steps * self.per_step * self.rounds, len(self.prompts))
        return sorted({self._row(position) for position in range(positions)})

    def _row(self, position: int) -> int:
        epoch, place = divmod(position, len(self.prompts))
        return int(np.random.default_rng((self.seed, epoch)).permutation(len(self.prompts))[place])


class PromptDataModule(L.LightningDataModule):
    """Training prompts by iteration, and held-out prompts in batches split over ranks."""

    def __init__(
        self,
        splits: ProblemSplits,
        policy: Policy,
        *,
        steps: int,
        prompts_per_step: int,
        max_new_tokens: int,
        seed: int = 0,
        style: prompts_of.PromptStyle = "auto",
        system: str | None = None,
        exemplars: str | None = None,
        context: int | None = None,
        overlong: Literal["refuse", "drop"] = "refuse",
        eval_batch: int = 200,
        rounds: int = 1,
    ) -> None:
        """Encode all problems once.

        Args:
            splits: Problems to train on and to hold out.
            policy: The policy, for its tokenizer and context length.
            steps: RL iterations.
            prompts_per_step: Prompts of an iteration over all ranks.
            max_new_tokens: Room that must be left for completions.
            seed: Seed of the order.
            style: Prompt template, see `grouprl.data.prompts.render`.
            system: System message.
            exemplars: JSONL file of worked examples before each problem (`grouprl.data.exemplars.read_exemplars`).
            context: Most tokens of prompt and completion together, if fewer than the model's.
            overlong: Refuse problems that do not fit the context, or drop them with a count.
            eval_batch: Held-out prompts a batch.
            rounds: Draws of an iteration at most, each of which needs prompts (`grouprl.runtime.groups.GroupFilter`).
        """
        super().__init__()
        self.steps, self.prompts_per_step, self.seed, self.eval_batch = steps, prompts_per_step, seed, eval_batch
        self.first, self.rounds = 0, rounds

        most = min((length for length in (context, policy.context) if length is not None), default=None)
        room = None if most is None else most - max_new_tokens
        shots = read_exemplars(exemplars)

        def encode(problems: Sequence[Problem]) -> Prompts:
            encoded = prompts_of.encode(
                policy.tokenizer, problems, style=style, system=system, exemplars=shots, most_tokens=room
            )
            return _fitting(encoded, most, max_new_tokens, overlong)

        if not splits.train:
            raise ValueError("data: there is no training problem left. Check data.limit and the data's filters.")
        self.train_prompts = encode(splits.train)
        self.heldout_prompts = encode(splits.heldout)

    def train_dataloader(self) -> DataLoader[Prompts]:
        rank, world_size = self._ranks()
        if self.prompts_per_step % world_size:
            raise ValueError(f"prompts_per_step={self.prompts_per_step} must be divisible by the {world_size} devices.")
        stream = PromptStream(
            self.train_prompts,
            steps=self.steps,
            prompts_per_step=self.prompts_per_step,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            first=self.first,
            rounds=self.rounds,
        )
        return DataLoader(stream, batch_size=None, shuffle=False)

    def drawn_prompts(self) -> Prompts:
        """Of the training prompts, each once, those that the iterations of the run can draw."""
        stream = PromptStream(
            self.train_prompts,
            steps=self.steps,
            prompts_per_step=self.prompts_per_step,
            seed=self.seed,
            rounds=self.rounds,
        )
        return self.train_prompts.take(stream.rows)

    def val_dataloader(self) -> DataLoader[Prompts]:
        rank, world_size = self._ranks()
        rows = range(rank, len(self.heldout_prompts), world_size)
        batches = [rows[i : i + self.eval_batch] for i in range(0, len(rows), self.eval_batch)]
        if not batches and world_size > 1:
            batches = [rows]  # Lightning calls no hook on a rank that has no batch
        return DataLoader([self.heldout_prompts.take(list(b)) for b in batches], batch_size=None)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, int]:
        """The data position: the iteration that comes next."""
        assert self.trainer is not None
        return {"iteration": self.trainer.lightning_module.iteration}  # type: ignore[dict-item]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on with the iteration that comes next."""
        self.first = state_dict["iteration"]

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def _fitting(prompts: Prompts, context: int | None, max_new_tokens: int, overlong: str) -> Prompts:
    if context is None:
        return prompts
    room = context - max_new_tokens
    rows = [row for row, ids in enumerate(prompts.token_ids) if len(ids) <= room]
    dropped = len(prompts) - len(rows)
    if dropped and (overlong == "refuse" or not rows):
        longest = max(len(ids) for ids in prompts.token_ids)
        raise ValueError(
            f"max_new_tokens={max_new_tokens}: {dropped} of {len(prompts)} prompts (the longest has {longest} tokens "
            f"or more) do not fit the context of {context} tokens beside it. Lower max_new_tokens, or set "
            "prompt.overlong=drop."
        )
    if dropped:
        _log.warning("%d of %d prompts do not fit the context and were dropped.", dropped, len(prompts))
    return prompts.take(rows)
