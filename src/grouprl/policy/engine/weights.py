"""A copy of a stack's weights to decode with: in the dtype of autocast, in few large matrices, refreshed in place.

Under autocast each linear layer casts its float32 weights anew at each call: at each decoded token, three times the
bytes that a bfloat16 copy takes to read. A CUDA graph reads the addresses it was captured with, so that on a GPU the
copy is one for good, into which the weights of the moment are copied. On a CPU it is made anew for each rollout, in the
layout that oneDNN has for few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from grouprl.policy.engine.products import logits, onednn_serves, pack, product
from grouprl.policy.engine.stack import Block, DecoderStack

_FUSE_BELOW = 2**28
"""Layers of fewer weights than this are copied into fused matrices for the time of decoding."""


def is_copied(stack: DecoderStack, dtype: torch.dtype | None) -> bool:
    """Whether to decode with a copy of the weights: in another dtype, or of few weights in large matrices."""
    other = dtype not in (None, stack.head_weight.dtype)
    return (other or stack.layer_weights < _FUSE_BELOW) and DecodingWeights.copies(stack)


def with_copy(stack: DecoderStack) -> DecoderStack:
    """The stack with a copy of its weights of the moment, where it pays to decode with one."""
    kind = stack.head_weight.device.type
    autocast_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    if not is_copied(stack, autocast_dtype):
        return stack
    dtype, packed = autocast_dtype or stack.head_weight.dtype, onednn_serves(stack.head_weight)
    weights = DecodingWeights(stack, dtype, adapter_dtype=autocast_dtype, packed=packed)
    weights.refresh()
    return weights.stack


class DecodingWeights:
    """The weights of all layers and, where dtype or layout is another, of the head: 2 bytes a weight in bfloat16.

    Norms and the embedding, of which a step reads little, are the model's own. LoRA adapters are merged where that is
    exact up to rounding (float32 and float64); elsewhere they are applied beside the copy, as PEFT does.
    """

    def __init__(
        self,
        stack: DecoderStack,
        dtype: torch.dtype,
        adapter_dtype: torch.dtype | None = None,
        *,
        packed: bool = False,
    ) -> None:
        """Make room for a copy; `refresh` fills it.

        Args:
            stack: The model's, for which `copies` is true.
            dtype: Dtype of the copy.
            adapter_dtype: Dtype of adapters that are not merged; None: their own.
            packed: In oneDNN's layout (see `grouprl.policy.engine.products.pack`), and in new memory at each `refresh`.
        """
        merge = dtype in (torch.float32, torch.float64)
        self.matrices: list[_Joined] = []

        def joined(*modules: nn.Module) -> _Joined:
            self.matrices.append(_Joined(modules, dtype, adapter_dtype, merge=merge, packed=packed))
            return self.matrices[-1]

        def copied(block: Block, layer: Any) -> Block:
            attention, mlp = layer.self_attn, layer.mlp
            gate_up, down = joined(mlp.gate_proj, mlp.up_proj), joined(mlp.down_proj)

            def gated(x: Tensor) -> Tensor:
                gate, up = gate_up.parts(x)
                return down(mlp.act_fn(gate) * up)

            qkv, out = joined(attention.q_proj, attention.k_proj, attention.v_proj), joined(attention.o_proj)
            return replace(block, qkv=qkv.parts, out=out, mlp=gated)

        base: Any = stack.model
        layers = zip(stack.blocks, base.model.layers, strict=True)
        blocks = tuple(copied(block, layer) for block, layer in layers)
        self.stack = replace(stack, blocks=blocks, head=self._head(stack, dtype, packed=packed))

    def _head(self, stack: DecoderStack, dtype: torch.dtype, *, packed: bool) -> Callable[[Tensor], Tensor]:
        """Logits of hidden states; on a CPU of a float32 copy, since it has no product of bfloat16 that answers so."""
        base: Any = stack.model
        if not stack.head_weight.is_cuda and dtype in (torch.bfloat16, torch.float16):
            dtype = torch.float32
            with torch.autocast("cpu", enabled=False):
                packed = onednn_serves(stack.head_weight)
        if not packed and stack.head_weight.dtype == dtype:
            return stack.head
        self.matrices.append(matrix := _Joined((base.lm_head,), dtype, None, merge=True, packed=packed))
        return lambda hidden: logits(hidden, matrix.weight)

    @classmethod
    def copies(cls, stack: DecoderStack) -> bool:
        """Whether all layers are plain or LoRA linear layers."""
        base: Any = stack.model
        return all(map(_is_known, _linears(base.model.layers)))

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the weights of the moment."""
        for matrix in self.matrices:
            matrix.refresh()

    @property
    def bytes(self) -> int:
        """Memory of the copy."""
        return sum(tensor.nbytes for matrix in self.matrices for tensor in matrix.tensors())


