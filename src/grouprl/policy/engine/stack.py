"""The decoder layers of Llama-shaped models, with attention left to the caller: what both fast paths stand on.

The training path (`grouprl.policy.engine.packing`) attends from packed rows to a prompt that its group shares, the
sampler (`grouprl.policy.engine.steps`) to a preallocated cache. `DecoderStack.of` reads the modules of a transformers
model, never copies of their weights, and gives None for a model it does not know; then the plain paths serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import rms_norm, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from grouprl.checks import say_once
from grouprl.policy.engine.head import TiedTable
from grouprl.policy.engine.linears import Linears, linears, only
from grouprl.policy.engine.products import logits

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Number of the layer, queries [rows, heads, head_dim], keys and values [rows, kv_heads, head_dim] to the attended
values [rows, heads, head_dim]."""


_ARCHITECTURES = ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "GemmaForCausalLM")


_ROPE = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Block:
    """One decoder layer as functions of rows [rows, hidden]."""

    input_norm: Callable[[Tensor], Tensor]
    qkv: Linears
    q_norm: Callable[[Tensor], Tensor] | None
    k_norm: Callable[[Tensor], Tensor] | None
    out: Callable[[Tensor], Tensor]
    mlp_norm: Callable[[Tensor], Tensor]
    mlp: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, layer: Any) -> Block:
        """The functions of a transformers layer; its linear modules are called as they are, adapters included."""
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            input_norm=_norm(layer.input_layernorm),
            qkv=linears(attention.q_proj, attention.k_proj, attention.v_proj),
            q_norm=_norm(attention.q_norm) if hasattr(attention, "q_norm") else None,
            k_norm=_norm(attention.k_norm) if hasattr(attention, "k_norm") else None,
            out=only(linears(attention.o_proj)),
            mlp_norm=_norm(layer.post_attention_layernorm),
            mlp=_GatedMLP(linears(mlp.gate_proj, mlp.up_proj), mlp.act_fn, only(linears(mlp.down_proj))),
        )


