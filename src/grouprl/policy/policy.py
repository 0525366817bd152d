"""The policy: a causal language model with its tokenizer, optional LoRA adapter and frozen reference."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from grouprl.batch import Minibatch, TokenLogprobs
from grouprl.checks import say_once
from grouprl.data.templates import end_of_turn
from grouprl.files import replacing_files
from grouprl.policy import checks
from grouprl.policy.adapters import LoraAdapter
from grouprl.policy.agreement import check_steps, check_tokenizer, check_tokens
from grouprl.policy.folder import context_of
from grouprl.policy.plain import PlainSteps, Steps, completion_logprobs, without_peft

if TYPE_CHECKING:
    from grouprl.policy.engine.entry import FastPath

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers of as many bytes as a number has."""


class Policy(nn.Module):
    """A language model that is trained, and the frozen policy it started from.

    Two operations: `logprobs` of completions (`reference_logprobs`: those of the frozen one), and logits of
    `next_tokens`.
    Both take the engine's fast path where it is on and knows the model, else the plain path of transformers.

    Dropout is off in every forward pass (sampling, old, new and reference logprobs come from one distribution): the
    model stays in eval mode, whatever `train` is called with.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        adapter: LoraAdapter | None = None,
        temperature: float = 1.0,
        fast: bool = True,
        gradient_checkpointing: bool = False,
        cuda_graphs: bool = True,
        compile: bool = False,
        base_is_merged: bool = False,
        skip_special_tokens: bool = True,
    ) -> None:
        """Wrap a model.

        Args:
            model: Causal language model of transformers.
            tokenizer: Its tokenizer.
            adapter: LoRA adapter to train in place of the model's weights.
            temperature: Temperature of the distribution that is sampled and trained.
            fast: Take the fast paths where the model has them; else, and for other models, the plain paths of
                transformers, which give the same up to rounding.
            gradient_checkpointing: Keep no activations within layers: less memory, a third more work in training.
            cuda_graphs: On a CUDA GPU, decode by CUDA graphs on the fast path (see `grouprl.policy.engine.graphs`).
            compile: Train with layers compiled by `torch.compile` on the fast path: a minute or more at the start,
                worth it on a GPU for models of half a billion weights and more. Sampling is not compiled.
            base_is_merged: The base weights are in no folder, since an adapter was merged into them: an adapter saved
                by itself would name a base it was not trained on, so that `save` writes the whole model.
            skip_special_tokens: Leave the tokenizer's special tokens out of the text of completions; else all but the
                ends and the padding are in it, as ``<think>`` of a tokenizer that calls it special.

        Raises:
            ValueError: A switch is no boolean, the temperature is not above 0, or the tokenizer does not belong to the
                model.
        """
        super().__init__()
        checks.load_policy(
            fast=fast,
            gradient_checkpointing=gradient_checkpointing,
            cuda_graphs=cuda_graphs,
            compile=compile,
            trust_remote_code=False,
            skip_special_tokens=skip_special_tokens,
        )
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: give a number above 0.")
        check_tokenizer(model, tokenizer)
        self.model: nn.Module = adapter.attach(model) if adapter else model
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.fast, self.gradient_checkpointing = fast, gradient_checkpointing
        self.cuda_graphs, self.compiles_layers = cuda_graphs, compile
        self.skip_special_tokens = skip_special_tokens
        self.has_adapter, self.base_is_merged = adapter is not None, base_is_merged
        self.reference: nn.Module | None = None
        self._stepped = False
        """Whether the plain path's steps were tried."""
        self._kept: dict[str, Any] = {}
        """What the engine keeps from one call to the next."""
        self.eval()

    def train(self, mode: bool = True) -> Policy:
        """Stay in eval mode: see the class docstring."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def weights(self) -> int:
        """Number of weights, an adapter's included."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def context(self) -> int | None:
        """Longest prompt and completion together, in tokens, or None where the model does not say."""
        return context_of(self.base.config.get_text_config().to_dict())

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model, under the adapter if there is one."""
        return without_peft(self.model)  # type: ignore[no-any-return]

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a completion: of the generation config, the tokenizer, and the template's turns."""
        ids: list[int] = []
        for source in (self.base.generation_config, self.base.config, self.tokenizer):
            eos = getattr(source, "eos_token_id", None)
            ids += eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos]
        ids += [] if self._turn_end is None else [self._turn_end]
        return tuple(dict.fromkeys(ids))

    @functools.cached_property
    def _turn_end(self) -> int | None:
        return end_of_turn(self.tokenizer)

    def texts_of(self, completions: Iterable[Sequence[int]]) -> list[str]:
        """The texts of completions' tokens, as rewards and grading read them."""
        if self.skip_special_tokens:
            return self.tokenizer.batch_decode([list(ids) for ids in completions], skip_special_tokens=True)
        ends = {*self.eos_ids, self.tokenizer.pad_token_id}
        return self.tokenizer.batch_decode([[token for token in ids if token not in ends] for ids in completions])

    @property
    def has_fast_path(self) -> bool:
        """Whether the engine knows the model and may be used."""
        return self._fast_path(self.model, 1) is not None

    def logprobs(self, batch: Minibatch) -> TokenLogprobs:
        """Logprobs and entropies of completion tokens, [sequences, tokens] in nats, at the sampling temperature.

        Gradients flow through the logprobs.
        """
        return self._logprobs_of(self.model, batch)

    def next_tokens(self, prompts: Sequence[Sequence[int]], group: int, max_new_tokens: int) -> Steps:
        """The forward passes of decoding: logits of the next token of each row, [prompts * group, vocabulary].

        Args:
            prompts: Tokens of each prompt.
            group: Rows of each prompt.
            max_new_tokens: Tokens that are decoded at most.
        """
        check_tokens(self.base, (token for prompt in prompts for token in prompt), self.tokenizer)
        fast = self._fast_path(self.model, max(map(len, prompts)) + max_new_tokens)
        if fast is None:
            if not self._stepped:
                check_steps(self.model, max(prompts, key=len), self.tokenizer.pad_token_id)
                self._stepped = True
            return PlainSteps(self.model, prompts, group, self.tokenizer.pad_token_id)
        return fast.steps(prompts, group, max_new_tokens, cuda_graphs=self.cuda_graphs, kept=self._kept)

    def release_caches(self) -> None:
        """Give back the memory that is kept for the next call."""
        self._kept.clear()

    def _logprobs_of(self, model: nn.Module, batch: Minibatch) -> TokenLogprobs:
        fast = self._fast_path(model, batch.prompt_mask.shape[-1] + batch.completion_mask.shape[-1])
        if fast is not None:
            return fast.logprobs(
                batch, self.temperature, recompute=self.gradient_checkpointing, compiled=self.compiles_layers
            )
        if self.gradient_checkpointing:
            say_once("gradient_checkpointing=true does nothing on the plain path: use smaller micro-batches.")
        return completion_logprobs(model, batch, self.temperature)

    def _fast_path(self, model: nn.Module, length: int) -> FastPath | None:
        """The engine for sequences of ``length`` tokens, or None where it is off or does not serve: its only door."""
        if not self.fast:
            return None
        from grouprl.policy.engine.entry import FastPath

        return FastPath.of(model, length)

    def keep_reference(self) -> None:
        """Keep the starting policy for a KL term: the base with the adapter off, or else a frozen copy."""
        if not self.has_adapter:
            self.reference = copy.deepcopy(self.model).requires_grad_(False)

    @torch.no_grad()
    def reference_logprobs(self, batch: Minibatch) -> Tensor:
        """Logprobs of a batch's completion tokens under the starting policy, [sequences, tokens] in nats.

        Raises:
            ValueError: No reference was kept, and there is no adapter to turn off.
        """
        with self._starting_model() as model:
            return self._logprobs_of(model, batch).logprobs

    @torch.no_grad()
    def frozen_fingerprint(self) -> list[int]:
        """Sum, and sum of squares, of the bits of the frozen weights (under an adapter, or the reference's).

        Sums of integers modulo 2^64: the same on every device and in any order. Empty without frozen weights.
        """
        frozen = [parameter for parameter in self.parameters() if not parameter.requires_grad]
        bits = (parameter.detach().contiguous().view(_BITS[parameter.element_size()]).long() for parameter in frozen)
        sums = [torch.stack((values.sum(), values.square().sum())).cpu() for values in bits]
        return torch.stack(sums).sum(0).tolist() if frozen else []

    @contextlib.contextmanager
    def _starting_model(self) -> Iterator[nn.Module]:
        if self.has_adapter:
            with self.model.disable_adapter():  # type: ignore[operator]
                yield self.model
        elif self.reference is not None:
            yield self.reference
        else:
            raise ValueError("No reference was kept. Set beta above 0 before training, or call keep_reference().")

    def save(self, folder: str | Path, *, merged: bool = False) -> Path:
        """Write a Hugging Face folder: the model, or the adapter alone under LoRA.

        With ``merged``, and where the base was itself made by merging an adapter, the adapter is merged and the whole
        model is written.
        """
        folder = Path(folder)
        model = self.model
        if self.has_adapter and (merged or self.base_is_merged):
            model = copy.deepcopy(model).merge_and_unload(safe_merge=True)  # type: ignore[operator]
        with replacing_files(folder) as place:
            model.save_pretrained(str(place))  # type: ignore[operator]
            (place / "README.md").unlink(missing_ok=True)  # PEFT's card, which names the base by its path
            self.tokenizer.save_pretrained(str(place))
        return folder
