"""Linear layers of one input: LoRA without its detours in training, weights laid out for few rows in decoding.

`linears` gives what the modules give, with gradients for training; `Joined` is a frozen copy for the time of decoding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

Linears = Callable[[Tensor], tuple[Tensor, ...]]
"""Rows [rows, in] to the outputs [rows, out] of some linear layers."""

_PACKED_ROWS = 16
"""Rows that packed weights are laid out for; other numbers work as well."""
_log = logging.getLogger(__name__)


def linears(*modules: Any) -> Linears:
    """The outputs of modules that have the same input; LoRA layers in one function, other modules as they are."""

    def call(x: Tensor) -> tuple[Tensor, ...]:
        parts = [_lora_parts(module) for module in modules]
        if any(part is None for part in parts):
            return tuple(module(x) for module in modules)
        scales = tuple(part.scale for part in parts if part is not None)
        tensors = (tensor for part in parts if part is not None for tensor in part.tensors)
        return _LoraLinears.apply(x, scales, *tensors)  # type: ignore[no-any-return]

    return call


@dataclass(frozen=True)
class _LoraPart:
    """A linear layer with one adapter: ``y = x W^T + bias + scale (x A^T) B^T``."""

    scale: float
    tensors: tuple[Tensor, Tensor | None, Tensor, Tensor]
    """W [out, in], bias [out], A [rank, in], B [out, rank]"""


def _lora_parts(module: Any) -> _LoraPart | None:
    """What PEFT computes in a LoRA layer, or None for any other module, variant or dtype.

    In bfloat16, and under an autocast to it, a merge would round small adapters away.
    """
    base: Any = getattr(module, "base_layer", None)
    names: Sequence[str] = getattr(module, "active_adapters", ())
    if type(base) is not nn.Linear or not hasattr(module, "lora_A") or module.disable_adapters or module.merged:
        return None
    if len(names) != 1 or names[0] not in module.lora_A:
        return None
    name = names[0]
    down, up, dropout = module.lora_A[name], module.lora_B[name], module.lora_dropout[name]
    if name in getattr(module, "lora_variant", {}) or not isinstance(dropout, nn.Identity) or up.bias is not None:
        return None
    if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return None
    dtypes = {tensor.dtype for tensor in (base.weight, down.weight, up.weight)}
    if dtypes not in ({torch.float32}, {torch.float64}) or torch.is_autocast_enabled(base.weight.device.type):
        return None
    return _LoraPart(float(module.scaling[name]), (base.weight, base.bias, down.weight, up.weight))


class _LoraLinears(torch.autograd.Function):
    """LoRA layers of one input, merged in the forward pass; only their input is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: tuple[float, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.scales = scales
        ctx.save_for_backward(x, *tensors)
        outputs = []
        for scale, (weight, bias, down, up) in zip(scales, _fours(tensors), strict=True):
            outputs.append(linear(x, torch.addmm(weight, up, down, alpha=scale), bias))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        x, *tensors = ctx.saved_tensors
        parts = _fours(tensors)
        rows = x.flatten(0, -2)
        x_grad: Tensor | None = None
        inner = rows @ torch.cat([down for _, _, down, _ in parts]).T
        inners = inner.split([len(down) for _, _, down, _ in parts], -1)
        found: list[Tensor | None] = []
        flat = [grad.flatten(0, -2) for grad in grads]
        for scale, (weight, _, down, up), inner, grad in zip(ctx.scales, parts, inners, flat, strict=True):
            inner_grad = (grad @ up).mul_(scale)
            if ctx.needs_input_grad[0]:
                x_grad = grad @ weight if x_grad is None else x_grad.addmm_(grad, weight)
                x_grad.addmm_(inner_grad, down)
            found += [None, None, inner_grad.T @ rows, (grad.T @ inner).mul_(scale)]
        return None if x_grad is None else x_grad.view_as(x), None, *found


def _fours(tensors: Sequence[Any]) -> list[tuple[Any, Any, Any, Any]]:
    return [tuple(tensors[start : start + 4]) for start in range(0, len(tensors), 4)]  # type: ignore[misc]


def only(layers: Linears) -> Callable[[Tensor], Tensor]:
    """The output of a single layer."""
    return lambda x: layers(x)[0]


@dataclass(frozen=True)
class Joined:
    """Linear layers of one input as one matrix, for inputs of few rows."""

    weight: Tensor
    bias: Tensor | None
    sizes: tuple[int, ...]
    packed: bool
    """Whether the weight is in oneDNN's own layout."""

    @classmethod
    def of(cls, *parts: tuple[Tensor, Tensor | None]) -> Joined:
        weights = [weight for weight, _ in parts]
        biases = [bias for _, bias in parts if bias is not None]
        assert len(biases) in (0, len(parts))
        sizes = tuple(len(weight) for weight in weights)
        weight = weights[0] if len(parts) == 1 else torch.cat(weights)
        bias = torch.cat(biases) if biases else None
        packed = weight.device.type == "cpu" and weight.dtype == torch.float32
        packed = packed and not torch.is_autocast_enabled("cpu") and _has_onednn()
        if packed:
            # For few rows BLAS spends most of its time on laying the weight out, at every call.
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_ROWS)
        return cls(weight, bias, sizes, packed)

    def single(self, x: Tensor) -> Tensor:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return linear(x, self.weight, self.bias)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.single(x).split(self.sizes, -1)


@lru_cache(maxsize=1)
def _has_onednn() -> bool:
    """Whether this PyTorch has the operators that its own compiler uses for frozen weights, and they work."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    x, weight = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 2)
        result = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    except (RuntimeError, TypeError, NotImplementedError) as error:
        _log.warning("Sampling uses weights in their plain layout: oneDNN's could not be used (%s).", error)
        return False
    return torch.equal(result, weight.T)


def dense(module: Any) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias of a linear layer with its LoRA adapter merged, or None where there is no such exact pair."""
    part = _lora_parts(module)
    if part is not None:
        weight, bias, down, up = part.tensors
        with torch.no_grad():
            return torch.addmm(weight, up, down, alpha=part.scale), bias
    base = module.base_layer if getattr(module, "disable_adapters", False) and not module.merged else module
    if type(base) is not nn.Linear:
        return None
    return base.weight.detach(), None if base.bias is None else base.bias.detach()