@dataclass(frozen=True)
class DecoderStack:
    """Embedding, decoder layers and head of a causal language model.

    The head is linear; `head_weight` is [vocabulary, hidden].
    """

    model: nn.Module
    blocks: tuple[Block, ...]
    heads: int
    kv_heads: int
    head_dim: int
    scaling: float
    longest: int | None
    """Longest sequence for which full attention is what the model does (its sliding window), None: any."""
    head: Callable[[Tensor], Tensor]
    """Logits [rows, vocabulary] of final hidden states, in float32 at least."""
    compiled: bool = False
    """Whether layers run compiled, all but their attention."""

    @classmethod
    def of(cls, model: nn.Module) -> DecoderStack | None:
        """The stack of a transformers model, PEFT or bare, or None where it is of another kind (said once)."""
        base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        reason = _unsupported(base) or _hooked(model)
        if reason:
            say_once(f"{type(base).__name__}: sampling and training take the plain path of transformers: {reason}.")
            return None
        attention = base.model.layers[0].self_attn
        windows = {getattr(layer.self_attn, "sliding_window", None) for layer in base.model.layers}
        if type(base).__name__ == "MistralForCausalLM":
            windows.add(base.config.sliding_window)
        return cls(
            model=base,
            blocks=tuple(Block.of(layer) for layer in base.model.layers),
            heads=base.config.num_attention_heads,
            kv_heads=base.config.num_key_value_heads,
            head_dim=attention.head_dim,
            scaling=attention.scaling,
            longest=min((window for window in windows if window), default=None),
            head=lambda hidden: logits(hidden, base.lm_head.weight),
        )

    @property
    def head_weight(self) -> Tensor:
        """Weight of the head, [vocabulary, hidden]."""
        return self.model.lm_head.weight  # type: ignore[union-attr, return-value]

    @property
    def layer_weights(self) -> int:
        """Number of weights of all decoder layers."""
        base: Any = self.model
        return sum(int(parameter.numel()) for parameter in base.model.layers.parameters())

    def serves(self, length: int) -> bool:
        """Whether sequences of so many tokens are attended to in full."""
        return self.longest is None or length <= self.longest

    def tied_table(self) -> TiedTable | None:
        """The matrix that is embedding and head, where it is one and is trained."""
        table: Any = self.model.model.embed_tokens  # type: ignore[union-attr]
        tied = table.weight is self.head_weight and type(table) is nn.Embedding
        if not tied or not table.weight.requires_grad or not torch.is_grad_enabled():
            return None
        return TiedTable(table.weight, table.padding_idx)

    def hidden_states(
        self,
        token_ids: Tensor,
        positions: Tensor,
        attend: Attend,
        *,
        table: TiedTable | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Final hidden states of rows, [rows, hidden].

        Args:
            token_ids: Tokens [rows], of one or more sequences.
            positions: Position of each in its sequence, [rows].
            attend: Attention among the rows, and to what came before.
            table: Embed with this (see `tied_table`).
            recompute: Keep no activations within layers for the backward pass (gradient checkpointing).
        """
        base: Any = self.model.model
        x = base.embed_tokens(token_ids) if table is None else table.embed(token_ids)
        cos, sin = (table[0].unsqueeze(1) for table in base.rotary_emb(x, positions.unsqueeze(0)))
        for number, block in enumerate(self.blocks):
            if recompute and torch.is_grad_enabled():
                x = checkpoint(self._layer, number, block, x, cos, sin, attend, use_reentrant=False)
            else:
                x = self._layer(number, block, x, cos, sin, attend)
        return _norm(base.norm)(x)

    def _layer(self, number: int, block: Block, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        before, after = _compiled_halves() if self.compiled else (_before_attention, _after_attention)
        return after(block, x, attend(number, *before(block, x, cos, sin, self.head_dim)))


@dataclass(frozen=True)
class _GatedMLP:
    gate_up: Linears
    activation: Callable[[Tensor], Tensor]
    down: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x)
        return self.down(self.activation(gate) * up)


def _norm(module: Any) -> Callable[[Tensor], Tensor]:
    """RMS norm of a transformers module; Gemma's weights are offsets from 1."""
    if type(module).__name__ == "GemmaRMSNorm":
        return lambda x: _rms_norm(x, 1.0 + module.weight, module.eps)
    return lambda x: _rms_norm(x, module.weight, module.variance_epsilon)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    if x.device.type == "cpu" and x.dtype == weight.dtype and not torch.is_autocast_enabled("cpu"):
        return _RMSNorm.apply(x, weight, eps)  # type: ignore[no-any-return]
    return rms_norm(x, x.shape[-1:], weight, eps)


class _RMSNorm(torch.autograd.Function):
    """PyTorch has no kernel of it for the CPU, and composes it and its gradient of twice as many passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = torch.linalg.vecdot(x, x).unsqueeze(-1).div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        normed, inverse, weight = ctx.saved_tensors
        weight_grad = (grad * normed).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        scaled = grad * weight
        mean = torch.linalg.vecdot(scaled, normed).unsqueeze(-1).div_(normed.shape[-1])
        return scaled.addcmul_(normed, mean, value=-1).mul_(inverse), weight_grad, None


def _before_attention(block: Block, x: Tensor, cos: Tensor, sin: Tensor, head_dim: int) -> tuple[Tensor, ...]:
    q, k, v = (part.unflatten(-1, (-1, head_dim)) for part in block.qkv(block.input_norm(x)))
    q = q if block.q_norm is None else block.q_norm(q)
    k = k if block.k_norm is None else block.k_norm(k)
    # Under autocast the rotary tables are wider than the values: so keys would take twice their memory.
    return _rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype), v


def _after_attention(block: Block, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.out(attended.flatten(-2))
    return x + block.mlp(block.mlp_norm(x))


@lru_cache(maxsize=1)
def _compiled_halves() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two halves of a layer, each compiled once for all layers and row counts."""
    return torch.compile(_before_attention, dynamic=True), torch.compile(_after_attention, dynamic=True)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, *, repeat: bool | None = None, **settings: Any) -> Tensor:
    """Attention of [sequences, heads, tokens, head_dim] where query heads may share a key head.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        repeat: Repeat keys and values for the query heads. None: on CUDA, where torch has hardly a kernel that takes
            grouped heads with a mask; what serves in its place keeps the scores of all pairs of tokens.
        settings: Further arguments of `torch.nn.functional.scaled_dot_product_attention`.
    """
    groups = q.shape[1] // k.shape[1]
    if groups > 1 and (q.is_cuda if repeat is None else repeat):
        k, v, groups = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), 1
    return scaled_dot_product_attention(q, k, v, enable_gqa=groups > 1, **settings)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of [rows, heads, head_dim] by tables [rows, 1, head_dim]."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def _unsupported(base: Any) -> str:
    """Why a model has no stack, or an empty text."""
    if type(base).__name__ not in _ARCHITECTURES or not type(base).__module__.startswith("transformers."):
        return f"the fast path knows {', '.join(name.removesuffix('ForCausalLM') for name in _ARCHITECTURES)}"
    rope = (getattr(base.config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in _ROPE:
        return f"its rotary embedding {rope!r} depends on the length"
    if type(base.lm_head) is not nn.Linear or base.lm_head.bias is not None:
        return "its head is not a plain matrix"
    return ""


def _hooked(model: nn.Module) -> str:
    """Whether a module, those that PEFT wraps around a model included, has hooks: why there is no stack, or empty."""
    for module in model.modules():
        forward = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        if forward or module._backward_hooks or module._backward_pre_hooks:
            return "modules have hooks, which the fast path would not call"
    return ""
