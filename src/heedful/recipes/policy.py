"""Policy gradients against a reward, kept near a reference by KL: PPO, RLOO, GRPO and the rest of `configs.algorithm`.

A round: sample, score, take the reference's log-probs, make rewards and advantages, update the policy (and
its critic, where the algorithm has one) for some epochs, update β.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.policy import Config, refuse_nonsense
from heedful.configs.tagged.kl import Charged
from heedful.data.collate import collate
from heedful.data.texts import some_texts
from heedful.doctor import preflight
from heedful.envs import Env
from heedful.errors import UserError
from heedful.learner.local import Forward, LocalLearner, Optim, predict
from heedful.models.adapters import reference_of
from heedful.models.forward import add_value_head
from heedful.models.limits import context_length
from heedful.models.load import (
    copy_model,
    device_of,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    settle,
)
from heedful.models.merging import merge
from heedful.models.quantised import is_nf4
from heedful.models.reference import Reference
from heedful.models.sampling import derive_seed
from heedful.ranks import ALONE, Ranks
from heedful.rewards import Parts, load_rewards
from heedful.rewards.model import fold_shift
from heedful.rollout import Drawing, Task, ahead, scored_rollout
from heedful.training.actors import Actors, update
from heedful.training.engines import drawn, served
from heedful.training.estimates import episode_scores, estimate, rollout_metrics
from heedful.training.forwards import policy_forward
from heedful.training.mixed import supervised
from heedful.training.on_policy import OnPolicy, on_policy
from heedful.training.playing import Played, asked, env_of, played
from heedful.training.policy_losses import KLController
from heedful.training.rows import askable, asked_of, prompts_of
from heedful.training.supervised import begun, optim, rows_at
from heedful.training.trainable import base, learner_of, named_reference, placed, prepare
from heedful.types import Batch, Engine, Metrics, Sample

MOST = 1 << 20  # episodes of a group
log = logging.getLogger("heedful")
__all__ = ["Config", "run"]


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the policy."""
    refuse_what_cannot_be(config)
    config = begun(config, "prompts", ranks)
    tokenizer = load_tokenizer(config.model)
    env = env_of(config)
    data = asked(config, env, "train")
    policy = prepare(base(config), config)
    reward = load_rewards(
        config.reward,
        weights=config.reward_weights,
        normalise=config.normalise_rewards,
        watch=config.watch_reward,
        dtype=config.dtype,
        device=config.loads_on,
        none=env is not None,
    )
    make = askable(tokenizer, context_length(policy), config.max_tokens, reward)
    todo, held, notes = asked_of(config, data, config.eval_data, make)
    preflight(tokenizer, policy, prompts_of(todo), max_tokens=config.max_tokens)
    reference, critic = _reference(config, policy, ranks), _critic(config, tokenizer, reward)
    _share_out_rewards(config, reward, ranks)
    return optimise(
        config, tokenizer, policy, reference, critic, reward, todo, held, notes, ranks, env
    )


