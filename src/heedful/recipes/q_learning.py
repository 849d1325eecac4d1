"""Q-, Ψ- and G-learning of token values under KL control (Sequence Tutor, Jaques et al. 2017), off-policy.

A round: sample, score, remember; then some steps on what is remembered, whose targets come from a network that follows
slowly. The policy is softmax of the values, so what is saved is an ordinary language model. What the paper does
otherwise: one step of TD (`--lambda 0`), a discount below 1, ε-greedy exploration; here the policy samples.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.configs.q_learning import Config, refuse_nonsense
from heedful.data.collate import collate
from heedful.data.texts import some_texts
from heedful.doctor import preflight
from heedful.learner import load_learner
from heedful.learner.local import Loss, predict
from heedful.losses.action_values import of_action, wanted
from heedful.losses.kl import standard_error
from heedful.models.adapters import reference_of
from heedful.models.forward import action_outputs, add_value_head
from heedful.models.limits import context_length
from heedful.models.load import copy_model, load_tokenizer
from heedful.models.reference import Reference
from heedful.models.sampling import derive_seed
from heedful.ranks import ALONE, Ranks
from heedful.rewards import Parts, load_rewards
from heedful.rollout import scored_rollout
from heedful.training.forwards import policy_forward
from heedful.training.on_policy import OnPolicy, on_policy
from heedful.training.playing import asked, env_of, played
from heedful.training.rows import askable, asked_of, prompts_of
from heedful.training.supervised import begun, optim, rows_at
from heedful.training.trainable import base, prepare
from heedful.types import Batch, Engine, Metrics, Outputs, Sample, Wanted

__all__ = ["Config", "run"]


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the policy."""
    refuse_nonsense(config)
    config = begun(config, "prompts", ranks)
    tokenizer, env = load_tokenizer(config.model), env_of(config)
    data = asked(config, env, "train")
    policy = prepare(base(config), config)
    reward = load_rewards(
        config.reward, weights=config.reward_weights, dtype=config.dtype, device=config.device,
        none=env is not None,
    )  # fmt: skip
    make = askable(tokenizer, context_length(policy), config.max_tokens, reward)
    todo, held, notes = asked_of(config, data, config.eval_data, make)
    preflight(tokenizer, policy, prompts_of(todo), max_tokens=config.max_tokens)
    prior, how = reference_of(policy), played(config, env)
    add_value_head(policy)
    slow, memory, level = Reference(copy_model(policy)), Memory(config.replay), Level()
    learner = load_learner(
        policy,
        lambda model, batch: action_outputs(model, batch.tokens, batch.mask),
        optim(config, config.steps * config.updates),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )

    async def sampled(
        engine: Engine, terms: Parts, number: int | None
    ) -> tuple[list[Sample], Metrics]:
        """A round's responses, or one to each held-out prompt, by the same seed each time."""
        chosen, seed = held, derive_seed(config.seed)
        if number is not None:
            rows = rows_at(len(todo), config.batch_size, number - 1, config.seed)
            chosen, seed = [todo[i] for i in rows], derive_seed(config.seed, number)
        return await scored_rollout(
            engine, terms, chosen, tokenizer, n=1, max_tokens=config.max_tokens, sampling=config.sampling,
            seed=seed, version=(number or 1) - 1, ranks=ranks, **how,
        )  # fmt: skip

    async def collect(engine: Engine, step: int) -> dict[str, Any]:
        reward.progress = (step - 1, config.steps, (step - 1) * config.batch_size / len(todo))
        samples, metrics = await sampled(engine, reward, step)
        return {"samples": samples, "metrics": metrics}

    def learn(step: int, collected: dict[str, Any]) -> Metrics:
        samples, metrics = collected["samples"], dict(collected["metrics"])
        if samples:
            metrics |= remembered(config, memory, prior, samples, ranks)
        if not memory.samples:
            return metrics
        if level.value is None:
            returns = token_rewards(config, collate(memory.samples)).sum(1)
            level.value = float(returns.mean())
        history: list[Metrics] = []
        for update in range(config.updates):
            rng = random.Random(derive_seed(config.seed, step, update))
            size = min(config.minibatch_size, len(memory.samples))
            batch = collate(rng.sample(memory.samples, size))
            part = with_targets(config, batch, slow, level.value, ranks)
            history.append(learner.step(loss_of(config, level.value), part))
            level.value += history[-1]["values/error"]
            slow.refresh(learner.model, config.polyak)
        means = {k: sum(row[k] for row in history) / len(history) for k in history[0]}
        return metrics | means

    method = OnPolicy(
        policy=learner,
        collect=collect,
        learn=learn,
        stateful={
            "learner": learner,
            "slow": slow,
            "memory": memory,
            "level": level,
            "reward": reward,
        },
        reference=prior,
        texts=lambda collected: some_texts(tokenizer, collected["samples"]),
        show=("reward", "kl/seq", "loss", "completions/mean_length"),
        notes=notes,
        held_out=(lambda engine: _first(sampled(engine, Parts(reward.parts), None)))
        if held
        else None,
    )
    return on_policy(config, config.steps, tokenizer, method)


