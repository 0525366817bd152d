"""Arms that cannot differ: options that change no bit of a run, and factors that the optimizer cancels.

An ablation over an option that nothing reads ends in "no difference", which is true of the two names alone. The rules
here are about a run's composed options; each is proved by two runs of equal bits, beside a near miss that does differ
(tests/studies/test_noop.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Sameness = Literal["same", "same up to a constant"]
_HOUSEKEEPING = (
    *("checkpoint_every", "keep_checkpoints", "save_policy_every", "save_merged", "stop_grace_s"),
    *("study", "resume", "resume_fall_back", "accept_changed"),
)
_RANK, _RLOO = "grouprl.advantages.rank.RankAdvantage", "grouprl.advantages.baselines.LeaveOneOutAdvantage"
_CENTERED, _ZSCORE = ("grouprl.advantages.baselines." + name for name in ("CenteredAdvantage", "ZScoreAdvantage"))
_ZERO_OR_ONE = (
    "grouprl.rewards.parts.CorrectReward",
    *("grouprl.rewards.controls." + name for name in ("RandomReward", "MajorityReward", "WrongLabelReward")),
)
_RATIOS = "grouprl.losses.ratios."
_CLIPS = ("grouprl.losses.gates.ClipGate", "grouprl.losses.gates.NoGate")
_MEANS = ("grouprl.losses.aggregations.GroupTokenMean", "grouprl.losses.aggregations.BatchTokenMean")
_WIDE = 0.01
"""Sides of a clip that rounding does not reach."""
_FINE = 0.5
"""Resolutions of ranks that tell 0 from 1."""
_GRADED, _WARPED = "grouprl.rewards.graded.GradedReward", "grouprl.rewards.warped.WarpedReward"
_TINY = "grouprl.data.problems.tiny_problems"
_POWERS, _MOST_CORRECT = (0.25, 3.0), 0.75
"""Of graded rewards of the embedded task, with four intermediate results at most: levels stay apart by `_FINEST`."""
_FINEST = 1e-6
_FACTOR = "RLOO's advantages are G / (G - 1) times the centered ones"
_SIGNS = "in groups of two ranks and z-scores are both the sign of the difference, but for the z-score's epsilon"
_LEFT = "what is left is its epsilon, weight decay and gradient clipping"
_SIGN = {"_target_": "the sign of a difference"}
_OF_OUTLIERS = ("outlier_factor", "outlier_share")
_FINE_EPSILON = 1e-3
"""Of z-scores, far below the differences of rewards."""


@dataclass(frozen=True)
class NoOp:
    """Two arms between which there is nothing to find."""

    first: str
    second: str
    how: Sameness
    why: str

    def __str__(self) -> str:
        return f"{self.first} and {self.second} are the {self.how}: {self.why}"


def no_ops(arms: Mapping[str, Mapping[str, Any]]) -> list[NoOp]:
    """Pairs of arms that are the same, or the same up to a constant.

    Args:
        arms: Each arm's composed options, nested; those of one base and one seed.
    """
    found = []
    for (first, a), (second, b) in itertools.combinations(arms.items(), 2):
        reasons = _reasons(a, b)
        if _reduced(a) == _reduced(b):
            found.append(NoOp(first, second, "same", _joined(reasons)))
        elif (reduced := _reduced(a, up_to_a_constant=True)) == _reduced(b, up_to_a_constant=True):
            signs = reduced["advantage"] == _SIGN
            why = f"{_SIGNS if signs else _FACTOR}, and Adam divides by its gradients' size: {_LEFT}"
            found.append(NoOp(first, second, "same up to a constant", _joined([why] if signs else [*reasons, why])))
    return found


def _joined(reasons: list[str]) -> str:
    return "; ".join(dict.fromkeys(reasons)) or "no option of a run differs"


def _reasons(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Why what differs between two arms does not matter, where it does not."""
    differing = {key for key in {*first, *second} if first.get(key) != second.get(key)}
    differing |= {f"loss.{axis}" for axis in first["loss"] if first["loss"][axis] != second["loss"].get(axis)}
    values = [arm["reward"] for arm in (first, second)]
    differing |= {f"reward.{key}" for key in {*values[0], *values[1]} if values[0].get(key) != values[1].get(key)}
    ranks = _RANK in (_target(first["advantage"]), _target(second["advantage"]))
    return [why for topics, why in _rules(first) if differing & set(topics) and (ranks or topics != ("advantage",))]


def _reduced(config: Mapping[str, Any], *, up_to_a_constant: bool = False) -> dict[str, Any]:
    """What of a run's options can change its bits; what cannot is left out, or written in one way."""
    kept = {key: value for key, value in config.items() if key not in _HOUSEKEEPING}
    loss, advantage = dict(kept["loss"]), dict(kept["advantage"])
    scale_free = _is_scale_free(kept["optimizer"]) and _is_without_kl(config)
    is_sign = up_to_a_constant and scale_free and _is_sign(advantage, _group_size(config))
    if _target(kept["reward"]) == _WARPED and not kept["reward"].get("outlier_share", 0.0):
        kept["reward"] = {k: v for k, v in kept["reward"].items() if k not in _OF_OUTLIERS}
    if _is_without_kl(config):
        loss["kl"] = "none"
    if _reaches_no_clip(config):
        loss["gate"] = "a clip that nothing reaches"
        kept["eps_low"] = kept["eps_high"] = None
    if _has_one_group(config) and _target(loss["aggregation"]) in _MEANS:
        loss["aggregation"] = "a mean over the tokens of one group"
    if _target(advantage) == _RANK:
        if advantage.get("ties", "average") != "random":
            advantage.pop("seed", None)
        if _keeps_order(config):
            kept["reward"] = {**kept["reward"], "power": "an order"}
        ties = advantage.get("ties", "average")
        if _group_size(config) == 2 and ties != "random":
            advantage["ties"] = ties = "average"
        if _is_zero_or_one(config) and ties == "average" and advantage.get("resolution", 0.0) <= _FINE:
            advantage = {"_target_": _RLOO}
    if up_to_a_constant and scale_free and _target(advantage) in (_CENTERED, _RLOO):
        advantage = {"_target_": _CENTERED}
    if is_sign or (up_to_a_constant and scale_free and _is_sign_of_levels(advantage, config)):
        advantage = _SIGN
    return kept | {"loss": loss, "advantage": advantage}


