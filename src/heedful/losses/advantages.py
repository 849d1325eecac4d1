"""From rewards to advantages. All tensors `[B, T]` in the column convention of `types`, masks True on policy tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def kl_rewards(
    logp: Float[Tensor, "B T"],
    ref_logp: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    score: Float[Tensor, " B"],
    beta: float,
) -> Float[Tensor, "B T"]:
    """Per-token reward −β(log π_old − log π_ref), with the score of the response added once, at its last token.

    The last token is found by the mask, never by position. (Ziegler et al. 2019, eq. 2.)
    """
    rewards = -beta * (logp - ref_logp) * mask
    columns = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * columns).argmax(dim=1, keepdim=True)
    return rewards.scatter_add(1, last, (score * mask.any(1))[:, None].to(rewards.dtype))


def gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    bootstrap: Float[Tensor, " B"],
    gamma: float = 1.0,
    lam: float = 0.95,
) -> Float[Tensor, "B T"]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) over the policy's own tokens.

    Positions that the policy did not write (prompt, tool output, padding) are skipped: the successor of
    a token is the *next masked* one. `bootstrap` is V after the last token: 0 where the response ended,
    the critic's value where it was cut.
    """
    advantages = torch.zeros_like(rewards)
    next_value, next_advantage = bootstrap, torch.zeros_like(bootstrap)
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        advantages[:, t] = torch.where(here, advantage, 0.0)
        next_advantage = torch.where(here, advantage, next_advantage)
        next_value = torch.where(here, values[:, t], next_value)
    return advantages


def whiten(
    x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, shift_mean: bool = True
) -> Float[Tensor, "B T"]:
    """Unit variance over the masked entries, and mean 0 unless `shift_mean` is off (a reward's sign matters)."""
    count = mask.sum().clamp(min=1)
    mean = (x * mask).sum() / count
    var = ((x - mean).square() * mask).sum() / count
    white = (x - mean) * torch.rsqrt(var + 1e-8)
    return (white if shift_mean else white + mean) * mask
