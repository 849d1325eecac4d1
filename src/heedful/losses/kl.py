"""Estimators of KL(π‖π_ref) per token from the log-probs of tokens that π sampled (Schulman 2020, "Approximating KL").

With `d = log π − log π_ref` at a token sampled from π, each estimates `KL(π‖π_ref) = E_π[d]`.
As a *penalty in the reward* k1 is right. As a term *in a loss* the gradient is another matter:
∇k1 has zero expectation and ∇k3 descends the reverse divergence; `corrected` mends both, see the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from heedful.losses.policy import bounded, ratio

Estimator = Callable[[Tensor, Tensor], Tensor]


def k1(logp: Float[Tensor, "*s"], ref_logp: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """`d`: unbiased, high variance, negative for many tokens. Never clamp it: that makes it biased."""
    return logp - ref_logp


def k2(logp: Float[Tensor, "*s"], ref_logp: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """`d²/2`: biased, low variance; its gradient, taken on-policy, is that of the true KL."""
    return 0.5 * (logp - ref_logp).square()


def k3(logp: Float[Tensor, "*s"], ref_logp: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """`e^{−d} − 1 + d`: never negative, and unbiased where e^{−d} is no larger than `ratio` lets it be."""
    d = logp - ref_logp
    return torch.expm1(bounded(-d)) + d


def to_standard_normal(
    mean: Float[Tensor, "*s"], log_var: Float[Tensor, "*s"]
) -> Float[Tensor, "*s"]:
    """KL(N(mean, e^log_var) ‖ N(0, 1)) of each dimension, in nats (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def standard_error(values: Float[Tensor, " n"]) -> float:
    """Of the mean of independent values: σ/√n with n − 1; infinite for fewer than two."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.inf


def corrected(
    estimator: Estimator,
    logp: Float[Tensor, "*s"],
    ref_logp: Float[Tensor, "*s"],
    old_logp: Float[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    """ρ·k with ρ = π/π_old of the token, see `ratio`: for k1 and k3 both value and gradient are then those of E_π[d].

    ∇E_old[ρk] = E_π[k·∇log π + ∇k] = E_π[d·∇log π]. (DeepSeek-AI 2025, V3.2, eq. 7, for k3.) Not for k2, whose
    expectation is another quantity than the KL. Of each token, its prefix held fixed: what a token does to the KL
    of later ones is no part of it, as in every KL that stands in a loss.
    """
    return ratio(logp - old_logp) * estimator(logp, ref_logp)


def analytic(
    log_policy: Float[Tensor, "n V"], ref_log_policy: Float[Tensor, "n V"]
) -> Float[Tensor, " n"]:
    """Σ_v π(v)(log π(v) − log π_ref(v)) at n positions: the KL of the next token, no sample involved.

    Tokens outside π's top-k or top-p mask (log π = −∞) add nothing. A token that π has and π_ref's mask
    has not would make it infinite: take `ref_log_policy` from the unmasked reference.
    """
    inside = log_policy > float("-inf")
    difference = torch.where(inside, log_policy - ref_log_policy, 0.0)
    return (log_policy.exp() * difference).sum(-1)
