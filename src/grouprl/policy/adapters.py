"""Adapters: what is trained in place of the model's own weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from grouprl.policy import checks
from grouprl.policy.agreement import check_targets


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
        checks.lora_adapter(self.rank, self.alpha, self.init)

    def attach(self, model: PreTrainedModel) -> nn.Module:
        """The model with a fresh adapter whose output is 0 at the start.

        Raises:
            ValueError: See `grouprl.policy.agreement.check_targets`.
        """
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
        adapted = get_peft_model(model, config)
        check_targets(model, [] if isinstance(targets, str) else targets, adapted.targeted_module_names)
        return adapted
