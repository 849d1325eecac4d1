"""From the scores of sampled responses to advantages, returns and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from heedful.configs.algorithm import WITH_CRITIC, WITH_GROUP, Algorithm, refuse_unknown
from heedful.losses import advantages as adv
from heedful.losses import kl as kls
from heedful.losses.policy import explained_variance
from heedful.registry import load_function
from heedful.types import Batch, Metrics, ScoredWithValues


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What an advantage function reads: rewards, values and mask `[B, T]`, bootstrap, group and episode `[B]`.

    rewards hold the score at each response's last token, what was given for single turns and, with KL in the reward,
    its price at every token; values are 0 where no critic was asked for.
    """

    rewards: Tensor
    values: Tensor
    mask: Tensor
    bootstrap: Tensor
    group: Tensor
    episode: Tensor


def _per_response(function: Callable[[Tensor, Tensor], Tensor]):
    """An advantage of the whole response, given to each of its tokens."""

    def of(a: Algorithm, x: Rewarded) -> Tensor:
        total = (x.rewards * x.mask).sum(1)
        return adv.by_episode(function, total, x.group, x.episode)[:, None] * x.mask

    return of


def _return_baseline(a: Algorithm, x: Rewarded) -> Tensor:
    total = (x.rewards * x.mask).sum(1)
    baseline = total - adv.leave_one_out(total, torch.zeros_like(x.group))
    return (adv.rewards_to_go(x.rewards, x.mask, a.gamma) - baseline[:, None]) * x.mask


ADVANTAGES: dict[str, Callable[[Algorithm, Rewarded], Tensor]] = {
    "gae": lambda a, x: adv.gae(x.rewards, x.values, x.mask, x.bootstrap, a.gamma, a.lam),
    "n_step": lambda a, x: adv.n_step(x.rewards, x.values, x.mask, x.bootstrap, a.n_step, a.gamma),
    "return": lambda a, x: adv.rewards_to_go(x.rewards, x.mask, a.gamma),
    # The mean return of the *other* responses of the round, whatever their prompt.
    "return_baseline": _return_baseline,
    "leave_one_out": _per_response(adv.leave_one_out),
    "group_centred": _per_response(adv.group_centred),
    "group_standardised": _per_response(adv.group_standardised),
    "best_of_group": _per_response(adv.best_of_group),
}


def advantage_function(name: str) -> Callable[[Algorithm, Rewarded], Tensor]:
    """One of `ADVANTAGES`, or the user's `package.module:function` of (algorithm, Rewarded) → `[B, T]`."""
    refuse_unknown(name)
    return ADVANTAGES[name] if name in ADVANTAGES else load_function(name)


def final_scores(a: Algorithm, batch: Batch, max_tokens: int) -> Tensor:
    """The reward of each response after what is taken for its length `[B]`; bootstrapped ones have none of their own.

    Soft overlong punishment: −(n − (L − o))/o for n tokens within the last o = overlong·L of L = max_tokens
    (Yu et al. 2025, DAPO, eq. 13).
    """
    score = batch.reward
    if a.truncated == "bootstrap":
        score = torch.where(batch.cut, 0.0, score)
    score = score - a.missing_eos_penalty * batch.cut
    if a.overlong:
        room = a.overlong * max_tokens
        over = batch.mask.sum(1) - (max_tokens - room)
        score = score - (over / room).clamp(0.0, 1.0)
    return score


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
    was cut it is the critic's value there, and a score of the stump would count the future twice.
    """
    rows = torch.arange(len(batch.tokens))
    bootstrap = torch.zeros_like(batch.reward)
    if a.truncated == "bootstrap":
        bootstrap = torch.where(batch.cut, values[rows, batch.lengths - 1], bootstrap)
    score = final_scores(a, batch, max_tokens)
    price = beta if a.kl == "reward" else 0.0
    estimator = kls.ESTIMATORS.get(a.kl_estimator, kls.k1)
    cost = estimator(batch.old_logp, ref_logp)
    rewards = adv.token_rewards(cost, batch.mask, score, price) + batch.step_rewards
    if a.whiten_rewards:
        rewards = adv.whiten(rewards, batch.mask, shift_mean=False)
    values = values[:, :-1] * batch.mask
    found = advantage_function(a.advantage)(
        a, Rewarded(rewards, values, batch.mask, bootstrap, batch.group, batch.episode)
    )
    mask = batch.mask & ~batch.cut[:, None] if a.truncated == "mask" else batch.mask
    return ScoredWithValues(
        **{f.name: getattr(batch, f.name) for f in fields(Batch)} | {"mask": mask},
        ref_logp=ref_logp,
        adv=adv.whiten(found, mask) if a.whiten_advantages else found * mask,
        values=values,
        returns=(found + values) * mask,
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
        "eos_rate": float((~b.cut).float().mean()),
    }
    if a.kl != "none":
        metrics |= {
            "kl/seq": float(k1.sum(1).mean()),
            "kl/token": float(k1.sum() / tokens),
            "kl/coef": beta,
            "reward/penalised": float((total - beta * k1.sum(1)).mean()),
        }
    if a.kl_target is not None:
        metrics["kl/target"] = a.kl_target
    if a.advantage in WITH_GROUP:
        worth = final_scores(a, replace(b, mask=written), max_tokens)
        _, place = b.group.unique(return_inverse=True)
        ends = [
            torch.zeros(int(place.max()) + 1).scatter_reduce(
                0, place, worth, which, include_self=False
            )
            for which in ("amin", "amax")
        ]
        metrics["groups/equal"] = float((ends[0] == ends[1]).float().mean())
    if a.advantage in WITH_CRITIC:
        explained = explained_variance(b.values, b.returns, b.mask)
        metrics["value/explained_variance"] = float(explained)
    return metrics
