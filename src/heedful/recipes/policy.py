"""PPO against a reward, kept near a frozen reference by KL in the reward (Ziegler et al. 2019; Ouyang et al. 2022).

Sample, respond, take the reference's log-probs, score, make per-token rewards and advantages, update
policy and critic for some epochs, update β. Policy and critic are separate networks.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.collate import collate, shuffled, take
from heedful.data.sources import read_questions
from heedful.engine.torch import TorchEngine
from heedful.errors import UserError
from heedful.learner.local import Forward, LocalLearner, Loss, predict
from heedful.losses.advantages import gae, kl_rewards, whiten
from heedful.losses.policy import (
    effective_sample_size,
    explained_variance,
    ppo_clip,
    ppo_clipped,
    value_clip,
)
from heedful.models.forward import token_logps, token_values
from heedful.models.load import (
    copy_model,
    load_policy,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
)
from heedful.models.sampling import derive_seed
from heedful.recipes.config import Training, alias
from heedful.recipes.training import batches, optim, saver
from heedful.recipes.workspace import materialise
from heedful.rewards import Parts, load_rewards
from heedful.rollout import rollout, score, tasks
from heedful.run import Run, refuse_finished
from heedful.types import Batch, Metrics, Sampling, ScoredWithValues


@dataclass(frozen=True, kw_only=True)
class Config(Training):
    """Optimise a language model against a reward with PPO."""

    model: Annotated[str, alias("--model-name-or-path", "--sft-model-path")]
    """The policy to start from; it is the reference too, unless one is named."""
    reward: Annotated[str, alias("--reward-model", "--reward-model-path", "--reward-funcs")]
    """A reward model's folder, a rule, a verifier, or package.module:function; see docs/rewards.md."""
    data: Annotated[str, alias("--dataset-name")]
    """Prompts to respond to."""
    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference; default: the policy as it starts."""
    critic: str | None = None
    """What the critic starts from; default: the reward model if it shares the tokenizer, else the policy."""
    steps: Annotated[int, alias("--max-steps", "--num-ppo-steps")] = 100
    """Rounds of sampling and updating."""
    batch_size: Annotated[int, alias("--rollout-batch-size")] = 128
    """Responses sampled in a round."""
    minibatch_size: int = 64
    """Responses in an optimiser step."""
    inner_epochs: Annotated[int, alias("--num-ppo-epochs")] = 4
    """Passes over the sampled responses."""
    beta: Annotated[float, alias("--kl-coef", "--init-kl-coef")] = 0.05
    """Price of a nat of KL, in units of reward; the start value where kl_target is given."""
    kl_target: float | None = None
    """Nats per response to which β adapts; default: β stays fixed."""
    kl_horizon: int = 2000
    """Responses over which the adaptive β reacts."""
    clip: Annotated[float, alias("--cliprange")] = 0.2
    """Ratios further from 1 than this get no gradient."""
    value_clip: Annotated[float, alias("--cliprange-value")] = 0.2
    """The critic's prediction may move this far in a round."""
    gamma: float = 1.0
    """Discount."""
    lam: float = 0.95
    """GAE's λ."""
    whiten_rewards: bool = False
    """Scale the per-token rewards to unit variance, without moving their mean."""
    critic_learning_rate: float = 1e-5
    """Peak learning rate of the critic."""
    critic_warmup: int = 2
    """Rounds at the start in which only the critic learns."""
    max_tokens: Annotated[int, alias("--max-completion-length", "--response-length")] = 48
    """Longest response in tokens."""
    temperature: float = 1.0
    """Of sampling, and so of the policy that is optimised."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens with this mass."""
    top_k: int = 0
    """Sample from this many likeliest tokens; 0 for all."""
    missing_eos_penalty: float = 1.0
    """Taken from the reward of a response that was cut at max_tokens."""
    truncated: Literal["bootstrap", "score"] = "bootstrap"
    """A cut response gets the critic's value in place of a score, or (if the limit is part of the task) its score."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-6
    schedule: Annotated[Literal["constant", "linear", "cosine"], alias("--lr-scheduler-type")] = (
        "linear"
    )


def run(config: Config) -> Path:
    """Returns the run's folder, which then holds the policy."""
    refuse_finished(config.out)
    if config.temperature <= 0:
        raise UserError("--temperature must be above 0: greedy responses have nothing to compare")
    prompts = read_questions(materialise(config.data, "prompts"))
    tokenizer = load_tokenizer(config.model)
    policy = load_policy(config.model, dtype=config.dtype, device=config.device)
    reference = (
        load_policy(config.reference, dtype=config.dtype, device=config.device)
        if config.reference
        else copy_model(policy)
    )
    reward = load_rewards(config.reward, device=config.device)
    critic = _critic(config, tokenizer, reward)
    return optimise(config, tokenizer, policy, reference, critic, reward, prompts)


