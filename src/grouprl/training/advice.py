"""Said once and with the number: what a run shows that nobody wants, and the option to change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from grouprl.module import GroupRLModule

_log = logging.getLogger("grouprl")

TRUNCATED = 0.9
"""Share of completions without an end from which it is said."""
ROUNDED_AWAY = 0.5
"""Share of trained weights that a step of the learning rate does not change, from which it is said."""


@dataclass(frozen=True)
class Rule:
    """Something that metrics of an iteration may show."""

    holds: Callable[[Mapping[str, float]], bool]
    text: str
    """With the metrics by their names, and the module's numbers."""


RULES: dict[str, Rule] = {
    "truncated": Rule(
        lambda m: m["completion/truncated"] >= TRUNCATED,
        "{truncated:.0%} of the completions ran into max_new_tokens={max_new_tokens} without an end. Raise it; where "
        "that does not help, the policy does not write the tokens that end a turn ({ends}): see samples in "
        "TensorBoard, and end them at a text (sampler.stop).",
    ),
    "constant": Rule(
        lambda m: m["groups/without_signal"] == 1 and m["reward/std"] == 0,
        "every completion got the reward {reward:g}: nothing is learned from that. Take easier or harder problems, "
        "more samples (group_size={group_size}), or another reward.",
    ),
    "no signal": Rule(
        lambda m: m["groups/without_signal"] == 1 and m["reward/std"] > 0,
        "no group had a signal: the {group_size} completions of each got the same reward, and nothing is learned from "
        "that. Take problems that are solved sometimes (prefilter.samples=8), or a larger group_size.",
    ),
}


class Advice(Callback):
    """Warns of what `RULES` name, each once."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        lr = max(group["initial_lr"] if "initial_lr" in group else group["lr"] for group in _groups(trainer))
        share = rounded_away(module.trained_parameters(), lr)
        if trainer.is_global_zero and share >= ROUNDED_AWAY:
            self._say(
                "rounding",
                f"{share:.1%} of the trained weights are in a dtype of so few bits ({str(module.policy.dtype)[6:]}) "
                f"that a step of lr={lr:g} is rounded away: they stay as they are. Use policy.dtype=float32 "
                "(trainer.precision=bf16-mixed computes in bfloat16 all the same), or adapter=lora.",
            )

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        assert isinstance(module, GroupRLModule)
        if not trainer.is_global_zero:
            return
        metrics = module.last_metrics
        for name, rule in RULES.items():
            if name not in self.said and rule.holds(metrics):
                self._say(name, f"iteration {module.iteration}: {rule.text.format(**_numbers(module))}")

    def _say(self, name: str, text: str) -> None:
        self.said.add(name)
        _log.warning(text)


def rounded_away(parameters: Iterable[torch.Tensor], lr: float) -> float:
    """Share of numbers that ``lr``, about what AdamW adds in a step, does not change: below half of their spacing."""
    lost = counted = 0
    for weight in parameters:
        counted += weight.numel()
        if weight.dtype in (torch.bfloat16, torch.float16):
            lost += int((weight.detach() - lr == weight.detach()).sum())
    return lost / max(counted, 1)


def _groups(trainer: L.Trainer) -> list[dict[str, float]]:
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]


def _numbers(module: GroupRLModule) -> dict[str, object]:
    """What the texts of `RULES` name."""
    policy = module.policy
    return {
        "truncated": module.last_metrics["completion/truncated"],
        "reward": module.last_metrics["reward"],
        "max_new_tokens": getattr(module.sampler, "max_new_tokens", "?"),
        "group_size": module.sampler.group_size,
        "ends": ", ".join(policy.tokenizer.convert_ids_to_tokens(list(policy.eos_ids))) or "it has none",
    }