class _Joined:
    """Linear layers of one input as one matrix, their adapters merged or beside it."""

    def __init__(
        self,
        modules: tuple[nn.Module, ...],
        dtype: torch.dtype,
        adapter_dtype: torch.dtype | None,
        *,
        merge: bool,
        packed: bool,
    ) -> None:
        self.modules, self.dtype, self.packed = modules, dtype, packed
        bases = [_base(module) for module in modules]
        self.sizes = tuple(base.out_features for base in bases)
        weight = bases[0].weight
        self.weight = self._room()
        # Of layers with and without a bias, those without get zeros.
        biased = any(base.bias is not None for base in bases)
        self.bias = weight.new_zeros(sum(self.sizes), dtype=dtype, requires_grad=False) if biased else None
        self.down: Tensor | None = None
        """First matrices of the adapters one below the other, [ranks, in_features]."""
        self.up: Tensor | None = None
        """Second matrices times their scaling, each in the rows of its layer, [out_features, ranks]; else 0."""
        first = [_adapter(module, name)[0] for module in modules for name in _adapters(module)]
        if first and not merge:
            ranks = sum(len(matrix) for matrix in first)
            adapter_dtype = adapter_dtype or first[0].dtype
            self.down = weight.new_empty(ranks, bases[0].in_features, dtype=adapter_dtype, requires_grad=False)
            self.up = weight.new_zeros(sum(self.sizes), ranks, dtype=adapter_dtype, requires_grad=False)

    def tensors(self) -> Iterator[Tensor]:
        return (tensor for tensor in (self.weight, self.bias, self.down, self.up) if tensor is not None)

    def _room(self) -> Tensor:
        weight = _base(self.modules[0]).weight
        return weight.new_empty(sum(self.sizes), weight.shape[1], dtype=self.dtype, requires_grad=False)

    def refresh(self) -> None:
        weight = self._room() if self.packed else self.weight
        if self.packed and len(self.modules) == 1 and not _adapters(self.modules[0]):
            weight = _base(self.modules[0]).weight  # packed without a copy between: a head is large
        row = rank = 0
        for module in self.modules:
            base = _base(module)
            rows = slice(row, row := row + base.out_features)
            if weight is not base.weight:
                weight[rows].copy_(base.weight)
            if self.bias is not None and base.bias is not None:
                self.bias[rows].copy_(base.bias)
            for name in _adapters(module):
                down, up, scaling = _adapter(module, name)
                if self.down is not None and self.up is not None:
                    columns = slice(rank, rank := rank + len(down))
                    self.down[columns].copy_(down)
                    self.up[rows, columns].copy_(up * (0.0 if module.disable_adapters else scaling))
                elif not module.disable_adapters:
                    weight[rows].addmm_(up, down, alpha=scaling)
        self.weight = pack(weight) if self.packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        out = product(x, self.weight, self.bias)
        if self.down is None or self.up is None:
            return out
        return (out + linear(linear(x.to(self.down.dtype), self.down), self.up)).to(out.dtype)

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        return self(x).split(self.sizes, -1)


def _linears(layers: Any) -> Iterator[nn.Module]:
    for layer in layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        yield from (mlp.gate_proj, mlp.up_proj, mlp.down_proj)


def _is_known(module: Any) -> bool:
    """Whether a layer is linear, with no adapter or with LoRA adapters in their plain form."""
    if type(module) is nn.Linear:
        return True
    return (
        type(getattr(module, "base_layer", None)) is nn.Linear
        and hasattr(module, "lora_A")
        and not getattr(module, "lora_variant", None)
        and not module.merged
        and all(type(layer) is nn.Linear and layer.bias is None for layer in module.lora_B.values())
    )


def _base(module: Any) -> nn.Linear:
    return module.base_layer if hasattr(module, "lora_A") else module


def _adapters(module: Any) -> tuple[str, ...]:
    """Names of the active adapters, whether or not they are disabled."""
    return tuple(name for name in getattr(module, "active_adapters", ()) if name in module.lora_A)


def _adapter(module: Any, name: str) -> tuple[Tensor, Tensor, float]:
    return module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]
