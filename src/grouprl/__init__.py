"""Group-relative reinforcement learning of language models on math, as swappable components.

Components are imported on first use, so that ``import grouprl`` is cheap and needs neither torch nor Hydra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grouprl.advantages.base import Advantage
    from grouprl.advantages.baselines import CenteredAdvantage, LeaveOneOutAdvantage, ZScoreAdvantage
    from grouprl.advantages.rank import RankAdvantage
    from grouprl.batch import LossInputs, LossOutputs, MinibatchCounts, Prompts, Rollouts
    from grouprl.losses.aggregations import BatchTokenMean, ConstantLength, GroupTokenMean, SequenceMean
    from grouprl.losses.corrections import MaskedWeights, NoCorrection, TruncatedWeights
    from grouprl.losses.gates import CispoGate, ClipGate, NoGate, SapoGate
    from grouprl.losses.kl import K1, K2, K3
    from grouprl.losses.policy_loss import PolicyLoss
    from grouprl.losses.ratios import GeometricRatio, SequenceRatio, TokenRatio
    from grouprl.module import GroupRLModule
    from grouprl.policy.adapters import LoraAdapter
    from grouprl.policy.load import load_policy
    from grouprl.policy.policy import Policy
    from grouprl.rewards.base import Rewards
    from grouprl.rewards.isolation import IsolatedReward
    from grouprl.rewards.parts import CorrectReward, FormatReward, MathReward
    from grouprl.rewards.scoring import Scorer
    from grouprl.sampling.group import GroupSampler
    from grouprl.sampling.rounds import ToolRounds
    from grouprl.sampling.vllm import VLLMSampler

__version__ = "0.1.0"

_HOMES = {
    "advantages.base": ("Advantage",),
    "advantages.baselines": ("CenteredAdvantage", "LeaveOneOutAdvantage", "ZScoreAdvantage"),
    "advantages.rank": ("RankAdvantage",),
    "batch": ("LossInputs", "LossOutputs", "MinibatchCounts", "Prompts", "Rollouts"),
    "losses.aggregations": ("BatchTokenMean", "ConstantLength", "GroupTokenMean", "SequenceMean"),
    "losses.corrections": ("MaskedWeights", "NoCorrection", "TruncatedWeights"),
    "losses.gates": ("CispoGate", "ClipGate", "NoGate", "SapoGate"),
    "losses.kl": ("K1", "K2", "K3"),
    "losses.policy_loss": ("PolicyLoss",),
    "losses.ratios": ("GeometricRatio", "SequenceRatio", "TokenRatio"),
    "module": ("GroupRLModule",),
    "policy.adapters": ("LoraAdapter",),
    "policy.load": ("load_policy",),
    "policy.policy": ("Policy",),
    "rewards.base": ("Rewards",),
    "rewards.isolation": ("IsolatedReward",),
    "rewards.parts": ("CorrectReward", "FormatReward", "MathReward"),
    "rewards.scoring": ("Scorer",),
    "sampling.group": ("GroupSampler",),
    "sampling.rounds": ("ToolRounds",),
    "sampling.vllm": ("VLLMSampler",),
}
"""Public names by the module that defines them, as above for type checkers; a test compares the two."""
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'grouprl' has no attribute {name!r}")
    return getattr(import_module(f"grouprl.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