def optimise(
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    policy: PreTrainedModel,
    reference: Reference,
    critic: PreTrainedModel | None,
    reward: Parts,
    todo: Sequence[Task],
    held: Sequence[Task] = (),
    notes: Sequence[Mapping[str, Any]] = (),
    ranks: Ranks = ALONE,
    env: Env | None = None,
) -> Path:
    """The loop itself, on models that are already in memory."""
    how, longest = played(config, env), config.longest
    mixed = supervised(config, tokenizer, policy)
    actors = _actors(config, policy, critic, reference, ranks)
    kl = KLController.of(config.kl)
    fit = math.log(n) if (n := reward.fitted_on) else 0.0

    async def gather(engine: Engine, step: int) -> dict[str, Any]:
        epoch = (step - 1) * config.batch_size / config.group_size / len(todo)
        reward.progress = (step - 1, config.steps, epoch)
        samples, metrics = await collect(engine, reward, todo, tokenizer, config, step, ranks, how)
        if config.staleness:
            metrics["engine/lag"] = float(step - 1 - config.drawn_with(step))
        return {"samples": samples, "metrics": metrics, "reward": reward.state_dict()}

    async def early(engine: Engine, step: int) -> None:
        batch, drawing = draw(config, todo, step)
        await ahead(engine, batch, tokenizer, ranks=ranks, **drawing, **how)

    def learn(step: int, collected: dict[str, Any]) -> Metrics:
        if not collected["samples"]:  # every term of the reward abstained
            return collected["metrics"]
        batch, weights, of_engine = drawn(config, actors.policy, collate(collected["samples"]))
        ref_logp = reference_logps(config, reference, batch, ranks)
        values = actors.values(config, batch)
        scored = estimate(config, batch, ref_logp, values, kl.beta, longest)
        metrics = rollout_metrics(config, scored, kl.beta, batch.mask, longest)
        scored = replace(scored, adv=scored.adv * weights)
        metrics |= collected["metrics"] | of_engine
        if fit and config.kl.charged:
            metrics["kl/fit"] = fit
        metrics |= update(config, actors, scored, kl.beta, step, config.seed, longest, mixed)
        kl.update(metrics.get("kl/seq", 0.0), len(batch.tokens))
        return metrics

    async def on_held_out(engine: Engine) -> list[Sample]:
        """One response to each prompt, by the same seed each time; a running scale is moved by what is trained on."""
        samples, _ = await scored_rollout(
            engine, Parts(reward.parts), held, tokenizer, n=1, max_tokens=config.max_tokens,
            sampling=config.sampling, seed=derive_seed(config.seed), ranks=ranks, **how,
        )  # fmt: skip
        return samples

    method = OnPolicy(
        policy=actors.policy,
        collect=gather,
        learn=learn,
        stateful={**actors.stateful(), "kl": kl, "reward": reward},
        reference=reference,
        texts=lambda collected: some_texts(tokenizer, collected["samples"]),
        show=("reward", "kl/seq", "kl/coef", "completions/mean_length"),
        reference_every=config.reference_every,
        reference_share=config.kl.reference_share if isinstance(config.kl, Charged) else 1.0,
        recall=lambda collected: reward.load_state_dict(collected["reward"]),
        notes=notes,
        ahead=early,
        held_out=on_held_out if held else None,
    )
    return on_policy(config, config.steps, tokenizer, method)


def _actors(
    config: Config,
    policy: PreTrainedModel,
    critic: PreTrainedModel | None,
    reference: Reference,
    ranks: Ranks,
) -> Actors:
    if config.value_head:
        add_value_head(policy)
    adam = optim(config, max(1, config.policy_steps(config.steps)), adam_eps=1e-5)
    of_critic = config.own_critic
    critic_adam = replace(
        adam,
        learning_rate=of_critic.critic_learning_rate if of_critic else 0.0,
        total_steps=config.steps * config.inner_epochs * config.minibatches,
    )
    whole = None
    if config.shard and ranks.world > 1 and not served(config):
        # Without --cluster somebody samples from it here.
        device = torch.device("cpu") if config.cluster else device_of(config.device)
        whole = settle(copy_model(policy, apart=device.type == "cpu").to(device))  # type: ignore[arg-type]
    _shared_out(config, policy, critic, reference, ranks)

    def make(model: PreTrainedModel, forward: Forward, adam: Optim) -> LocalLearner:
        sampler = whole if model is policy else None
        return learner_of(model, forward, adam, config, ranks, sampler)

    return Actors.of(config, policy, critic, reference, config.sampling, adam, critic_adam, make)


def _shared_out(
    config: Config,
    policy: PreTrainedModel,
    critic: PreTrainedModel | None,
    reference: Reference,
    ranks: Ranks,
) -> None:
    """With --shard each of the models, in place. A reference that is asked in the policy's own passes stays whole."""
    frozen = None if reference.model is policy else reference.model
    if frozen is not None and config.analytic:
        settle(frozen.to(device_of(config.device)))  # type: ignore[arg-type]
        frozen = None
    for model in (policy, critic, frozen):
        if model is not None:
            placed(model, config, ranks)


def _share_out_rewards(config: Config, reward: Parts, ranks: Ranks) -> None:
    """With --shard the reward models, too, but for those that ranks cannot run alike."""
    if not config.shard:
        return
    for judge in reward.models:
        try:
            placed(judge.model.requires_grad_(False), config, ranks)
        except UserError:  # an encoder, say, which is small beside the others
            judge.model.to(device_of(config.device))  # type: ignore[arg-type]
        judge.ranks = ranks if judge.in_step else ALONE


