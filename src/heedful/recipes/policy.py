"""Policy gradients against a reward, kept near a reference by KL: PPO, RLOO, GRPO and the rest of `configs.algorithm`.

A round: sample, score, take the reference's log-probs, make rewards and advantages, update the policy (and
its critic, where the algorithm has one) for some epochs, update β.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.policy import PRESETS, Config, refuse_nonsense
from heedful.data.collate import collate
from heedful.data.sources import read_questions
from heedful.doctor import preflight
from heedful.engine.local import LocalEngine
from heedful.errors import UserError
from heedful.evals.alarms import Alarms
from heedful.learner.local import predict
from heedful.models.adapters import merge, reference_of, whole
from heedful.models.forward import add_value_head
from heedful.models.load import (
    copy_model,
    load_policy,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
)
from heedful.models.reference import Reference
from heedful.models.sampling import derive_seed
from heedful.rewards import Parts, load_rewards
from heedful.rewards.model import fold_shift
from heedful.rollout import Task, scored_rollout, tasks
from heedful.run import Run, check_out
from heedful.training.actors import Actors, policy_forward, update
from heedful.training.estimates import (
    estimate,
    final_scores,
    rollout_metrics,
)
from heedful.training.mixed import supervised
from heedful.training.policy_losses import KLController
from heedful.training.supervised import close_step, materialise, opened, optim, rows_at, saver
from heedful.training.trainable import named_reference, prepare
from heedful.types import Batch, Metrics, Sample

log = logging.getLogger("heedful")
__all__ = ["PRESETS", "Config", "run"]


def run(config: Config) -> Path:
    """Returns the run's folder, which then holds the policy."""
    refuse_what_cannot_be(config)
    config = replace(config, data=materialise(config.data, "prompts"))
    check_out(config)
    prompts = read_questions(config.data)
    tokenizer = load_tokenizer(config.model)
    policy = prepare(load_policy(config.model, dtype=config.dtype, device=config.device), config)
    preflight(tokenizer, policy, [prompt for prompt, _ in prompts], max_tokens=config.max_tokens)
    reference = _reference(config, policy)
    reward = load_rewards(
        config.reward,
        weights=config.reward_weights,
        normalise=config.normalise_rewards,
        device=config.device,
    )
    critic = _critic(config, tokenizer, reward)
    return optimise(config, tokenizer, policy, reference, critic, reward, prompts)


def optimise(
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    policy: PreTrainedModel,
    reference: Reference,
    critic: PreTrainedModel | None,
    reward: Parts,
    prompts: list,
) -> Path:
    """The loop itself, on models that are already in memory."""
    todo = tasks(tokenizer, *zip(*prompts, strict=True))
    mixed = supervised(config.ptx, tokenizer, policy, config.seed)
    if config.value_head:
        add_value_head(policy)
    adam = optim(config, max(1, config.policy_steps(config.steps)), adam_eps=1e-5)
    critic_adam = replace(
        adam,
        learning_rate=config.critic_learning_rate,
        total_steps=config.steps * config.inner_epochs * config.minibatches,
    )
    actors = Actors.of(
        config,
        policy,
        critic,
        reference,
        config.sampling,
        adam,
        critic_adam,
        micro_batch_tokens=config.micro_batch_tokens,
    )
    engine = LocalEngine(policy)
    kl = KLController(config.beta, config.kl_target, config.kl_horizon)
    alarms = Alarms()
    parts = {**actors.parts(), "kl": kl, "reward": reward, "alarms": alarms}
    if config.reference_every:
        parts["reference"] = reference
    save = saver(policy, tokenizer, config)
    show = ("reward", "kl/seq", "kl/coef", "completions/mean_length")
    with opened(config, config.steps, show) as run_:
        start = run_.restore(parts)
        for step in range(start + 1, config.steps + 1):
            asyncio.run(engine.load(actors.policy.weights(), version=step - 1))
            samples, of_parts = scored_round(run_, engine, reward, todo, tokenizer, config, step)
            batch = collate(samples)
            ref_logp = reference_logps(config, reference, batch)
            scored = estimate(
                config, batch, ref_logp, actors.values(batch), kl.beta, config.max_tokens
            )
            metrics = rollout_metrics(config, scored, kl.beta, batch.mask, config.max_tokens)
            metrics |= of_parts
            metrics |= update(
                config, actors, scored, kl.beta, step, config.seed, config.max_tokens, mixed
            )
            kl.update(metrics.get("kl/seq", 0.0), len(samples))
            if config.reference_every and step % config.reference_every == 0:
                reference.refresh(whole(policy), config.reference_share)
            close_step(run_, config, step, metrics, alarms, save, parts)
        run_.finish(save)
    return config.out


