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
from heedful.losses.policy import effective_sample_size
from heedful.models.forward import policy_outputs, token_logps, token_values
from heedful.models.reference import Reference
from heedful.models.sampling import derive_seed
from heedful.training.policy_losses import (
    VALUE,
    critic_loss,
    joint_loss,
    logps_of,
    policy_loss,
    token_weights,
)
from heedful.types import Batch, Metrics, Sampling, ScoredWithValues

LOOKED_AT = 4  # every which response tells how far a round moved the policy, but eight at least


@dataclass(frozen=True)
class Actors:
    """The policy's learner and, where the algorithm asks a critic that is a model of its own, the critic's."""

    policy: LocalLearner
    critic: LocalLearner | None
    value_head: bool = False

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
        *,
        micro_batch_tokens: int,
    ) -> Actors:
        """Learners with the forwards that the algorithm needs; critic None: none, or a head on the policy."""
        analytic = a.kl == "loss" and a.kl_estimator == "analytic"
        forward = policy_forward(sampling, reference if analytic else None, value_head=a.value_head)
        learner = LocalLearner(policy, forward, adam, micro_batch_tokens=micro_batch_tokens)
        if critic is None:
            return cls(learner, None, a.value_head)
        judge = LocalLearner(
            critic,
            lambda model, batch: token_values(model, batch.tokens, batch.lengths),
            critic_adam,
            micro_batch_tokens=micro_batch_tokens,
        )
        return cls(learner, judge)

    def parts(self) -> dict[str, LocalLearner]:
        """What a run must keep of them to go on."""
        return {"policy": self.policy} | ({"critic": self.critic} if self.critic else {})

    def values(self, batch: Batch) -> Tensor:
        """The critic's values `[B, T+1]`, 0 where there is none."""
        if self.critic is not None:
            return self.critic.logprobs(batch)
        if self.value_head:
            return self.policy.logprobs(batch)[..., VALUE]
        return torch.zeros(batch.tokens.shape)


def policy_forward(
    sampling: Sampling, reference: Reference | None = None, *, value_head: bool = False
) -> Forward:
    """`learner.Forward` of a policy: log-probs under the very distribution it is sampled from.

    `[B, T]`, or `models.forward.policy_outputs` where the KL to a reference or a value head is asked for.
    """
    if reference is None and not value_head:
        return lambda model, batch: token_logps(model, batch.tokens, batch.mask, sampling)
    return lambda model, batch: policy_outputs(
        model, batch.tokens, batch.mask, sampling, reference=reference
    )


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

    How far the round moved the policy is estimated on every fourth response: a pass over all of them would
    cost half as much as a step's forward and backward.
    """
    joint = a.value_head
    loss = joint_loss(a, beta, a.value_coef) if joint else policy_loss(a, beta)
    size = a.minibatch_size or len(scored.tokens)
    history: list[Metrics] = []
    for epoch in range(a.inner_epochs):
        order = shuffled(len(scored.tokens), derive_seed(seed, step), epoch)
        for start in range(0, len(order), size):
            part = take(scored, torch.tensor(order[start : start + size]))
            weight = token_weights(a.average, part.mask, max_tokens)
            part = replace(part, weight=weight)
            row: Metrics = {}
            if actors.critic is None or step > a.critic_warmup:
                at = actors.policy.steps
                p = actors.policy.step(loss, part, mixed=[mix(at) for mix in mixed])
                row |= {k if "/" in k else f"policy/{k}": v for k, v in p.items()}
            if actors.critic is not None:
                v = actors.critic.step(critic_loss(a), part)
                row |= {k if "/" in k else f"value/{k}": x for k, x in v.items()}
            history.append(row)
    every = max(1, min(LOOKED_AT, len(scored.tokens) // 8))
    some = take(scored, torch.arange(0, len(scored.tokens), every))
    after = logps_of(actors.policy.logprobs(some)) - some.old_logp
    return {
        **{k: math.fsum(row[k] for row in history) / len(history) for k in history[0]},
        "policy/kl_update": float(-(after * some.mask).sum() / some.mask.any(1).sum().clamp(min=1)),
        "policy/ess": float(effective_sample_size(after, some.mask)),
    }
