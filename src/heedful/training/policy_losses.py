"""The losses of policy and critic, per token, and the controller of β."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from heedful.configs.algorithm import Algorithm, Average
from heedful.learner.local import Loss, LossFn
from heedful.losses import kl as kls
from heedful.losses import policy as losses
from heedful.types import Batch, Scored, ScoredWithValues


def token_weights(average: Average, mask: Tensor, max_tokens: int) -> Tensor:
    """`[B, T]` such that the mean of weight × loss over all tokens of the minibatch is the average asked for.

    The learner divides by the minibatch's tokens; its micro-batches therefore change nothing.
    """
    if average == "token":
        return mask.float()
    length = mask.sum(1, keepdim=True).clamp(min=1)
    responses = mask.any(1).sum().clamp(min=1)
    divisor = {
        "response": torch.ones_like(length),
        "sequence": length,
        "constant": torch.full_like(length, max_tokens),
    }[average]
    return mask * mask.sum() / (responses * divisor)


# What a policy's forward gives beside `[B, T]` log-probs, where more is asked for: `[B, T+1, 3]`, whose
# last column is about nothing but the value after the last token.
LOGP, KL, VALUE = range(3)


def logps_of(out: Tensor) -> Tensor:
    """Log-probs `[B, T]` in a policy's output."""
    return out if out.ndim == 2 else out[:, :-1, LOGP]


def policy_loss(a: Algorithm, beta: float) -> LossFn:
    """The loss of a policy's output on a `Scored` batch."""

    def loss(out: Tensor, b: Batch) -> Loss:
        assert isinstance(b, Scored)
        logp = logps_of(out)
        value, ratio = _surrogate(a, logp, b)
        metrics = {
            "policy/clipfrac": losses.clipped(ratio, b.adv, a.clip, a.clip_high).detach(),
            "policy/approx_kl": kls.k3(b.old_logp, logp).detach(),
        }
        if a.kl == "loss":
            divergence = _divergence(a, out, logp, b)
            value = value + beta * divergence
            metrics["kl/loss"] = divergence.detach()
        return Loss(value * b.weight, metrics)

    return loss


def _surrogate(a: Algorithm, logp: Tensor, b: Scored) -> tuple[Tensor, Tensor]:
    """The unreduced surrogate and the log-ratio whose clipping is reported, both `[B, T]`."""
    log_ratio = logp - b.old_logp
    if a.surrogate == "clip":
        return losses.ppo_clip(logp, b.old_logp, b.adv, a.clip, a.clip_high), log_ratio
    if a.surrogate == "sequence_clip":
        value = losses.gspo_clip(logp, b.old_logp, b.adv, b.mask, a.clip, a.clip_high)
        return value, losses.sequence_log_ratio(logp, b.old_logp, b.mask)
    if a.surrogate == "gradient":
        return losses.policy_gradient(logp, b.adv), torch.zeros_like(logp)
    sequence = a.surrogate == "sequence_importance"
    value = losses.importance_weighted(
        logp, b.old_logp, b.adv, b.mask, sequence=sequence, truncate=a.truncate
    )
    return value, torch.zeros_like(logp)


def _divergence(a: Algorithm, out: Tensor, logp: Tensor, b: Scored) -> Tensor:
    if a.kl_estimator == "analytic":
        return out[:, :-1, KL]
    estimator = kls.ESTIMATORS[a.kl_estimator]
    if a.kl_corrected:
        return kls.corrected(estimator, logp, b.ref_logp, b.old_logp)
    return estimator(logp, b.ref_logp)


def critic_loss(a: Algorithm) -> LossFn:
    """The critic's clipped loss of values `[B, T+1]` on a `ScoredWithValues` batch."""

    def loss(values: Tensor, b: Batch) -> Loss:
        assert isinstance(b, ScoredWithValues)
        values = values[:, :-1]
        moved = ((values - b.values).abs() > a.value_clip).float()
        return Loss(
            losses.value_clip(values, b.values, b.returns, a.value_clip),
            {"value/clipfrac": moved.detach()},
        )

    return loss


def joint_loss(a: Algorithm, beta: float, value_coef: float) -> LossFn:
    """Policy and value head of one network: the policy's loss plus value_coef times the critic's."""
    policy, critic = policy_loss(a, beta), critic_loss(a)

    def loss(out: Tensor, b: Batch) -> Loss:
        ours, theirs = policy(out, b), critic(out[..., VALUE], b)
        metrics = {**ours.metrics, **theirs.metrics, "value/loss": theirs.value.detach()}
        return Loss(ours.value + value_coef * theirs.value, metrics)

    return loss


class KLController:
    """β, fixed or led to a target: β(1 + clip(KL/target − 1, ±0.2)·n/horizon) within 1e-4 … 10 (Ziegler et al. 2019).

    KL and target in nats per response, n responses a round.
    """

    def __init__(self, beta: float, target: float | None, horizon: int):
        self.beta, self.target, self.horizon = beta, target, horizon

    def update(self, kl: float, responses: int) -> None:
        """After a round of so many responses with this mean KL."""
        if self.target is not None:
            error = min(0.2, max(-0.2, kl / self.target - 1))
            self.beta = min(
                10.0, max(1e-4, self.beta * (1 + error * min(1.0, responses / self.horizon)))
            )

    def state_dict(self) -> Mapping[str, float]:
        return {"beta": self.beta}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.beta = float(state["beta"])
