"""Policy and critic of a policy-gradient run, and their updates on a round of scored samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.configs.algorithm import Algorithm
from heedful.data.collate import shuffled, take
from heedful.learner.local import Forward, LocalLearner, Mixed, Optim
from heedful.losses.kl import k3, standard_error
from heedful.losses.policy import effective_sample_size
from heedful.models.reference import Reference
from heedful.models.sampling import derive_seed
from heedful.training.forwards import critic_forward, policy_forward
from heedful.training.policy_losses import critic_loss, joint_loss, policy_loss
from heedful.types import Batch, Metrics, Sampling, ScoredWithValues

LOOKED_AT = 4  # every which response tells how far a round moved the policy, but eight at least


@dataclass(frozen=True)
class Actors:
    """The policy's learner and, where the algorithm asks a critic that is a model of its own, the critic's."""

    policy: LocalLearner
    critic: LocalLearner | None

    @classmethod
    def of(
        cls,
        a: Algorithm,
        policy: PreTrainedModel,
        critic: PreTrainedModel | None,
        reference: Reference,
        sampling: Sampling,
        adam: Optim,
        critic_adam: Optim,
        make: Callable[[PreTrainedModel, Forward, Optim], LocalLearner],
    ) -> Actors:
        """Learners, which `make` makes, with the forwards that the algorithm needs; critic None: none, or a head on the
        policy."""
        forward = policy_forward(sampling, reference if a.analytic else None)
        learner = make(policy, forward, adam)
        return cls(learner, None if critic is None else make(critic, critic_forward, critic_adam))

    def stateful(self) -> dict[str, LocalLearner]:
        """What a run must keep of them to go on."""
        return {"policy": self.policy} | ({"critic": self.critic} if self.critic else {})

    def values(self, a: Algorithm, batch: Batch) -> Tensor:
        """The critic's values `[B, T+1]`, 0 where there is none."""
        if not a.advantage.needs_critic:
            return torch.zeros(batch.tokens.shape)
        return (self.critic or self.policy).outputs(batch).value


def update(
    a: Algorithm,
    actors: Actors,
    scored: ScoredWithValues,
    beta: float,
    step: int,
    seed: int,
    max_tokens: int,
    mixed: Sequence[Callable[[int], Mixed]] = (),
) -> Metrics:
    """The inner epochs over one round. Returns the mean metrics of the policy's and critic's steps.

    How far the round moved the policy is estimated on every fourth response, by k3, with its standard error: a pass
    over all of them would cost half as much as a step's forward and backward.
    """
    loss = joint_loss(a, beta, a.value_head) if a.value_head else policy_loss(a, beta)
    size = a.minibatch_size or len(scored.tokens)
    history: list[Metrics] = []
    for epoch in range(a.inner_epochs):
        order = shuffled(len(scored.tokens), derive_seed(seed, step), epoch)
        for start in range(0, len(order), size):
            part = take(scored, torch.tensor(order[start : start + size]))
            part = replace(part, weight=a.average(part.mask, max_tokens))
            row: Metrics = {}
            if a.own_critic is None or step > a.own_critic.critic_warmup:
                number = actors.policy.steps
                means = actors.policy.step(loss, part, mixed=[mix(number) for mix in mixed])
                row |= {k if "/" in k else f"policy/{k}": x for k, x in means.items()}
            if actors.critic is not None and a.own_critic is not None:
                means = actors.critic.step(critic_loss(a.own_critic), part)
                row |= {k if "/" in k else f"value/{k}": x for k, x in means.items()}
            history.append(row)
    every = max(1, min(LOOKED_AT, len(scored.tokens) // 8))
    some = take(scored, torch.arange(0, len(scored.tokens), every))
    logp = actors.policy.outputs(some).logp
    after = logp - some.old_logp
    moved = (k3(some.old_logp, logp) * some.mask).sum(1)[some.mask.any(1)]
    return {
        **{k: math.fsum(row[k] for row in history) / len(history) for k in history[0]},
        "policy/kl_update": float(moved.mean()) if len(moved) else 0.0,
        "policy/kl_update_se": standard_error(moved),
        "policy/ess": float(effective_sample_size(after, some.mask)),
    }
