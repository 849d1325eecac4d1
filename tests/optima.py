"""Where policy-gradient methods must end on `enumerable`: π* or, where a method has another fixed point, that one.

Responses form a tree of T levels with V branches. A policy over it is a log-prob of each of the V^T leaves;
`levels` turns it into the conditional log-probs of each level.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

import tiny
from heedful.configs.algorithm import METHODS, Algorithm
from heedful.data.collate import collate
from heedful.engine.local import LocalEngine
from heedful.learner import load_learner
from heedful.learner.local import Optim, predict
from heedful.models.forward import add_value_head
from heedful.models.load import copy_model
from heedful.models.reference import Reference
from heedful.rollout import Task, rollout
from heedful.tagged import compose
from heedful.training.actors import Actors, update
from heedful.training.estimates import estimate, rollout_metrics
from heedful.training.forwards import policy_forward
from heedful.training.policy_losses import KLController
from heedful.types import Batch, Sampling
from heedful.worlds import enumerable as world

PROMPT = 0
SAMPLING = Sampling()
TOK = tiny.tokenizer()  # of the texts, which nobody reads
TASK = Task(prompt="", tokens=(PROMPT,), stop=())
V, T = world.V, world.T


def levels(logp: Tensor) -> list[Tensor]:
    """log π(y_t | y_<t) for t = 0 … T−1: tensors `[V^t, V]` from log π(y) `[V^T]`."""
    found, tree = [], logp.double().reshape([V] * T)
    for t in range(T):
        joint = tree.reshape(V**t, V, -1).logsumexp(-1)
        found.append(joint - joint.logsumexp(-1, keepdim=True))
    return found


def fixed_point(
    ref_logp: Tensor, rewards: Tensor, solve: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The policy of which each conditional is `solve(Q, log π_ref)`, Q(s, a) its own expected reward.

    That is where token-level KL *in the loss* ends: the KL of a later token is nobody's cost at an earlier
    one, so Q is the plain expected reward and not the soft value of π*.
    """
    ref, value, chosen = levels(ref_logp), rewards.double(), []
    for t in reversed(range(T)):
        q = value.reshape(V**t, V)
        logp = solve(q, ref[t])
        chosen.append(logp)
        value = (logp.exp() * q).sum(-1)
    out = torch.zeros(1, dtype=torch.double)
    for logp in reversed(chosen):
        out = (out[:, None] + logp).flatten()
    return out


def forward_kl(beta: float) -> Callable[[Tensor, Tensor], Tensor]:
    """argmax_π Σ π Q − β KL(π‖π_ref) = π_ref e^{Q/β}/Z."""
    return lambda q, ref: torch.log_softmax(ref + q / beta, -1)


def reverse_kl(beta: float) -> Callable[[Tensor, Tensor], Tensor]:
    """argmax_π Σ π Q − β KL(π_ref‖π): π = β π_ref/(λ − Q) with λ > max Q such that π sums to 1."""

    def solve(q: Tensor, ref: Tensor) -> Tensor:
        low = (q + beta * ref.exp()).amax(-1, keepdim=True)
        high = q.amax(-1, keepdim=True) + beta
        for _ in range(200):
            middle = (low + high) / 2
            too_much = (beta * ref.exp() / (middle - q)).sum(-1, keepdim=True) > 1
            low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
        return torch.log_softmax(torch.log(beta * ref.exp() / (high - q)), -1)

    return solve


def standardised(
    ref_logp: Tensor, rewards: Tensor, beta: float, solve: Callable[[float], Callable]
) -> Tensor:
    """Rewards divided by their standard deviation under the policy itself act as β times that deviation."""
    scale = 1.0
    for _ in range(100):
        logp = fixed_point(ref_logp, rewards, solve(beta * scale))
        mean = (logp.exp() * rewards).sum()
        scale = float((logp.exp() * (rewards - mean).square()).sum().sqrt())
    return fixed_point(ref_logp, rewards, solve(beta * scale))


def rolled_out(engine: LocalEngine, n: int, rewards: Tensor, seed: int) -> tuple[Batch, Tensor]:
    """n scored samples of the one prompt, and their numbers."""
    samples = asyncio.run(
        rollout(engine, [TASK], TOK, n=n, max_tokens=T, sampling=SAMPLING, seed=seed)
    )
    batch = collate(samples)
    numbers = world.index(batch.tokens[:, 1:])
    return replace(batch, reward=rewards[numbers].float()), numbers


