r"""Tool-integrated reasoning: the policy writes Python, the sandbox runs it, and the output is appended.

The protocol is that of Qwen2.5-Math (arXiv 2409.12122): a completion is stopped where it opens an output block, the
last code block before it is run, its output and the closing fence are put into the text, and the policy goes on. What
the tool wrote was not drawn from the policy: it is attended to, and never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from grouprl.policy.policy import Policy
from grouprl.sampling import checks
from grouprl.sampling.base import DecodedRows
from grouprl.sampling.decoding import Decoder, Key
from grouprl.sampling.transcript import OUTPUT_FENCE, output_text, pending_code
from grouprl.sandbox.sandbox import Sandbox, ToolOutput


class Runner(Protocol):
    """What runs code: `grouprl.sandbox.sandbox.Sandbox`, or one's own."""

    def map(self, codes: Sequence[str]) -> list[ToolOutput]:
        """The output of each code block."""
        ...


@dataclass
class _Row:
    """A sequence under way."""

    prompt: tuple[int, ...]
    key: Key | None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    drawn: int = 0
    rounds: int = 0
    done: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class ToolRounds:
    """The rounds of generating and running, batched over all sequences that wait for a tool."""

    rounds: int = 4
    """Code blocks of a completion that are run, at most; after them the completion ends."""
    sandbox: Runner = field(default_factory=Sandbox)

    def __post_init__(self) -> None:
        checks.tool_rounds(self.rounds)

    def decode(
        self,
        policy: Policy,
        prompts: Sequence[tuple[int, ...]],
        group: int,
        max_new_tokens: int,
        *,
        keys: Sequence[Key] | None,
        stop: Sequence[str] = (),
    ) -> DecodedRows:
        """Decode ``group`` sequences of each prompt, tools included; the arguments are those of `Decoder`."""
        rows = [
            _Row(tuple(prompt), None if keys is None else keys[number * group + sample])
            for number, prompt in enumerate(prompts)
            for sample in range(group)
        ]
        calls: list[ToolOutput] = []
        first = True
        while waiting := [row for row in rows if not row.done]:
            self._write(policy, waiting, prompts if first else None, group, max_new_tokens, stop)
            calls += self._run_tools(policy, [row for row in waiting if not row.done], max_new_tokens)
            first = False
        return _joined(rows, policy, tuple(calls))

    def _write(
        self,
        policy: Policy,
        rows: list[_Row],
        prompts: Sequence[tuple[int, ...]] | None,
        group: int,
        max_new_tokens: int,
        stop: Sequence[str],
    ) -> None:
        """Let the policy write up to the next output block or its end."""
        decoder = Decoder(
            policy,
            prompts if prompts is not None else [row.prompt + tuple(row.token_ids) for row in rows],
            group if prompts is not None else 1,
            [max_new_tokens - len(row.token_ids) for row in rows],
            keys=None if rows[0].key is None else [row.key for row in rows if row.key is not None],
            skip=[row.drawn for row in rows],
            stop=(*stop, OUTPUT_FENCE),
        ).run()
        for number, row in enumerate(rows):
            length = int(decoder.lengths[number])
            row.token_ids += decoder.token_ids[number, :length].tolist()
            row.logprobs += decoder.logprobs[number, :length].tolist()
            row.sampled += [True] * length
            row.drawn += length
            row.truncated = not bool(decoder.ended[number] | decoder.stopped[number])
            (text,) = policy.texts_of([row.token_ids])
            wants_tool = bool(decoder.stopped[number]) and not any(end in text for end in stop)
            row.done = not wants_tool or row.rounds >= self.rounds

    def _run_tools(self, policy: Policy, rows: list[_Row], max_new_tokens: int) -> list[ToolOutput]:
        """Run what the rows wrote, and append the outputs."""
        if not rows:
            return []
        codes = [pending_code(text) for text in policy.texts_of(row.token_ids for row in rows)]
        outputs = iter(self.sandbox.map([code for code in codes if code is not None]))
        found = []
        for row, code in zip(rows, codes, strict=True):
            output = ToolOutput("no code", "error", 0.0) if code is None else next(outputs)
            found.append(output)
            ids = policy.tokenizer.encode(output_text(output), add_special_tokens=False)
            room = max_new_tokens - len(row.token_ids) - 1
            row.done = row.truncated = len(ids) > room
            ids = ids[: max(0, room)]
            row.token_ids += ids
            row.logprobs += [0.0] * len(ids)
            row.sampled += [False] * len(ids)
            row.rounds += 1
        return found


def _joined(rows: Sequence[_Row], policy: Policy, calls: tuple[ToolOutput, ...]) -> DecodedRows:
    width, device = max(len(row.token_ids) for row in rows), policy.device
    dtype = torch.float64 if policy.base.dtype == torch.float64 else torch.float32

    def padded(values: Sequence[Sequence[float]], fill: float, kind: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *[fill] * (width - len(row))] for row in values], dtype=kind, device=device)

    return DecodedRows(
        token_ids=padded([row.token_ids for row in rows], policy.tokenizer.pad_token_id, torch.long),
        logprobs=padded([row.logprobs for row in rows], 0.0, dtype),
        lengths=torch.tensor([len(row.token_ids) for row in rows], device=device),
        truncated=torch.tensor([row.truncated for row in rows], device=device),
        sampled=padded([row.sampled for row in rows], False, torch.bool),
        calls=calls,
    )
