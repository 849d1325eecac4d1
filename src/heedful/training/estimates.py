"""From the scores of sampled responses to advantages, returns and metrics."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from heedful.configs.algorithm import Algorithm
from heedful.configs.tagged.kl import Charged, InReward
from heedful.losses import advantages as adv
from heedful.losses.kl import standard_error
from heedful.losses.policy import explained_variance
from heedful.types import Batch, Metrics, Rewarded, ScoredWithValues


def final_scores(a: Algorithm, batch: Batch, max_tokens: int) -> Tensor:
    """The reward of each response after what is taken for its length `[B]`; bootstrapped ones have none of their own.

    Soft overlong punishment: −(n − (L − o))/o for n tokens within the last o = overlong·L of L = max_tokens
    (Yu et al. 2025, DAPO, eq. 13).
    """
    score = batch.reward
    if a.advantage.truncated == "bootstrap":
        score = torch.where(batch.truncated, 0.0, score)
    score = score - a.missing_eos_penalty * batch.truncated
    if a.overlong:
        room = a.overlong * max_tokens
        over = batch.mask.sum(1) - (max_tokens - room)
        score = score - (over / room).clamp(0.0, 1.0)
    return score


def episode_scores(a: Algorithm, batch: Batch, max_tokens: int) -> Tensor:
    """What each response's whole episode is worth `[B]`: `final_scores`, and what was given for single turns."""
    score = final_scores(a, batch, max_tokens) + batch.step_rewards.sum(1)
    return adv.by_episode(lambda total, group: total, score, batch.group, batch.episode)


def estimate(
    a: Algorithm,
    batch: Batch,
    ref_logp: Tensor,
    values: Tensor,
    beta: float,
    max_tokens: int,
) -> ScoredWithValues:
    """Rewards → advantages → returns → whitened advantages. values `[B, T+1]`: the critic after every token.

    Returns are *unwhitened* advantages plus values. After a response that ended V is 0; after one that
    was truncated it is the critic's value there, and a score of the truncated response would count the future twice.
    """
    rows = torch.arange(len(batch.tokens))
    bootstrap = torch.zeros_like(batch.reward)
    if a.advantage.truncated == "bootstrap":
        bootstrap = torch.where(batch.truncated, values[rows, batch.lengths - 1], bootstrap)
    score = final_scores(a, batch, max_tokens)
    cost, price = torch.zeros_like(batch.old_logp), 0.0
    if isinstance(a.kl, InReward):
        cost, price = a.kl.kl_estimator(batch.old_logp, ref_logp), beta
    if a.advantage.credit == "episode":
        score = score + (batch.step_rewards * batch.mask).sum(1)
    rewards = adv.token_rewards(cost, batch.mask, score, price)
    if a.advantage.credit != "episode":
        rewards = rewards + batch.step_rewards
    if a.whiten_rewards:
        rewards = adv.whiten(rewards, batch.mask, shift_mean=False)
    values = values[:, :-1] * batch.mask
    advantages = a.advantage(
        Rewarded(rewards, values, batch.mask, bootstrap, batch.group, batch.episode)
    )
    mask = batch.mask & ~batch.truncated[:, None] if a.advantage.truncated == "mask" else batch.mask
    return ScoredWithValues(
        **{f.name: getattr(batch, f.name) for f in fields(Batch)} | {"mask": mask},
        ref_logp=ref_logp,
        adv=adv.whiten(advantages, mask) if a.whiten_advantages else advantages * mask,
        values=values,
        returns=(advantages + values) * mask,
        weight=mask.float(),
    )


def rollout_metrics(
    a: Algorithm, b: ScoredWithValues, beta: float, written: Tensor, max_tokens: int
) -> Metrics:
    """What the sampled batch says, before the update. `kl/seq` is in nats per response, by k1.

    `written` `[B, T]` is the mask of all that was sampled; the batch's own leaves out what takes no part in the loss.
    """
    k1 = (b.old_logp - b.ref_logp) * written
    total = b.reward + b.step_rewards.sum(1)
    tokens = written.sum().clamp(min=1)
    metrics = {
        "reward": float(total.mean()),
        "reward/std": float(total.std(correction=0)),
        "policy/entropy": float(-(b.old_logp * written).sum() / tokens),
        "completions/mean_length": float(written.sum(1).float().mean()),
        "completions/repetition": repetition(b.tokens[:, 1:], written),
        "eos_rate": float((~b.truncated).float().mean()),
    }
    if a.kl.charged:
        metrics |= {
            "kl/seq": float(k1.sum(1).mean()),
            "kl/seq_se": standard_error(k1.sum(1)),
            "kl/token": float(k1.sum() / tokens),
            "kl/coef": beta,
            "reward/penalised": float((total - beta * k1.sum(1)).mean()),
        }
    if isinstance(a.kl, Charged) and a.kl.kl_target is not None:
        metrics["kl/target"] = a.kl.kl_target
    if a.advantage.needs_group:
        worth = episode_scores(a, replace(b, mask=written), max_tokens)
        _, place = b.group.unique(return_inverse=True)
        ends = [
            torch.zeros(int(place.max()) + 1).scatter_reduce(
                0, place, worth, which, include_self=False
            )
            for which in ("amin", "amax")
        ]
        metrics["groups/equal"] = float((ends[0] == ends[1]).float().mean())
    if a.advantage.needs_critic:
        explained = explained_variance(b.values, b.returns, b.mask)
        metrics["value/explained_variance"] = float(explained)
    return metrics


def repetition(tokens: Tensor, mask: Tensor, n: int = 4) -> float:
    """Share of the n-grams of the responses, `[B, T]` ids where `mask` is True, that stood in the response before."""
    again = count = 0
    for row, own in zip(tokens, mask, strict=True):
        ids = row[own].tolist()
        grams = list(zip(*(ids[i:] for i in range(n)), strict=False))
        again, count = again + len(grams) - len(set(grams)), count + len(grams)
    return again / max(1, count)
