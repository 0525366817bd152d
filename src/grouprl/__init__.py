"""Group-relative reinforcement learning of language models on math, as swappable components.

Components are imported on first use, so that ``import grouprl`` is cheap and needs neither torch nor Hydra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grouprl.advantages.base import Advantage as Advantage
    from grouprl.advantages.baselines import CenteredAdvantage as CenteredAdvantage
    from grouprl.advantages.baselines import LeaveOneOutAdvantage as LeaveOneOutAdvantage
    from grouprl.advantages.baselines import ZScoreAdvantage as ZScoreAdvantage
    from grouprl.advantages.rank import RankAdvantage as RankAdvantage
    from grouprl.batch import LossInputs as LossInputs
    from grouprl.batch import LossOutputs as LossOutputs
    from grouprl.batch import MinibatchCounts as MinibatchCounts
    from grouprl.batch import Prompts as Prompts
    from grouprl.batch import Rollouts as Rollouts
    from grouprl.cli.call import train as train
    from grouprl.losses.aggregations import Aggregation as Aggregation
    from grouprl.losses.aggregations import BatchTokenMean as BatchTokenMean
    from grouprl.losses.aggregations import ConstantLength as ConstantLength
    from grouprl.losses.aggregations import GroupTokenMean as GroupTokenMean
    from grouprl.losses.aggregations import SequenceMean as SequenceMean
    from grouprl.losses.corrections import MaskedWeights as MaskedWeights
    from grouprl.losses.corrections import NoCorrection as NoCorrection
    from grouprl.losses.corrections import SamplerCorrection as SamplerCorrection
    from grouprl.losses.corrections import TruncatedWeights as TruncatedWeights
    from grouprl.losses.gates import CispoGate as CispoGate
    from grouprl.losses.gates import ClipGate as ClipGate
    from grouprl.losses.gates import Gate as Gate
    from grouprl.losses.gates import NoGate as NoGate
    from grouprl.losses.gates import SapoGate as SapoGate
    from grouprl.losses.kl import K1 as K1
    from grouprl.losses.kl import K2 as K2
    from grouprl.losses.kl import K3 as K3
    from grouprl.losses.kl import KLPenalty as KLPenalty
    from grouprl.losses.policy_loss import PolicyLoss as PolicyLoss
    from grouprl.losses.ratios import GeometricRatio as GeometricRatio
    from grouprl.losses.ratios import RatioLevel as RatioLevel
    from grouprl.losses.ratios import SequenceRatio as SequenceRatio
    from grouprl.losses.ratios import TokenRatio as TokenRatio
    from grouprl.module import GroupRLModule as GroupRLModule
    from grouprl.policy.adapters import LoraAdapter as LoraAdapter
    from grouprl.policy.load import load_policy as load_policy
    from grouprl.policy.policy import Policy as Policy
    from grouprl.rewards.base import Reward as Reward
    from grouprl.rewards.base import Rewards as Rewards
    from grouprl.rewards.isolation import IsolatedReward as IsolatedReward
    from grouprl.rewards.parts import CorrectReward as CorrectReward
    from grouprl.rewards.parts import FormatReward as FormatReward
    from grouprl.rewards.parts import MathReward as MathReward
    from grouprl.rewards.scoring import Scorer as Scorer
    from grouprl.sampling.base import Sampler as Sampler
    from grouprl.sampling.group import GroupSampler as GroupSampler
    from grouprl.sampling.rounds import ToolRounds as ToolRounds
    from grouprl.sampling.vllm import VLLMSampler as VLLMSampler

__version__ = "0.1.0"

_HOMES = {
    "advantages.base": ("Advantage",),
    "advantages.baselines": ("CenteredAdvantage", "LeaveOneOutAdvantage", "ZScoreAdvantage"),
    "advantages.rank": ("RankAdvantage",),
    "batch": ("LossInputs", "LossOutputs", "MinibatchCounts", "Prompts", "Rollouts"),
    "cli.call": ("train",),
    "losses.aggregations": ("BatchTokenMean", "ConstantLength", "GroupTokenMean", "SequenceMean", "Aggregation"),
    "losses.corrections": ("MaskedWeights", "NoCorrection", "TruncatedWeights", "SamplerCorrection"),
    "losses.gates": ("CispoGate", "ClipGate", "NoGate", "SapoGate", "Gate"),
    "losses.kl": ("K1", "K2", "K3", "KLPenalty"),
    "losses.policy_loss": ("PolicyLoss",),
    "losses.ratios": ("GeometricRatio", "SequenceRatio", "TokenRatio", "RatioLevel"),
    "module": ("GroupRLModule",),
    "policy.adapters": ("LoraAdapter",),
    "policy.load": ("load_policy",),
    "policy.policy": ("Policy",),
    "rewards.base": ("Rewards", "Reward"),
    "rewards.isolation": ("IsolatedReward",),
    "rewards.parts": ("CorrectReward", "FormatReward", "MathReward"),
    "rewards.scoring": ("Scorer",),
    "sampling.base": ("Sampler",),
    "sampling.group": ("GroupSampler",),
    "sampling.rounds": ("ToolRounds",),
    "sampling.vllm": ("VLLMSampler",),
}
"""Public names by the module that defines them, as above for type checkers; a test compares the two."""
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'grouprl' has no attribute {name!r}")
        return getattr(import_module(f"grouprl.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
