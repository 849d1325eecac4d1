"""From rewards to advantages. All tensors `[B, T]` in the column convention of `types`, masks True on policy tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def token_rewards(
    cost: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    score: Float[Tensor, " B"],
    beta: float,
) -> Float[Tensor, "B T"]:
    """Per-token reward −β·cost, with the score of the response added once, at its last token.

    cost is an estimate of the KL per token: with k1, log π_old − log π_ref (Ziegler et al. 2019, eq. 2). The last
    token is found by the mask, never by position.
    """
    rewards = -beta * cost * mask
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
    the critic's value where it was truncated.
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


def rewards_to_go(
    rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], gamma: float = 1.0
) -> Float[Tensor, "B T"]:
    """Σ_{s ≥ t} γ^{s−t} r_s over the policy's own tokens: what a token can still influence."""
    zero = torch.zeros_like(rewards)
    return gae(rewards, zero, mask, zero[:, 0], gamma=gamma, lam=1.0)


def n_step(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    bootstrap: Float[Tensor, " B"],
    n: int,
    gamma: float = 1.0,
) -> Float[Tensor, "B T"]:
    """r_t + … + γ^{n−1} r_{t+n−1} + γ^n V_{t+n} − V_t over the policy's own tokens (Mnih et al. 2016, A3C).

    `bootstrap` is V behind the last token, see `gae`; n beyond the end is the whole return.
    """
    whole = gae(rewards, values, mask, bootstrap, gamma, lam=1.0)
    # Σ_{k<n} γ^k δ_{t+k} is the whole sum less γ^n times the one that starts n own tokens later.
    place = (mask.cumsum(1) - 1).clamp(min=0)
    policy_only = torch.zeros_like(whole).scatter_add(1, place, whole * mask)
    later = torch.nn.functional.pad(policy_only[:, n:], (0, min(n, policy_only.shape[1])))
    return (whole - gamma**n * later.gather(1, place)) * mask


def group_mean(x: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> tuple[Tensor, Tensor]:
    """Mean over the responses of each one's group and the group's size, both `[B]`."""
    _, place, counts = group.unique(return_inverse=True, return_counts=True)
    sums = x.new_zeros(len(counts)).index_add(0, place, x)
    return (sums / counts)[place], counts[place]


def turn_numbers(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """1, 2, … in the runs of the mask, which are the policy's turns, 0 outside."""
    before = torch.nn.functional.pad(mask, (1, 0))[:, :-1]
    return (mask & ~before).cumsum(1) * mask


def turn_returns(
    rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], gamma: float = 1.0
) -> Float[Tensor, "B T"]:
    """Credit by turns: each token gets the rewards from its own turn (its run of the mask) on, γ counted in turns."""
    run = turn_numbers(mask)
    turns = rewards.new_zeros(len(mask), int(run.max()) + 1).scatter_add(1, run, rewards * mask)
    turns[:, 0] = 0
    return (
        rewards_to_go(turns, torch.ones_like(turns, dtype=torch.bool), gamma).gather(1, run) * mask
    )


def by_turn(
    function: Callable[[Tensor, Tensor], Tensor],
    rewards: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    group: Int[Tensor, " B"],
) -> Float[Tensor, "B T"]:
    """`function` of (return from a turn on, group), the k-th turns of a group compared with each other; those who have
    ended by then are not."""
    number, returns = turn_numbers(mask), turn_returns(rewards, mask)
    advantages = torch.zeros_like(rewards)
    for k in range(1, int(number.max()) + 1):
        rows = (number == k).any(1)
        here = number[rows] == k
        own = returns[rows].gather(1, here.long().argmax(1, keepdim=True)).squeeze(1)
        advantages[rows] += function(own, group[rows])[:, None] * here
    return advantages


def by_episode(
    function: Callable[[Tensor, Tensor], Tensor],
    score: Float[Tensor, " B"],
    group: Int[Tensor, " B"],
    episode: Int[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """`function` of (score, group) of whole episodes: branches share the sum of their scores and what it gives."""
    numbers, place = episode.unique(return_inverse=True)
    if len(numbers) == len(score):
        return function(score, group)
    total = score.new_zeros(len(numbers)).index_add(0, place, score)
    return function(total, group.new_zeros(len(numbers)).scatter(0, place, group))[place]


def leave_one_out(score: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Score minus the mean of the *others* in its group (Kool et al. 2019; Ahmadian et al. 2024, RLOO).

    The baseline does not depend on the response it is taken from, so the gradient stays unbiased. A
    response alone in its group has no baseline.
    """
    mean, size = group_mean(score, group)
    others = (mean * size - score) / (size - 1).clamp(min=1)
    return score - torch.where(size > 1, others, torch.zeros_like(others))


def group_centred(score: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Score minus its group's mean, itself included: (1 − 1/G) times `leave_one_out` (Liu et al. 2025, Dr. GRPO)."""
    return score - group_mean(score, group)[0]


def group_standardised(
    score: Float[Tensor, " B"], group: Int[Tensor, " B"], eps: float = 1e-4
) -> Float[Tensor, " B"]:
    """(score − mean)/(std + ε) within a group, std with n − 1 (Shao et al. 2024, GRPO, §4.1.2).

    Biased: prompts on which responses hardly differ are made as loud as the others. 0 where all are equal.
    """
    centred = group_centred(score, group)
    variance, size = group_mean(centred.square(), group)
    std = (variance * size / (size - 1).clamp(min=1)).sqrt()
    return centred / (std + eps)


def best_of_group(score: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """1 for the best response of each group, the first of equals, 0 for the others (Dong et al. 2023, RAFT)."""
    best = torch.zeros_like(score)
    for number in group.unique():
        rows = (group == number).nonzero().squeeze(1)
        best[rows[score[rows].argmax()]] = 1.0
    return best
