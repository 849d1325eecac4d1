"""The losses of policy and critic, per token, and the controller of β."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from heedful.configs.algorithm import Algorithm
from heedful.configs.tagged.advantages import WithCritic
from heedful.configs.tagged.kl import Charged, InLoss, Kl
from heedful.learner.local import Loss
from heedful.losses import kl as kls
from heedful.losses import policy as losses
from heedful.types import Batch, Outputs, Scored, ScoredWithValues


def policy_loss(a: Algorithm, beta: float) -> Callable[[Outputs, Batch], Loss]:
    """The loss of a policy's outputs on a `Scored` batch."""

    def loss(out: Outputs, b: Batch) -> Loss:
        assert isinstance(b, Scored)
        value = a.surrogate(out.logp, b)
        metrics = {
            "policy/clipfrac": a.surrogate.clipped(out.logp, b).detach(),
            "policy/approx_kl": kls.k3(b.old_logp, out.logp).detach(),
        }
        if isinstance(a.kl, InLoss):
            divergence = _divergence(a, a.kl, out, b)
            value = value + beta * divergence
            metrics["kl/loss"] = divergence.detach()
        return Loss(value * b.weight, metrics)

    return loss


def _divergence(a: Algorithm, kl: InLoss, out: Outputs, b: Scored) -> Tensor:
    if a.analytic:
        return out.kl
    if kl.kl_corrected:
        return kls.corrected(kl.kl_estimator, out.logp, b.ref_logp, b.old_logp)
    return kl.kl_estimator(out.logp, b.ref_logp)


def critic_loss(critic: WithCritic) -> Callable[[Outputs, Batch], Loss]:
    """The critic's clipped loss of `value` on a `ScoredWithValues` batch."""

    def loss(out: Outputs, b: Batch) -> Loss:
        assert isinstance(b, ScoredWithValues)
        values = out.value[:, :-1]
        moved = ((values - b.values).abs() > critic.value_clip).float()
        return Loss(
            losses.value_clip(values, b.values, b.returns, critic.value_clip),
            {"value/clipfrac": moved.detach()},
        )

    return loss


def joint_loss(a: Algorithm, beta: float, critic: WithCritic) -> Callable[[Outputs, Batch], Loss]:
    """Policy and value head of one network: the policy's loss plus value_coef times the critic's."""
    of_policy, of_critic = policy_loss(a, beta), critic_loss(critic)

    def loss(out: Outputs, b: Batch) -> Loss:
        ours, theirs = of_policy(out, b), of_critic(out, b)
        metrics = {**ours.metrics, **theirs.metrics, "value/loss": theirs.value.detach()}
        return Loss(ours.value + critic.value_coef * theirs.value, metrics)

    return loss


class KLController:
    """β, fixed or led to a target: β(1 + clip(KL/target − 1, ±0.2)·n/horizon) within 1e-4 … 10 (Ziegler et al. 2019).

    KL and target in nats per response, n responses a round.
    """

    def __init__(self, beta: float, target: float | None, horizon: int):
        self.beta, self.target, self.horizon = beta, target, horizon

    @classmethod
    def of(cls, kl: Kl) -> KLController:
        """As a method charges KL; β is 0 where it does not."""
        if isinstance(kl, Charged):
            return cls(kl.beta, kl.kl_target, kl.kl_horizon)
        return cls(0.0, None, 1)

    def update(self, kl: float, responses: int) -> None:
        """After a round of so many responses with this mean KL."""
        if self.target is not None:
            error = min(0.2, max(-0.2, kl / self.target - 1))
            self.beta = min(
                10.0, max(1e-4, self.beta * (1 + error * min(1.0, responses / self.horizon)))
            )

    def state_dict(self) -> dict[str, Any]:
        return {"beta": self.beta}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.beta = float(state["beta"])