def optimise(
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    critic: PreTrainedModel,
    reward: Parts,
    prompts: list,
) -> Path:
    """The loop itself, on models that are already in memory."""
    sampling = Sampling(config.temperature, config.top_p, config.top_k)
    todo = tasks(tokenizer, *zip(*prompts, strict=True))
    engine = TorchEngine(policy)
    forward = policy_forward(sampling)
    inner = config.inner_epochs * -(-config.batch_size // config.minibatch_size)
    learner = LocalLearner(
        policy,
        forward,
        optim(config, config.steps * inner, adam_eps=1e-5),
        micro_batch_tokens=config.micro_batch_tokens,
    )
    judge = LocalLearner(
        critic,
        lambda model, batch: token_values(model, batch.tokens),
        optim(
            config, config.steps * inner, adam_eps=1e-5, learning_rate=config.critic_learning_rate
        ),
        micro_batch_tokens=config.micro_batch_tokens,
    )
    beta = config.beta
    stream = batches(len(todo), config.batch_size, config.steps, config.seed)
    save = saver(policy, tokenizer, config)
    with Run(
        config.out,
        config,
        total_steps=config.steps,
        quiet=config.quiet,
        report_to=config.report_to,
        show=("reward", "kl/seq", "kl/coef", "completions/mean_length"),
    ) as run_:
        for step, rows in enumerate(stream, start=1):
            batch_tasks = [todo[i] for i in rows]
            samples, of_parts = asyncio.run(
                _rollout_and_score(engine, reward, batch_tasks, tokenizer, config, sampling, step)
            )
            batch = collate(samples)
            ref_logp = predict(reference, forward, batch, config.micro_batch_tokens)
            scored = estimate(config, batch, ref_logp, judge.logprobs(batch), beta)
            metrics = rollout_metrics(scored, beta) | of_parts
            metrics |= update(config, learner, judge, scored, step)
            asyncio.run(engine.load(learner.weights(), version=step))
            if config.kl_target is not None:
                beta = adapt(beta, metrics["kl/seq"], config)
            if step % config.log_every == 0 or step == config.steps:
                run_.log(step, metrics)
            if config.save_every and step % config.save_every == 0:
                run_.checkpoint(step, save)
        run_.finish(save)
    return config.out


def policy_forward(sampling: Sampling) -> Forward:
    """`learner.Forward` of a policy: log-probs under the very distribution it is sampled from."""
    return lambda model, batch: token_logps(model, batch.tokens, batch.mask, sampling)


async def _rollout_and_score(engine, reward, batch_tasks, tokenizer, config, sampling, step):
    samples = await rollout(
        engine,
        batch_tasks,
        n=1,
        max_tokens=config.max_tokens,
        sampling=sampling,
        seed=derive_seed(config.seed, step),
        version=step - 1,
    )
    return await score(reward, batch_tasks, samples, tokenizer)


def estimate(
    config: Config, batch: Batch, ref_logp: Tensor, values: Tensor, beta: float
) -> ScoredWithValues:
    """Rewards → advantages → returns → whitened advantages. values `[B, T+1]`: the critic after every token.

    Returns are *unwhitened* advantages plus values. After a response that ended V is 0; after one that
    was cut it is the critic's value there, and a score of the stump would count the future twice.
    """
    rows = torch.arange(len(batch.tokens))
    task_score = batch.reward
    bootstrap = torch.zeros_like(batch.reward)
    if config.truncated == "bootstrap":
        after = values[rows, batch.lengths - 1]
        bootstrap = torch.where(batch.cut, after, bootstrap)
        task_score = torch.where(batch.cut, 0.0, task_score)
    task_score = task_score - config.missing_eos_penalty * batch.cut
    rewards = kl_rewards(batch.old_logp, ref_logp, batch.mask, task_score, beta)
    if config.whiten_rewards:
        rewards = whiten(rewards, batch.mask, shift_mean=False)
    values = values[:, :-1] * batch.mask
    adv = gae(rewards, values, batch.mask, bootstrap, config.gamma, config.lam)
    return ScoredWithValues(
        **{f.name: getattr(batch, f.name) for f in fields(Batch)},
        ref_logp=ref_logp,
        adv=whiten(adv, batch.mask),
        values=values,
        returns=(adv + values) * batch.mask,
    )


def update(
    config: Config,
    learner: LocalLearner,
    judge: LocalLearner,
    scored: ScoredWithValues,
    step: int,
) -> Metrics:
    """The inner epochs over one batch of rollouts. Returns the mean metrics of the policy's and critic's steps."""

    def policy_loss(logp: Tensor, b: Batch) -> Loss:
        assert isinstance(b, ScoredWithValues)
        log_ratio = logp - b.old_logp
        return Loss(
            ppo_clip(logp, b.old_logp, b.adv, config.clip),
            {
                "policy/clipfrac": ppo_clipped(logp, b.old_logp, b.adv, config.clip).detach(),
                "policy/approx_kl": (torch.expm1(log_ratio) - log_ratio).detach(),
            },
        )

    def critic_loss(values: Tensor, b: Batch) -> Loss:
        assert isinstance(b, ScoredWithValues)
        values = values[:, :-1]
        moved = ((values - b.values).abs() > config.value_clip).float()
        return Loss(
            value_clip(values, b.values, b.returns, config.value_clip),
            {"value/clipfrac": moved.detach()},
        )

    history: list[Metrics] = []
    for epoch in range(config.inner_epochs):
        order = shuffled(len(scored.tokens), derive_seed(config.seed, step), epoch)
        for start in range(0, len(order), config.minibatch_size):
            part = take(scored, torch.tensor(order[start : start + config.minibatch_size]))
            row: Metrics = {}
            if step > config.critic_warmup:
                p = learner.step(policy_loss, part)
                row |= {k if "/" in k else f"policy/{k}": v for k, v in p.items()}
            v = judge.step(critic_loss, part)
            row |= {k if "/" in k else f"value/{k}": x for k, x in v.items()}
            history.append(row)
    after = learner.logprobs(scored) - scored.old_logp
    return {
        **{k: math.fsum(row[k] for row in history) / len(history) for k in history[0]},
        "policy/kl_update": float(-(after * scored.mask).sum() / len(after)),
        "policy/ess": float(effective_sample_size(after, scored.mask)),
    }


def rollout_metrics(b: ScoredWithValues, beta: float) -> Metrics:
    """What the sampled batch says, before the update. `kl/seq` is the KL that the reward was charged for."""
    k1 = (b.old_logp - b.ref_logp) * b.mask
    tokens = b.mask.sum()
    return {
        "reward": float(b.reward.mean()),
        "reward/std": float(b.reward.std(correction=0)),
        "kl/seq": float(k1.sum(1).mean()),
        "kl/token": float(k1.sum() / tokens),
        "kl/coef": beta,
        "reward/penalised": float((b.reward - beta * k1.sum(1)).mean()),
        "policy/entropy": float(-(b.old_logp * b.mask).sum() / tokens),
        "value/explained_variance": float(explained_variance(b.values, b.returns, b.mask)),
        "completions/mean_length": float(b.mask.sum(1).float().mean()),
        "eos_rate": float((~b.cut).float().mean()),
    }


def adapt(beta: float, kl: float, config: Config) -> float:
    """β(1 + clip(KL/target − 1, ±0.2)·n/horizon) within 1e-4 … 10 (Ziegler et al. 2019); KL in nats per response."""
    assert config.kl_target is not None
    error = min(0.2, max(-0.2, kl / config.kl_target - 1))
    return min(10.0, max(1e-4, beta * (1 + error * config.batch_size / config.kl_horizon)))


def _critic(config: Config, tokenizer: PreTrainedTokenizerBase, reward: Parts) -> PreTrainedModel:
    if config.critic is not None:
        if load_tokenizer(config.critic).get_vocab() != tokenizer.get_vocab():
            raise UserError(f"--critic {config.critic} has another tokenizer than the policy")
        return load_reward_model(config.critic, device=config.device)
    known = reward.reward_model
    if known is not None and known.tokenizer.get_vocab() == tokenizer.get_vocab():
        critic = copy_model(known.model)
        return critic.requires_grad_(True)
    return new_reward_model(
        config.model, seed=config.seed, dtype=config.dtype, device=config.device
    )
