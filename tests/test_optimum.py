"""PPO and DPO reach the exact optimum π* ∝ π_ref·e^{r/β} where every quantity can be enumerated."""

import asyncio
from dataclasses import replace
from pathlib import Path

import torch

from heedful.data.collate import collate
from heedful.engine.torch import TorchEngine
from heedful.learner.local import LocalLearner, Loss, Optim, predict
from heedful.losses.policy import ppo_clip
from heedful.losses.preference import dpo
from heedful.models.forward import token_values
from heedful.models.load import copy_model
from heedful.recipes import policy as ppo
from heedful.recipes.preference import pair_logps
from heedful.rollout import Task, rollout
from heedful.types import Paired, Sampling
from heedful.worlds import enumerable as world

PROMPT = 0
SAMPLING = Sampling()


def sequences(rows: torch.Tensor) -> torch.Tensor:
    """Prompt and response ids of responses by number, `[n, 1 + T]`."""
    responses = world.responses()[rows]
    return torch.cat([torch.full((len(rows), 1), PROMPT), responses], dim=1)


def test_dpo_reaches_the_exact_optimum():
    """Pairs from π_ref with exact Bradley–Terry labels: the population minimiser of DPO is π*.

    Mutation caught: β misplaced, means in place of sums, chosen and rejected rows mixed up.
    """
    beta, steps, pairs = 2.0, 600, 512
    reference = world.tiny_model(0)
    policy = copy_model(reference).requires_grad_(True)
    rewards = world.rewards(0)
    with torch.no_grad():
        ref_logp = world.log_probs(reference, PROMPT)
    best = world.optimal(ref_logp, rewards, beta)
    forward = ppo.policy_forward(SAMPLING)
    learner = LocalLearner(
        policy, forward, Optim(6e-3, steps, schedule="cosine", max_grad_norm=10.0)
    )
    g = torch.Generator().manual_seed(1)
    start = world.total_variation(ref_logp, best).item()
    for _ in range(steps):
        rows = torch.multinomial(ref_logp.exp(), 2 * pairs, replacement=True, generator=g)
        p = torch.sigmoid(rewards[rows[0::2]] - rewards[rows[1::2]]).float()
        batch = Paired(
            tokens=sequences(rows),
            mask=torch.ones(2 * pairs, world.T, dtype=torch.bool),
            lengths=torch.full((2 * pairs,), world.T + 1),
            old_logp=torch.zeros(2 * pairs, world.T),
            group=torch.arange(pairs).repeat_interleave(2),
            reward=torch.zeros(2 * pairs),
            cut=torch.zeros(2 * pairs, dtype=torch.bool),
            ref_sum=ref_logp[rows].float(),
            p=p.repeat_interleave(2),
        )

        def loss(logp, b):
            return Loss(dpo(pair_logps(logp, b), b.p[0::2], beta))

        learner.step(loss, batch, per="group")
    with torch.no_grad():
        reached = world.total_variation(world.log_probs(policy, PROMPT), best).item()
    assert start > 0.2  # far away at the beginning: with half the β it would end 0.19 away
    assert reached < 0.05


def task() -> Task:
    return Task(prompt="", tokens=(PROMPT,), stop=())


def config(**changes) -> ppo.Config:
    return ppo.Config(
        model="", reward="", data="", out=Path(), max_tokens=world.T, truncated="score",
        missing_eos_penalty=0.0, **changes,
    )  # fmt: skip


def rolled_out(engine: TorchEngine, n: int, rewards: torch.Tensor, seed: int):
    samples = asyncio.run(
        rollout(engine, [task()], n=n, max_tokens=world.T, sampling=SAMPLING, seed=seed)
    )
    batch = collate(samples)
    numbers = world.index(batch.tokens[:, 1:])
    return replace(batch, reward=rewards[numbers].float()), numbers


def test_ppo_reaches_the_exact_optimum():
    """Rollouts, KL in the reward, GAE, clipped updates and critic, all the recipe's own pieces.

    Mutation caught: score added twice, KL with the wrong sign or a clamp, advantages misaligned by one.
    """
    beta, steps, n = 1.0, 120, 1024
    reference = world.tiny_model(0)
    policy = copy_model(reference).requires_grad_(True)
    critic = value_model(reference)
    rewards = world.rewards(0)
    with torch.no_grad():
        ref_logp = world.log_probs(reference, PROMPT)
    best = world.optimal(ref_logp, rewards, beta)
    c = config(inner_epochs=2, minibatch_size=n // 2, critic_warmup=3, lam=0.95, clip=0.2)
    total = steps * 4
    forward = ppo.policy_forward(SAMPLING)
    learner = LocalLearner(policy, forward, Optim(2e-3, total, adam_eps=1e-5, max_grad_norm=1.0))
    judge = LocalLearner(
        critic, lambda m, b: token_values(m, b.tokens), Optim(3e-3, total, adam_eps=1e-5)
    )
    engine = TorchEngine(policy, max_rows=n)
    for step in range(1, steps + 1):
        batch, _ = rolled_out(engine, n, rewards, seed=step)
        ref = predict(reference, forward, batch, 1 << 16)
        scored = ppo.estimate(c, batch, ref, judge.logprobs(batch), beta)
        ppo.update(c, learner, judge, scored, step)
    with torch.no_grad():
        reached = world.total_variation(world.log_probs(policy, PROMPT), best).item()
    assert reached < 0.05


def test_ppo_gradient_is_unbiased():
    """The first step's gradient (ratio 1, V = 0, λ = 1, no whitening) against the exact one of E[r] − β·KL.

    Mutation caught: any factor in rewards-to-go, mask or count; the estimate lies within 4 standard errors.
    """
    beta, n, chunks = 0.5, 2000, 16
    reference, policy = world.tiny_model(0), world.tiny_model(1)
    rewards = world.rewards(0)
    weights = [p for p in policy.parameters() if p.ndim == 2][:3]
    with torch.no_grad():
        ref_logp = world.log_probs(reference, PROMPT)
    exact = torch.autograd.grad(
        world.objective(world.log_probs(policy, PROMPT), ref_logp, rewards, beta), weights
    )
    direction = [g / torch.cat([x.flatten() for x in exact]).norm() for g in exact]
    truth = sum(float((g * d).sum()) for g, d in zip(exact, direction, strict=True))
    forward, estimates = ppo.policy_forward(SAMPLING), []
    for chunk in range(chunks):
        batch, _ = rolled_out(TorchEngine(policy, max_rows=n), n, rewards, seed=100 + chunk)
        ref = predict(reference, forward, batch, 1 << 16)
        to_go = ppo.kl_rewards(batch.old_logp, ref, batch.mask, batch.reward, beta)
        adv = to_go.flip(1).cumsum(1).flip(1)
        loss = ppo_clip(forward(policy, batch), batch.old_logp, adv).sum() / n
        grads = torch.autograd.grad(-loss, weights)
        estimates.append(sum(float((g * d).sum()) for g, d in zip(grads, direction, strict=True)))
    mean = torch.tensor(estimates).mean().item()
    error = torch.tensor(estimates).std().item() / chunks**0.5
    assert abs(mean - truth) < 4 * error
    assert error < 0.2 * abs(truth)  # the test has the power to fail


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
