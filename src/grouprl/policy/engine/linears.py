"""Linear layers of one input, for training: LoRA without its detours, and the faster of two libraries on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from grouprl.policy.engine.products import onednn_serves, product

Linears = Callable[[Tensor], tuple[Tensor, ...]]
"""Rows [rows, in] to the outputs [rows, out] of some linear layers."""


def linears(*modules: Any) -> Linears:
    """The outputs of modules that have the same input.

    Plain linear layers on a CPU, and LoRA layers, are computed in one function; other modules as they are.
    """

    def call(x: Tensor) -> tuple[Tensor, ...]:
        parts = [_lora_part(module) or _plain_part(module, x) for module in modules]
        if any(part is None for part in parts):
            return tuple(module(x) for module in modules)
        scales = tuple(part.scale for part in parts if part is not None)
        tensors = (tensor for part in parts if part is not None for tensor in part.tensors)
        return _Linears.apply(x, scales, *tensors)  # type: ignore[no-any-return]

    return call


@dataclass(frozen=True)
class _Part:
    """A linear layer, which may have an adapter: ``y = x (W + scale B A)^T + bias``."""

    scale: float
    tensors: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
    """W [out, in], bias [out], A [rank, in], B [out, rank]; without an adapter neither A nor B."""


def _lora_part(module: Any) -> _Part | None:
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
    if type(down) is not nn.Linear or type(up) is not nn.Linear or up.bias is not None:
        return None
    if name in getattr(module, "lora_variant", {}) or not isinstance(dropout, nn.Identity):
        return None
    if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return None
    dtypes = {tensor.dtype for tensor in (base.weight, down.weight, up.weight)}
    if dtypes not in ({torch.float32}, {torch.float64}) or torch.is_autocast_enabled(base.weight.device.type):
        return None
    return _Part(float(module.scaling[name]), (base.weight, base.bias, down.weight, up.weight))


def _plain_part(module: Any, x: Tensor) -> _Part | None:
    """A layer without adapter, or with its adapter off, where this module knows a faster product than torch's."""
    base = _without_adapter(module)
    if base is None or not onednn_serves(x, base.weight):
        return None
    return _Part(0.0, (base.weight, base.bias, None, None))


def _without_adapter(module: Any) -> nn.Linear | None:
    """The plain linear layer that a module is while its adapter is off, or None."""
    base = module.base_layer if getattr(module, "disable_adapters", False) and not module.merged else module
    return base if type(base) is nn.Linear else None


class _Linears(torch.autograd.Function):
    """Layers of one input, their adapters merged; only the input is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: tuple[float, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.scales = scales
        ctx.save_for_backward(x, *tensors)
        parts = zip(scales, _fours(tensors), strict=True)
        return tuple(product(x, _merged(scale, weight, down, up), bias) for scale, (weight, bias, down, up) in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        x, *tensors = ctx.saved_tensors
        parts = _fours(tensors)
        needs = _fours(ctx.needs_input_grad[2:])
        rows = x.flatten(0, -2)
        x_grad: Tensor | None = None
        inners = _inner(rows, [down for _, _, down, _ in parts])
        found: list[Tensor | None] = []
        flat = [grad.flatten(0, -2) for grad in grads]
        for scale, (weight, _, down, up), inner, need, grad in zip(ctx.scales, parts, inners, needs, flat, strict=True):
            if ctx.needs_input_grad[0]:
                part = product(grad, _merged(scale, weight, down, up).T)
                x_grad = part if x_grad is None else x_grad.add_(part)
            found += [grad.T @ rows if need[0] else None, grad.sum(0) if need[1] else None]
            if inner is None:
                found += [None, None]
            else:
                found += [product(grad, up.T).mul_(scale).T @ rows, (inner.T @ grad).mul_(scale).T]
        return None if x_grad is None else x_grad.view_as(x), None, *found


def _merged(scale: float, weight: Tensor, down: Tensor | None, up: Tensor | None) -> Tensor:
    return weight if down is None or up is None else torch.addmm(weight, up, down, alpha=scale)


def _inner(rows: Tensor, downs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Rows times the first matrix of each adapter, all in one product."""
    adapters = [down for down in downs if down is not None]
    found = iter((rows @ torch.cat(adapters).T).split([len(down) for down in adapters], -1) if adapters else ())
    return [None if down is None else next(found) for down in downs]


def _fours(tensors: Sequence[Any]) -> list[tuple[Any, Any, Any, Any]]:
    return [tuple(tensors[start : start + 4]) for start in range(0, len(tensors), 4)]  # type: ignore[misc]


def only(layers: Linears) -> Callable[[Tensor], Tensor]:
    """The output of a single layer."""
    return lambda x: layers(x)[0]
