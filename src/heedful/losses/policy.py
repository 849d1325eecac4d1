"""Policy-gradient surrogates and the critic's loss, per token and unreduced: the learner masks and averages.

logp are the policy's log-probs now, old_logp those of the policy that sampled, adv the advantages, all `[B, T]`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LARGEST = 20.0  # log-ratio; e²⁰ is 5·10⁸


def bounded(log_ratio: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """At most `LARGEST`, where its gradient is still one."""
    return log_ratio - (log_ratio.detach() - LARGEST).clamp(min=0)


def ratio(log_ratio: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """ρ = π/π_old with ∇ρ = ρ·∇log π; neither is larger than at e^`LARGEST`. An infinite one, multiplied by the zero of
    a branch that is not taken or of a token that nobody counts, would make NaN of everybody's gradient."""
    return torch.exp(bounded(log_ratio))


def policy_gradient(logp: Float[Tensor, "*s"], adv: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """−A·log π (Williams 1992). Its gradient is the policy gradient only for samples of the policy as it is now."""
    return -adv * logp


def importance_weighted(
    logp: Float[Tensor, "B T"],
    old_logp: Float[Tensor, "B T"],
    adv: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    sequence: bool,
    truncate: float = float("inf"),
) -> Float[Tensor, "B T"]:
    """−min(w, c)·A·log π with w = π/π_old (see `ratio`) held constant, for samples of an older policy.

    Token weights π/π_old(y_t) correct the choice of each token but not of the prefix it stands on; sequence
    weights ∏_t π/π_old are exact for advantages of whole responses, and vary more. `truncate` (c) bounds the
    variance and biases towards old samples (Ionides 2008); the gradient still passes where c is reached.
    """
    log_w = (logp.detach() - old_logp) * mask
    if sequence:
        log_w = log_w.sum(1, keepdim=True).expand_as(logp)
    return -ratio(log_w).clamp(max=truncate) * adv * logp


def engine_weights(
    logp: Float[Tensor, "B T"],
    engine_logp: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    correct: str = "token",
    cap: float = 2.0,
) -> Float[Tensor, "B T"]:
    """w = π/μ for what an engine drew with log-probs `engine_logp` (μ) and a learner, for whom they are `logp` (π) of
    the same weights, learns from; 1 outside the mask, and without a gradient.

    token: min(π/μ(y_t), cap), truncated importance sampling (Yao et al. 2025, "Your efficient RL framework secretly
    brings you off-policy RL training"). sequence: min(∏_t π/μ, cap), which corrects prefixes as well. mask: ∏_t π/μ,
    0 where that is above the cap (Liu et al. 2025, "When speed kills stability"). none: 1.
    """
    log_w = (logp - engine_logp).detach() * mask
    if correct == "none":
        return torch.ones_like(log_w)
    if correct != "token":
        log_w = log_w.sum(1, keepdim=True) * mask
    w = ratio(log_w)
    return torch.where(w > cap, 0.0, w) if correct == "mask" else w.clamp(max=cap)


def ppo_clip(
    logp: Float[Tensor, "*s"],
    old_logp: Float[Tensor, "*s"],
    adv: Float[Tensor, "*s"],
    clip: float = 0.2,
    clip_high: float | None = None,
) -> Float[Tensor, "*s"]:
    """max(−Aρ, −A·clip(ρ, 1−ε, 1+ε_high)) with ρ = π/π_old (Schulman et al. 2017, eq. 7).

    ε_high > ε leaves unlikely tokens more room to rise ("clip-higher", Yu et al. 2025, DAPO, eq. 10).
    """
    high = clip if clip_high is None else clip_high
    rho = ratio(logp - old_logp)
    return torch.maximum(-adv * rho, -adv * rho.clamp(1 - clip, 1 + high))


def sequence_log_ratio(
    logp: Float[Tensor, "B T"], old_logp: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """log s = mean_t log π/π_old(y_t), the length-normalised ratio of a response, at every token of it."""
    mean = ((logp - old_logp) * mask).sum(1) / mask.sum(1).clamp(min=1)
    return mean[:, None].expand_as(logp)


def gspo_clip(
    logp: Float[Tensor, "B T"],
    old_logp: Float[Tensor, "B T"],
    adv: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    clip: float = 3e-4,
    clip_high: float | None = None,
) -> Float[Tensor, "B T"]:
    """PPO's clipped surrogate with the response's ratio s in place of each token's (Zheng et al. 2025, GSPO, eq. 5).

    Every token of a response holds the same number, so the mean over its tokens is the response's loss.
    """
    log_s = sequence_log_ratio(logp, old_logp, mask)
    return ppo_clip(log_s, torch.zeros_like(log_s), adv, clip, clip_high)


def clipped(
    log_ratio: Float[Tensor, "*s"],
    adv: Float[Tensor, "*s"],
    clip: float = 0.2,
    clip_high: float | None = None,
) -> Float[Tensor, "*s"]:
    """1.0 where clipping removed the gradient: the ratio has left the interval in the direction of the advantage."""
    high = clip if clip_high is None else clip_high
    rho = ratio(log_ratio)
    outside = ((rho > 1 + high) & (adv > 0)) | ((rho < 1 - clip) & (adv < 0))
    return outside.to(log_ratio.dtype)


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
    """(Σw)²/(N·Σw²) of the token weights w = π/π_old: 1 when on-policy or empty, 1/N when one token carries all."""
    if not mask.any():
        return log_weights.new_ones(())
    masked = log_weights[mask]
    w = torch.exp(masked - masked.max())  # a common factor changes nothing, and might be infinite
    return w.sum().square() / (len(w) * w.square().sum())


def explained_variance(
    values: Float[Tensor, "B T"], returns: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """1 − Var(R−V)/Var(R) over masked entries: 1 is a perfect critic, 0 one no better than a constant.

    0 also where returns do not vary at all: there is nothing to explain.
    """
    v, r = values[mask], returns[mask]
    if len(r) < 2 or r.var(correction=0) < 1e-8:
        return values.new_zeros(())
    return 1 - (r - v).var(correction=0) / r.var(correction=0)
