"""Group-relative reinforcement learning of language models on math, as swappable components.

Components are imported on first use, so that ``import grouprl`` is cheap and needs neither torch nor Hydra.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "advantages": ("CenteredAdvantage", "LeaveOneOutAdvantage", "RankAdvantage", "ZScoreAdvantage"),
    "batch": ("LossInputs", "LossOutputs", "Prompts", "Rollouts"),
    "losses": ("ClipGate", "GroupTokenMean", "PolicyLoss", "SequenceMean"),
    "module": ("GroupRLModule",),
    "policy": ("LoraAdapter", "Policy", "load_policy"),
    "rewards": ("MathReward", "Rewards"),
    "isolation": ("IsolatedReward",),
    "scoring": ("Scorer",),
    "sampling": ("GroupSampler",),
    "vllm_sampler": ("VLLMSampler",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'grouprl' has no attribute {name!r}")
    return getattr(import_module(f"grouprl.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
