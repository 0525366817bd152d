"""What the parts of a loss refuse, without torch."""

from __future__ import annotations

from grouprl.checks import above


def clip_gate(eps_low: float = 0.2, eps_high: float = 0.2, dual_clip: float | None = None) -> None:
    """Arguments of `grouprl.losses.gates.ClipGate`."""
    if not 0 < eps_low < 1:
        raise ValueError(f"eps_low={eps_low}: give a number above 0 and below 1 (the ratio is clipped at 1 - eps_low).")
    if not eps_high > 0:
        raise ValueError(f"eps_high={eps_high}: give a number above 0.")
    if dual_clip is not None and not dual_clip > 1 + eps_high:
        raise ValueError(f"loss.gate.dual_clip={dual_clip}: give a number above 1 + eps_high = {1 + eps_high:g}.")


def cispo_gate(ratio_max: float = 5.0) -> None:
    """Arguments of `grouprl.losses.gates.CispoGate`."""
    above("loss.gate.ratio_max", ratio_max, 1)


def sapo_gate(tau_positive: float = 1.0, tau_negative: float = 1.05) -> None:
    """Arguments of `grouprl.losses.gates.SapoGate`."""
    above("loss.gate.tau_positive", tau_positive)
    above("loss.gate.tau_negative", tau_negative)


def geometric_ratio(clip: float = 0.4) -> None:
    """Arguments of `grouprl.losses.ratios.GeometricRatio`."""
    above("loss.ratio.clip", clip)


def constant_length(max_tokens: int = 1024) -> None:
    """Arguments of `grouprl.losses.aggregations.ConstantLength`."""
    above("loss.aggregation.max_tokens", max_tokens)


def kl_penalty(beta: float = 0.0) -> None:
    """Argument of every KL penalty of `grouprl.losses.kl`."""
    if not 0 <= beta < float("inf"):
        raise ValueError(f"beta={beta}: give a finite number of at least 0.")


k1 = k2 = k3 = kl_penalty


def truncated_weights(cap: float = 2.0) -> None:
    """Arguments of `grouprl.losses.corrections.TruncatedWeights` and `grouprl.losses.corrections.MaskedWeights`."""
    if not cap > 1:
        raise ValueError(f"loss.correction.cap={cap}: give a number above 1, the weight of a token both agree on.")


masked_weights = truncated_weights
