"""The policy: a causal language model with its tokenizer, optional LoRA adapter and frozen reference."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from grouprl import checks
from grouprl.batch import Minibatch
from grouprl.logprobs import TokenLogprobs, completion_logprobs
from grouprl.model_folder import check_policy_folder
from grouprl.packing import packed_logprobs
from grouprl.stack import Stack, say_once

TINY_FOLDER = Path(__file__).parent / "tiny" / "model"
TINY_TOOLS_FOLDER = Path(__file__).parent / "tiny" / "tool_model"
_EMBEDDED = {"tiny": TINY_FOLDER, "tiny_tools": TINY_TOOLS_FOLDER}


@dataclass(frozen=True)
class LoraAdapter:
    """A LoRA adapter (arXiv 2106.09685) on linear layers; only its weights are trained and saved."""

    rank: int = 16
    alpha: int = 32
    targets: str | Sequence[str] = "all-linear"
    """Names of the layers to adapt, or ``all-linear``."""
    init: bool | str = True
    """PEFT's ``init_lora_weights``. Starts that change the base (pissa, olora) are refused."""

    def __post_init__(self) -> None:
        checks.lora_adapter(self.rank, self.init)

    def attach(self, model: PreTrainedModel) -> nn.Module:
        """The model with a fresh adapter whose output is 0 at the start."""
        from peft import LoraConfig, get_peft_model

        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=targets,
            lora_dropout=0.0,
            bias="none",
            init_lora_weights=self.init,  # type: ignore[arg-type]
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, config)


class Policy(nn.Module):
    """A language model that is trained, and the frozen policy it started from.

    Dropout is off in every pass (sampling, old, new and reference logprobs come from one distribution): the model
    stays in eval mode, whatever `train` is called with.
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
            cuda_graphs: On a CUDA GPU, decode by CUDA graphs on the fast path (see `grouprl.decoding_graphs`).
            compile: Train with layers compiled by `torch.compile` on the fast path: a minute or more at the start,
                worth it on a GPU for models of half a billion weights and more. Sampling is not compiled.
        """
        super().__init__()
        checks.policy(
            fast=fast, gradient_checkpointing=gradient_checkpointing, cuda_graphs=cuda_graphs, compile=compile
        )
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: give a number above 0.")
        self.model: nn.Module = adapter.attach(model) if adapter else model
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.fast, self.gradient_checkpointing = fast, gradient_checkpointing
        self.cuda_graphs, self.compiles_layers = cuda_graphs, compile
        self.has_adapter = adapter is not None
        self.base_is_merged = False
        """Whether the base is no folder's: an adapter alone would then name a base it was not trained on."""
        self.reference: nn.Module | None = None
        self.eval()

    def train(self, mode: bool = True) -> Policy:
        """Stay in eval mode: see the class docstring."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def context(self) -> int | None:
        """Longest prompt and completion together, in tokens, or None where the model does not say."""
        return getattr(self.base.config, "max_position_embeddings", None)

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model, under the adapter if there is one."""
        return self.model.get_base_model() if self.has_adapter else self.model  # type: ignore[operator, return-value]

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a completion: those of the generation config, and the tokenizer's."""
        ids: list[int] = []
        for source in (self.base.generation_config, self.base.config, self.tokenizer):
            eos = getattr(source, "eos_token_id", None)
            ids += eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos]
        return tuple(dict.fromkeys(ids))

    def logprobs(self, batch: Minibatch) -> TokenLogprobs:
        """Current logprobs of a batch's completions, with gradient."""
        return self._logprobs_of(self.model, batch)

    def stack(self, length: int, model: nn.Module | None = None) -> Stack | None:
        """The decoder stack of the fast paths for sequences of ``length`` tokens, or None where they do not serve."""
        stack = Stack.of(model or self.model) if self.fast else None
        return stack if stack is not None and stack.serves(length) else None

    def _logprobs_of(self, model: nn.Module, batch: Minibatch) -> TokenLogprobs:
        stack = self.stack(batch.prompt_mask.shape[-1] + batch.completion_mask.shape[-1], model)
        if stack is None:
            if self.gradient_checkpointing:
                say_once("gradient_checkpointing=true does nothing on the plain path: use smaller micro-batches.")
            return completion_logprobs(model, batch, self.temperature)
        stack = replace(stack, compiled=self.compiles_layers)
        return packed_logprobs(stack, batch, self.temperature, recompute=self.gradient_checkpointing)

    def keep_reference(self) -> None:
        """Keep the starting policy for a KL term: the base with the adapter off, or else a frozen copy."""
        if not self.has_adapter:
            self.reference = copy.deepcopy(self.model).requires_grad_(False)

    @torch.no_grad()
    def reference_logprobs(self, batch: Minibatch) -> Tensor:
        """Logprobs of a batch's completions under the starting policy."""
        with self._starting_model() as model:
            return self._logprobs_of(model, batch).logprobs

    @torch.no_grad()
    def frozen_fingerprint(self) -> list[float]:
        """Numbers that change if a frozen weight does: of the base under the adapter, or of the reference."""
        frozen = [parameter for parameter in self.parameters() if not parameter.requires_grad]
        norms = [parameter.double().square().sum() for parameter in frozen]
        sums = [parameter.double().sum() for parameter in frozen]
        return [float(torch.stack(values).sum()) for values in (norms, sums)] if frozen else []

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
        model.save_pretrained(str(folder))  # type: ignore[operator]
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's card, which names the base by its path
        self.tokenizer.save_pretrained(str(folder))
        return folder


