"""Estimators of KL(π‖π_ref) per token from the log-probs of tokens that π sampled (Schulman 2020, "Approximating KL").

With `d = log π − log π_ref` at a token sampled from π, each estimates `KL(π‖π_ref) = E_π[d]`.
As a *penalty in the reward* k1 is right. As a term *in a loss* the gradient is another matter:
∇k1 has zero expectation and ∇k3 descends the reverse divergence, see the tests.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def k1(logp: Float[Tensor, "*s"], ref_logp: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """`d`: unbiased, high variance, negative for many tokens. Never clamp it: that makes it biased."""
    return logp - ref_logp


def k2(logp: Float[Tensor, "*s"], ref_logp: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """`d²/2`: biased, low variance; its gradient, taken on-policy, is that of the true KL."""
    return 0.5 * (logp - ref_logp).square()


def k3(logp: Float[Tensor, "*s"], ref_logp: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """`e^{−d} − 1 + d`: unbiased and never negative."""
    d = logp - ref_logp
    return torch.expm1(-d) + d