async def _first(pair: Any) -> list[Sample]:
    return (await pair)[0]


class Memory:
    """`types.Stateful`: the responses of the last `rounds` rounds. Their `logprobs` are the prior's: by whom they were
    written matters to nobody who learns off-policy."""

    def __init__(self, rounds: int):
        self.rounds: list[list[Sample]] = []
        self.most = rounds

    @property
    def samples(self) -> list[Sample]:
        """All of them."""
        return [sample for samples in self.rounds for sample in samples]

    def add(self, samples: list[Sample]) -> None:
        """A round more, and the oldest forgotten."""
        self.rounds = [*self.rounds, samples][-self.most :]

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rounds = [list(samples) for samples in state["rounds"]]


def remembered(
    config: Config, memory: Memory, prior: Reference, samples: list[Sample], ranks: Ranks
) -> Metrics:
    """Put a round into memory, with the prior's log-probs and less what truncation costs; what it says. `kl/seq` is in
    nats per response, by k1."""
    batch = collate(samples)
    with prior.active() as model:
        logp = predict(model, policy_forward(), batch, config.micro_batch_tokens, ranks).logp
    memory.add(
        [
            replace(
                s,
                logprobs=(0.0, *row[: len(s.tokens) - 1].tolist()),
                reward=s.reward - config.missing_eos_penalty * (s.stop_reason == "length"),
            )
            for s, row in zip(samples, logp, strict=True)
        ]
    )
    k1 = ((batch.old_logp - logp) * batch.mask).sum(1)
    total = batch.reward + batch.step_rewards.sum(1)
    tokens = batch.mask.sum()
    return {
        "reward": float(total.mean()),
        "reward/std": float(total.std(correction=0)),
        "reward/penalised": float((total - config.beta * k1).mean()),
        "kl/seq": float(k1.mean()),
        "kl/seq_se": standard_error(k1),
        "policy/entropy": float(-(batch.old_logp * batch.mask).sum() / tokens),
        "completions/mean_length": float(tokens / len(batch.tokens)),
        "eos_rate": float((~batch.truncated).float().mean()),
    }


def token_rewards(config: Config, batch: Batch) -> Tensor:
    """r/β `[B, T]`: what was given for turns, and the score of all at the last token that was written."""
    place = torch.arange(batch.mask.shape[1])
    last = torch.where(batch.mask, place, -1).amax(1)
    at_last = (place == last[:, None]) * batch.reward[:, None]
    return (batch.step_rewards + at_last) / config.beta


class Level:
    """`types.Stateful`: what the values of all states have in common, beside the head.

    It is the first round's mean return, and follows the mean error of each step at once, which is exact minimisation in
    this one direction. A head alone comes along too slowly: then all that was tried seems better than expected, and
    everything else is forgotten, or worse, and what nobody has ever tried is preferred.
    """

    def __init__(self) -> None:
        self.value: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value = state["value"]


def with_targets(
    config: Config, batch: Batch, slow: Reference, level: float, ranks: Ranks
) -> Wanted:
    """A batch of what is remembered, with what its values are to be; `old_logp` holds the prior's log-probs."""
    prior, rewards = batch.old_logp, token_rewards(config, batch)
    with slow.active() as model:
        out = predict(
            model,
            lambda m, b: action_outputs(m, b.tokens, b.mask),
            batch,
            config.micro_batch_tokens,
            ranks,
        )
    value = out.value + level
    action = of_action(config.values, out.logp, out.top, value, prior)
    how = {"gamma": config.gamma, "lam": config.lam}
    target = wanted(config.values, action, value, rewards, prior, batch.mask, **how)
    return Wanted(**{name: getattr(batch, name) for name in Batch.__slots__}, target=target)


def loss_of(config: Config, level: float) -> Any:
    """(target − value)² of each written token."""

    def loss(out: Outputs, batch: Wanted) -> Loss:
        value = out.value + level
        error = batch.target - of_action(config.values, out.logp, out.top, value, batch.old_logp)
        return Loss(error.square(), {"values/state": value, "values/error": error})

    return loss
