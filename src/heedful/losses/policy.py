"""Policy-gradient surrogates and the critic's loss, per token and unreduced: the learner masks and averages."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def ppo_clip(
    logp: Float[Tensor, "*s"],
    old_logp: Float[Tensor, "*s"],
    adv: Float[Tensor, "*s"],
    clip: float = 0.2,
) -> Float[Tensor, "*s"]:
    """max(−Aρ, −A·clip(ρ, 1±ε)) with ρ = π/π_old (Schulman et al. 2017, eq. 7)."""
    ratio = torch.exp(logp - old_logp)
    return torch.maximum(-adv * ratio, -adv * ratio.clamp(1 - clip, 1 + clip))


def ppo_clipped(
    logp: Float[Tensor, "*s"],
    old_logp: Float[Tensor, "*s"],
    adv: Float[Tensor, "*s"],
    clip: float = 0.2,
) -> Float[Tensor, "*s"]:
    """1.0 where clipping removed the gradient: the ratio has left the interval in the direction of the advantage."""
    ratio = torch.exp(logp - old_logp)
    outside = ((ratio > 1 + clip) & (adv > 0)) | ((ratio < 1 - clip) & (adv < 0))
    return outside.to(logp.dtype)


def value_clip(
    values: Float[Tensor, "*s"],
    old_values: Float[Tensor, "*s"],
    returns: Float[Tensor, "*s"],
    clip: float = 0.2,
) -> Float[Tensor, "*s"]:
    """½·max((V−R)², (clip(V, V_old±ε)−R)²), the critic's clipped loss."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def effective_sample_size(
    log_weights: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """(Σw)²/(N·Σw²) of the token weights w = π/π_old: 1 when on-policy, 1/N when one token carries all."""
    w = torch.exp(log_weights) * mask
    return w.sum().square() / (mask.sum().clamp(min=1) * w.square().sum().clamp(min=1e-12))


def explained_variance(
    values: Float[Tensor, "B T"], returns: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """1 − Var(R−V)/Var(R) over masked entries: 1 is a perfect critic, 0 one no better than a constant."""
    v, r = values[mask], returns[mask]
    return 1 - (r - v).var(correction=0) / r.var(correction=0).clamp(min=1e-12)