async def collect(
    engine: Engine,
    reward: Parts,
    todo: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    step: int,
    ranks: Ranks = ALONE,
    how: Played = {},  # noqa: B006
) -> tuple[list[Sample], Metrics]:
    """A round's scored samples; groups with equal rewards make way for others where there are some.

    The metrics of the reward's parts are those of the last draw, which is the only one without dynamic sampling.
    """
    wanted = config.batch_size // config.group_size
    telling: list[list[Sample]] = []
    silent: list[list[Sample]] = []
    of_parts: Metrics = {}
    for number in range(1 + config.dynamic_sampling):
        batch, drawing = draw(config, todo, step, number)
        samples, of_parts = await scored_rollout(
            engine, reward, batch, tokenizer, ranks=ranks, **drawing, **how
        )
        for group in _groups(samples, config):
            tells = not config.dynamic_sampling or _differ(group, config)
            (telling if tells else silent).append(group)
        if len(telling) >= wanted:
            break
    groups = [*telling, *silent][:wanted]
    return [s for g, group in enumerate(groups) for s in _numbered(group, g)], of_parts


def draw(
    config: Config, todo: Sequence[Task], step: int, number: int = 0
) -> tuple[list[Task], Drawing]:
    """What is sampled in a round, in its first or a later draw: a function of the config, the round and the draw."""
    several = (number,) if number else ()
    order = derive_seed(config.seed, *several) if several else config.seed
    places = rows_at(len(todo), config.batch_size // config.group_size, step - 1, order)
    return [todo[i] for i in places], {
        "n": config.group_size,
        "max_tokens": config.max_tokens,
        "sampling": config.sampling,
        "seed": derive_seed(config.seed, step, *several),
        "version": config.drawn_with(step),
    }


def _numbered(group: Sequence[Sample], number: int) -> list[Sample]:
    """A group with its place in the round, and that of its episodes: two draws number them alike."""
    places: dict[int | None, int] = {}
    for sample in group:
        places.setdefault(sample.episode, len(places))
    return [replace(s, group=number, episode=number * MOST + places[s.episode]) for s in group]


def _groups(samples: Sequence[Sample], config: Config) -> list[list[Sample]]:
    """The samples of each prompt. One that alone was scored has no other to be compared with where that is asked."""
    groups: dict[int | None, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    least = 2 if config.advantage.needs_group and config.group_size > 1 else 1
    return [group for group in groups.values() if len(group) >= least]


def _differ(group: Sequence[Sample], config: Config) -> bool:
    """Whether some response of the group is worth more than another, penalties included."""
    worth = episode_scores(config, collate(group), config.longest)
    return bool((worth != worth[0]).any())


def reference_logps(config: Config, reference: Reference, batch: Batch, ranks: Ranks) -> Tensor:
    """The reference's log-probs `[B, T]`; the policy's own, which make the KL 0, where nobody charges it."""
    if not config.kl.charged:
        return batch.old_logp
    with reference.active() as model:
        forward = policy_forward(config.sampling)
        return predict(model, forward, batch, config.micro_batch_tokens, ranks).logp


def refuse_what_cannot_be(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    refuse_nonsense(config)
    if (critic := config.own_critic) and config.steps <= critic.critic_warmup:
        log.warning(
            "--steps %d: the critic alone learns in the first %d rounds (--critic-warmup); the policy stays as it is",
            config.steps,
            critic.critic_warmup,
        )


def _reference(config: Config, policy: PreTrainedModel, ranks: Ranks) -> Reference:
    if not isinstance(config.kl, Charged):  # nobody asks it, so nobody keeps a copy
        return Reference(policy)
    if config.kl.reference is None:
        # An adapter that is switched off is not for a sharded model, whose parts remember what is trained.
        if not config.shard:
            return reference_of(policy)
        return Reference(copy_model(policy, apart=ranks.world == 1 or config.analytic))
    return named_reference(config.kl.reference, config)


def _critic(
    config: Config, tokenizer: PreTrainedTokenizerBase, reward: Parts
) -> PreTrainedModel | None:
    of_critic = config.own_critic
    if of_critic is None:
        return None
    if of_critic.critic is not None:
        if load_tokenizer(of_critic.critic).get_vocab() != tokenizer.get_vocab():
            raise UserError(f"--critic {of_critic.critic} has another tokenizer than the policy")
        model = load_reward_model(of_critic.critic, dtype=config.dtype, device=config.loads_on)
        return prepare(fold_shift(model), config)
    judge = reward.reward_model
    if judge is not None and judge.tokenizer.get_vocab() == tokenizer.get_vocab():
        twin = copy_model(judge.model)
        if not is_nf4(twin):  # else its adapter is trained on
            twin = merge(twin.requires_grad_(True))
        return prepare(fold_shift(twin), config)
    critic = new_reward_model(
        config.model,
        seed=config.seed,
        dtype=config.dtype,
        device=config.loads_on,
        nf4=config.lora.nf4,
    )
    return prepare(critic, config)