def load_policy(
    path: str,
    *,
    adapter: LoraAdapter | None = None,
    temperature: float = 1.0,
    dtype: str = "float32",
    attention: str = "sdpa",
    fast: bool = True,
    gradient_checkpointing: bool = False,
    cuda_graphs: bool = True,
    compile: bool = False,
    trust_remote_code: bool = False,
) -> Policy:
    """Load a policy from a Hugging Face folder or hub id; an adapter folder is merged into its base.

    Args:
        path: Hub id, local folder, ``tiny`` (the embedded policy) or ``tiny_tools`` (taught to use Python).
        adapter: LoRA adapter to train.
        temperature: Temperature of sampling and training.
        dtype: Dtype of the weights. float32 are the master weights; bfloat16 rounds small updates away.
        attention: Attention implementation of transformers, for the plain paths.
        fast: See `Policy`.
        gradient_checkpointing: See `Policy`.
        cuda_graphs: See `Policy`.
        compile: See `Policy`.
        trust_remote_code: Run model code that comes with the weights.
    """
    folder = str(_EMBEDDED.get(path, path))
    check_policy_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=trust_remote_code)
    except OSError as error:
        raise ValueError(
            f"policy.path={path}: no folder here has that name, and it could not be had from the Hugging Face hub "
            f"({str(error).strip().splitlines()[0][:200]})."
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    arguments: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "attn_implementation": attention,
        "trust_remote_code": trust_remote_code,
        "use_safetensors": True,
    }
    merged = False
    if (Path(folder) / "adapter_config.json").is_file():
        from peft import AutoPeftModelForCausalLM

        arguments.pop("use_safetensors")
        merged = True
        model = AutoPeftModelForCausalLM.from_pretrained(folder, **arguments).merge_and_unload(safe_merge=True)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, **arguments)
    policy = Policy(
        model,
        tokenizer,
        adapter=adapter or None,
        temperature=temperature,
        fast=fast,
        gradient_checkpointing=gradient_checkpointing,
        cuda_graphs=cuda_graphs,
        compile=compile,
    )
    policy.base_is_merged = merged
    return policy


def pad_left(prompts: Sequence[Sequence[int]], policy: Policy) -> tuple[Tensor, Tensor]:
    """Prompt tokens [prompts, prompt_tokens], padded on the left, and their mask."""
    width = max(len(ids) for ids in prompts)
    pad = policy.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts], device=policy.device)
    lengths = torch.tensor([len(ids) for ids in prompts], device=policy.device)
    return ids, torch.arange(width, device=policy.device) >= (width - lengths).unsqueeze(-1)
