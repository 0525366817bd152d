"""Defaults that fit the policy's size: what an embedded policy learns well with would wreck a real one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from grouprl.policy.folder import model_context, weights_in

_BOUNDS = (10_000_000, 500_000_000)
"""Weights from which on the next of `_BY_SIZE` is the default. A model that is not on this machine counts as large."""
_BY_SIZE: dict[str, tuple[Any, Any, Any]] = {
    "lr": (2.0e-4, 1.0e-5, 1.0e-6),
    "minibatches": (8, 2, 2),
    "max_new_tokens": (128, 512, 512),
}


_LR_OF_ADAPTERS = (2.0e-4, 1.0e-4, 1.0e-5)
"""Ten times as high for larger policies (Schulman et al. 2025, LoRA Without Regret)."""


def fitting(name: str, *, _root_: DictConfig) -> Any:
    """The default of an option for the policy of a configuration: ``${fitting:lr}``."""
    place = _place(_weights(_root_))
    value: Any = (_LR_OF_ADAPTERS if name == "lr" and _root_.get("adapter") else _BY_SIZE[name])[place]
    return _within_context(_root_, value) if name == "max_new_tokens" else value


def _within_context(config: DictConfig, tokens: int) -> int:
    """So many tokens, or half of what the model can see at once, which the prompt is part of."""
    context = None
    with contextlib.suppress(ValueError):  # of a damaged folder, which is told where it is checked
        context = model_context(str(config.policy.get("path", "tiny")), config.policy.get("source", "auto"))
    return tokens if context is None else max(1, min(tokens, context // 2))


def notes_on_size(config: DictConfig) -> Iterator[str]:
    """Which values come of the size of a policy that is none of the small ones."""
    weights = _weights(config)
    if not _place(weights):
        return
    chosen = [name for name in _BY_SIZE if f"fitting:{name}" in str(config._get_node(name)._value())]  # type: ignore[union-attr]
    if chosen:
        values = " ".join(f"{name}={fitting(name, _root_=config):g}" for name in chosen)
        size = (
            f"{weights / 1e6:.0f} million weights"
            if weights
            else "a model that is not on this machine, taken for large"
        )
        yield f"note: {values} by the policy's size ({size}). Give your own to change them."


def _weights(config: DictConfig) -> int | None:
    policy = config.policy
    return weights_in(str(policy.get("path", "tiny")), policy.get("source", "auto"))


def _place(weights: int | None) -> int:
    return len(_BOUNDS) if weights is None else sum(weights >= bound for bound in _BOUNDS)
