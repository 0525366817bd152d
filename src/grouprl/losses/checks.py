"""What the parts of a loss refuse, without torch."""

from __future__ import annotations

from grouprl.checks import above


def clip_gate(eps_low: float, eps_high: float, dual_clip: float | None) -> None:
    """Arguments of `grouprl.losses.gates.ClipGate`."""
    if not 0 < eps_low < 1:
        raise ValueError(f"eps_low={eps_low}: give a number above 0 and below 1 (the ratio is clipped at 1 - eps_low).")
    above("eps_high", eps_high)
    if dual_clip is not None and not 1 + eps_high < dual_clip < float("inf"):
        raise ValueError(f"loss.gate.dual_clip={dual_clip}: give a number above 1 + eps_high = {1 + eps_high:g}.")


def cispo_gate(ratio_max: float) -> None:
    """Arguments of `grouprl.losses.gates.CispoGate`."""
    above("loss.gate.ratio_max", ratio_max, 1)


def sapo_gate(tau_positive: float, tau_negative: float) -> None:
    """Arguments of `grouprl.losses.gates.SapoGate`."""
    above("loss.gate.tau_positive", tau_positive)
    above("loss.gate.tau_negative", tau_negative)


def geometric_ratio(clip: float) -> None:
    """Arguments of `grouprl.losses.ratios.GeometricRatio`."""
    above("loss.ratio.clip", clip)


def constant_length(max_tokens: int) -> None:
    """Arguments of `grouprl.losses.aggregations.ConstantLength`."""
    above("loss.aggregation.max_tokens", max_tokens)


def kl_penalty(beta: float) -> None:
    """Argument of every KL penalty of `grouprl.losses.kl`."""
    if not 0 <= beta < float("inf"):
        raise ValueError(f"beta={beta}: give a finite number of at least 0.")


k1 = k2 = k3 = kl_penalty


def truncated_weights(cap: float) -> None:
    """Arguments of `grouprl.losses.corrections.TruncatedWeights` and `grouprl.losses.corrections.MaskedWeights`."""
    if not 1 < cap < float("inf"):
        raise ValueError(f"loss.correction.cap={cap}: give a number above 1, the weight of a token both agree on.")


masked_weights = truncated_weights
