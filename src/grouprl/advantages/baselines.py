"""Rewards against a baseline of their group: GRPO's z-score, Dr. GRPO's mean, RLOO's mean of the others."""

from __future__ import annotations

from dataclasses import dataclass

from grouprl.advantages import checks
from grouprl.advantages.base import Parts, Valid, finished, group_mean, prepared
from grouprl.batch import PerSample


@dataclass(frozen=True)
class ZScoreAdvantage:
    """Rewards centred on the group's mean and divided by its standard deviation (GRPO, arXiv 2402.03300).

    ``A_i = (r_i - mean) / (std + epsilon)``. Groups with few successes or few failures weigh more than balanced
    ones: at G=16 a lone success is weighed up to 3.9 times as much as under leave-one-out.
    """

    epsilon: float = 1e-4
    """Added to the standard deviation."""
    unbiased: bool = False
    """Divide the variance by G - 1 (sample) instead of G (population)."""

    def __post_init__(self) -> None:
        checks.z_score_advantage(self.epsilon)

    def __call__(self, rewards: PerSample, *, valid: Valid | None = None, parts: Parts | None = None) -> PerSample:
        values, valid, count = prepared(rewards, valid)
        centered = (values - group_mean(values, valid, count)) * valid
        freedom = (count - 1 if self.unbiased else count).clamp(min=1)
        deviation = (centered.square().sum(-1, keepdim=True) / freedom).sqrt()
        return finished(centered / (deviation + self.epsilon), rewards, valid)


@dataclass(frozen=True)
class CenteredAdvantage:
    """Rewards minus the group's mean, ``A_i = r_i - mean`` (Dr. GRPO, arXiv 2503.20783).

    No division by a deviation, so that a group's weight does not depend on its difficulty.
    """

    def __call__(self, rewards: PerSample, *, valid: Valid | None = None, parts: Parts | None = None) -> PerSample:
        values, valid, count = prepared(rewards, valid)
        return finished(values - group_mean(values, valid, count), rewards, valid)


@dataclass(frozen=True)
class LeaveOneOutAdvantage:
    """Rewards minus the mean of the *other* rewards of the group (RLOO, arXiv 2402.14740).

    ``A_i = r_i - mean_{j != i} r_j = (G r_i - sum_j r_j) / (G - 1)``: an unbiased baseline. It is computed in the
    second form, which makes it bitwise equal to `grouprl.advantages.rank.RankAdvantage` with 0/1 rewards.
    """

    def __call__(self, rewards: PerSample, *, valid: Valid | None = None, parts: Parts | None = None) -> PerSample:
        values, valid, count = prepared(rewards, valid)
        total = (values * valid).sum(-1, keepdim=True)
        return finished((count * values - total) / (count - 1).clamp(min=1), rewards, valid)
