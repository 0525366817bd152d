"""Where the engine is entered: the fast path of a model, once for each operation of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from grouprl.batch import Minibatch, TokenLogprobs
from grouprl.policy.engine.graphs import CudaCapture, GraphSteps
from grouprl.policy.engine.packing import packed_logprobs
from grouprl.policy.engine.stack import DecoderStack
from grouprl.policy.engine.steps import StackSteps
from grouprl.policy.engine.weights import with_copy


@dataclass(frozen=True)
class FastPath:
    """The two operations of a policy on a model whose layers the engine knows."""

    stack: DecoderStack

    @classmethod
    def of(cls, model: nn.Module, length: int) -> FastPath | None:
        """The fast path for sequences of ``length`` tokens, or None where there is none for this model.

        Args:
            model: A causal language model of transformers, PEFT's wrapper included.
            length: Tokens of the longest sequence.
        """
        stack = DecoderStack.of(model)
        return cls(stack) if stack is not None and stack.serves(length) else None

    def logprobs(self, batch: Minibatch, temperature: float, *, recompute: bool, compiled: bool) -> TokenLogprobs:
        """What `grouprl.policy.plain.completion_logprobs` gives.

        Args:
            batch: Prompts padded left, completions padded right.
            temperature: Divides the logits.
            recompute: Gradient checkpointing.
            compiled: Run layers compiled.
        """
        return packed_logprobs(replace(self.stack, compiled=compiled), batch, temperature, recompute=recompute)

    def steps(
        self, prompts: Sequence[Sequence[int]], group: int, limit: int, *, cuda_graphs: bool, kept: dict[str, Any]
    ) -> StackSteps:
        """What `grouprl.policy.plain.PlainSteps` does.

        Args:
            prompts: Tokens of each prompt.
            group: Rows of each prompt.
            limit: New tokens at most.
            cuda_graphs: Decode by CUDA graphs, on a CUDA GPU.
            kept: Where memory is kept for the next call.
        """
        if cuda_graphs and self.stack.head_weight.is_cuda:
            return GraphSteps(self.stack, prompts, group, limit, capture=CudaCapture, kept=kept)
        return StackSteps(with_copy(self.stack), prompts, group, limit)