def grouped(batch: Batch, size: int) -> Batch:
    """Samples of one prompt as many groups of `size`."""
    return replace(batch, group=torch.arange(len(batch.tokens)) // size)


def preset(name: str, **changes) -> Algorithm:
    """A row of the table for a world without end tokens."""
    fixed = {
        "truncated": "score",
        "missing_eos_penalty": 0.0,
        "overlong": 0.0,
        "dynamic_sampling": 0,
    }
    sets = METHODS[name].sets
    # Every case names a β and a λ, whether its method reads them or not.
    return compose(Algorithm, {**sets, **fixed, **changes}, ignore=[*sets, "beta", "lam"])


def optimised(
    a: Algorithm,
    *,
    steps: int,
    rate: float = 2e-3,
    seed: int = 0,
    look: Callable[[int, float], None] = lambda step, kl: None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(log π after `steps` rounds, log π_ref, rewards): the recipe's own pieces, on a tiny Llama.

    `look` hears each step's KL in nats per response.
    """
    reference = world.tiny_model(0)
    policy = copy_model(reference).requires_grad_(True)
    rewards = world.rewards(0)
    with torch.no_grad():
        ref_logp = world.log_probs(reference, PROMPT)
    critic = None
    if a.value_head:
        add_value_head(policy)
    elif a.own_critic:
        critic = value_model(reference)
    updates = steps * a.inner_epochs * a.minibatches
    adam = Optim(rate, updates, adam_eps=1e-5)
    actors = Actors.of(
        a, policy, critic, Reference(reference), SAMPLING, adam,
        replace(adam, learning_rate=1.5 * rate), partial(load_learner, micro_batch_tokens=1 << 16),
    )  # fmt: skip
    kl = KLController.of(a.kl)
    engine = LocalEngine(policy, max_rows=a.batch_size)
    forward = policy_forward(SAMPLING)
    for step in range(1, steps + 1):
        batch, _ = rolled_out(engine, a.batch_size, rewards, seed=seed * 100_000 + step)
        batch = grouped(batch, a.group_size)
        ref = predict(reference, forward, batch, 1 << 16).logp
        scored = estimate(a, batch, ref, actors.values(a, batch), kl.beta, T)
        update(a, actors, scored, kl.beta, step, seed, T)
        nats = rollout_metrics(a, scored, kl.beta, batch.mask, T)["kl/seq"] if a.kl.charged else 0.0
        kl.update(nats, a.batch_size)
        look(step, nats)
    with torch.no_grad():
        return world.log_probs(policy, PROMPT), ref_logp, rewards


# Presets that charge KL, where each must end, and how long it takes to get within 0.05 of it.
CASES: dict[str, dict] = {
    "ppo": {"minibatch_size": 512, "inner_epochs": 2, "critic_warmup": 3},
    "ppo with a value head": {"minibatch_size": 512, "inner_epochs": 2, "value_head": True},
    "a2c": {"critic_warmup": 3},
    "reinforce": {},
    "importance": {"minibatch_size": 512},
    "rloo": {},
    "grpo": {"minibatch_size": 0, "group_size": 1024},
    "reinforce_pp": {"minibatch_size": 512},
}


ROUNDS = {"grpo": 800}  # of 1,024 responses; 400 for the others


def case(name: str, seed: int = 0, rate: float = 3e-3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(reached, its fixed point, π*, π_ref), all log-probs, at β = 1."""
    a = preset(name.split()[0], batch_size=1024, beta=1.0, **CASES[name])
    rounds = ROUNDS.get(name, 400)
    reached, ref_logp, rewards = optimised(a, steps=rounds, rate=rate, seed=seed)
    best = world.optimal(ref_logp, rewards, 1.0)
    own = {
        "a2c": lambda: fixed_point(ref_logp, rewards, forward_kl(1.0)),
        "grpo": lambda: standardised(ref_logp, rewards, 1.0, reverse_kl),
    }.get(name, lambda: best)()
    return reached, own, best, ref_logp


def value_model(policy):
    """A critic with the policy's body: a one-label sequence classifier read at every position."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    settings = {
        k: v
        for k, v in policy.config.to_dict().items()
        if k not in ("architectures", "id2label", "label2id")
    }
    critic = LlamaForSequenceClassification(LlamaConfig(**settings, num_labels=1))
    critic.model.load_state_dict(policy.model.state_dict())
    return critic.eval()