def scored_round(
    run_: Run,
    engine: LocalEngine,
    reward: Parts,
    todo: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    step: int,
) -> tuple[list[Sample], Metrics]:
    """`collect`, or what it gave before the run was interrupted: nobody is asked to judge the same thing twice."""
    found = run_.stashed(step)
    if found is None:
        samples, metrics = asyncio.run(collect(engine, reward, todo, tokenizer, config, step))
        run_.stash(step, {"samples": samples, "metrics": metrics, "reward": reward.state_dict()})
        return samples, metrics
    reward.load_state_dict(found["reward"])
    return found["samples"], found["metrics"]


async def collect(
    engine: LocalEngine,
    reward: Parts,
    todo: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    step: int,
) -> tuple[list[Sample], Metrics]:
    """A round's scored samples; groups with equal rewards make way for others where there are some.

    The metrics of the reward's parts are those of the last draw, which is the only one without dynamic sampling.
    """
    wanted = config.batch_size // config.group_size
    telling: list[list[Sample]] = []
    silent: list[list[Sample]] = []
    of_parts: Metrics = {}
    for draw in range(1 + config.dynamic_sampling):
        seed = derive_seed(config.seed, step, draw) if draw else derive_seed(config.seed, step)
        order = derive_seed(config.seed, draw) if draw else config.seed
        batch_tasks = [todo[i] for i in rows_at(len(todo), wanted, step - 1, order)]
        samples, of_parts = await scored_rollout(
            engine,
            reward,
            batch_tasks,
            tokenizer,
            n=config.group_size,
            max_tokens=config.max_tokens,
            sampling=config.sampling,
            seed=seed,
            version=step - 1,
        )
        for at in range(0, len(samples), config.group_size):
            group = samples[at : at + config.group_size]
            tells = not config.dynamic_sampling or _differ(group, config)
            (telling if tells else silent).append(group)
        if len(telling) >= wanted:
            break
    groups = [*telling, *silent][:wanted]
    return [replace(s, group=g) for g, group in enumerate(groups) for s in group], of_parts


def _differ(group: Sequence[Sample], config: Config) -> bool:
    """Whether some response of the group is worth more than another, penalties included."""
    worth = final_scores(config, collate(group), config.max_tokens)
    return bool((worth != worth[0]).any())


def reference_logps(config: Config, reference: Reference, batch: Batch) -> Tensor:
    """The reference's log-probs `[B, T]`; the policy's own, which make the KL 0, where nobody charges it."""
    if config.kl == "none":
        return batch.old_logp
    with reference.active() as model:
        return predict(model, policy_forward(config.sampling), batch, config.micro_batch_tokens)


def refuse_what_cannot_be(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    refuse_nonsense(config)
    if config.own_critic and config.steps <= config.critic_warmup:
        log.warning(
            "--steps %d: the critic alone learns in the first %d rounds (--critic-warmup); the policy stays as it is",
            config.steps,
            config.critic_warmup,
        )


def _reference(config: Config, policy: PreTrainedModel) -> Reference:
    if config.kl == "none":  # nobody asks it, so nobody keeps a copy
        return Reference(policy)
    if config.reference is None:
        return reference_of(policy)
    return named_reference(config.reference, config)


def _critic(
    config: Config, tokenizer: PreTrainedTokenizerBase, reward: Parts
) -> PreTrainedModel | None:
    if not config.own_critic:
        return None
    if config.critic is not None:
        if load_tokenizer(config.critic).get_vocab() != tokenizer.get_vocab():
            raise UserError(f"--critic {config.critic} has another tokenizer than the policy")
        return prepare(fold_shift(load_reward_model(config.critic, device=config.device)), config)
    judge = reward.reward_model
    if judge is not None and judge.tokenizer.get_vocab() == tokenizer.get_vocab():
        return prepare(fold_shift(merge(copy_model(judge.model).requires_grad_(True))), config)
    critic = new_reward_model(
        config.model, seed=config.seed, dtype=config.dtype, device=config.device
    )
    return prepare(critic, config)