def _is_sign(advantage: Mapping[str, Any], group_size: int) -> bool:
    """Whether it says of two rewards which is larger, and nothing else."""
    if group_size != 2:
        return False
    if _target(advantage) == _RANK:
        return advantage.get("ties", "average") != "random" and advantage.get("resolution", 0.0) <= _FINE_EPSILON
    return _target(advantage) == _ZSCORE and advantage.get("epsilon", 1.0) <= _FINE_EPSILON


def _is_sign_of_levels(advantage: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether centered rewards of a group of two are one number, up or down: where they are 0 or 1."""
    return _target(advantage) == _CENTERED and _group_size(config) == 2 and _is_zero_or_one(config)


def _rules(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The options that a rule is about, and what it says."""
    if _is_without_kl(config):
        yield ("loss.kl",), "with beta=0 the KL term is not computed"
    if _reaches_no_clip(config):
        yield (
            ("loss", "eps_low", "eps_high"),
            "with one optimizer step a rollout every ratio is 1, and no clip is reached",
        )
    if _has_one_group(config):
        yield ("loss.aggregation",), "with one group a minibatch its tokens are all tokens"
    if _keeps_order(config):
        yield ("reward.power",), "ranks read the order of rewards, which a power of them keeps"
    if _target(config["reward"]) == _WARPED and not config["reward"].get("outlier_share", 0.0):
        yield ("reward.outlier_factor",), "with outlier_share=0 there are no outliers"
    if _group_size(config) == 2:
        yield ("advantage",), "in groups of two all tie rules but random are one"
    if _is_zero_or_one(config):
        yield ("advantage",), "with rewards of 0 and 1 ranks are leave-one-out, bit for bit"


def _is_scale_free(optimizer: Mapping[str, Any]) -> bool:
    """Whether a constant in front of all gradients cancels: not where the weights are part of them."""
    target = _target(optimizer)
    return target == "torch.optim.AdamW" or (target == "torch.optim.Adam" and not optimizer.get("weight_decay"))


def _keeps_order(config: Mapping[str, Any]) -> bool:
    """Whether ranks are those of the reward within, whatever its power."""
    advantage, reward = config["advantage"], config["reward"]
    return (
        _target(advantage) == _RANK
        and advantage.get("ties", "average") != "random"
        and 0 < advantage.get("resolution", _FINEST) <= _FINEST
        and _target(reward) == _WARPED
        and _target(reward.get("reward")) == _GRADED
        and reward["reward"].get("correct", 1.0) <= _MOST_CORRECT
        and _target(config["data"]) == _TINY
        and not reward.get("outlier_share", 0.0)
        and _POWERS[0] <= reward.get("power", 1.0) <= _POWERS[1]
    )


def _target(node: Any) -> str:
    return str(node.get("_target_", "")) if isinstance(node, Mapping) else ""


def _is_without_kl(config: Mapping[str, Any]) -> bool:
    """Whether the KL term is one of those that ship, with a coefficient of 0."""
    kl = config["loss"]["kl"]
    return _target(kl).startswith("grouprl.losses.kl.") and kl.get("beta") == 0


def _reaches_no_clip(config: Mapping[str, Any]) -> bool:
    """Whether each rollout is trained on once, by the policy that drew it.

    Then ratios are 1 up to the rounding of float32, which is far below a clip of one percent, and in reduced precision,
    where the old logprobs are the trainer's own, exactly.
    """
    gate, sampler = config["loss"]["gate"], _target(config["sampler"])
    if not _target(config["loss"]["ratio"]).startswith(_RATIOS):
        return False
    exact = sampler == "grouprl.sampling.group.GroupSampler" and config["policy"].get("dtype") == "float32"
    wide = all(gate.get(side, 1.0) >= _WIDE for side in ("eps_low", "eps_high")) and not gate.get("dual_clip")
    return config["ppo_epochs"] * config["minibatches"] == 1 and exact and wide and _target(gate) in _CLIPS


def _group_size(config: Mapping[str, Any]) -> Any:
    return config["sampler"].get("group_size", config["group_size"])


def _has_one_group(config: Mapping[str, Any]) -> bool:
    whole = config["filter"].get("drop", 0.0) == 0
    return config["prompts_per_step"] == config["minibatches"] and whole and config["trainer"].get("devices") == 1


def _is_zero_or_one(config: Mapping[str, Any]) -> bool:
    return _target(config["reward"]) in _ZERO_OR_ONE
