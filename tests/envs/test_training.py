"""A policy learns to play: episodes → batch → advantages → update, by plain functions."""

from __future__ import annotations

import asyncio
from dataclasses import fields

import pytest

import games
import tiny
from heedful.data.collate import collate
from heedful.engine.local import LocalEngine
from heedful.envs import Limits
from heedful.learner.local import LocalLearner, Loss, Optim
from heedful.losses.advantages import by_episode, leave_one_out
from heedful.losses.policy import policy_gradient
from heedful.models.sampling import derive_seed
from heedful.rewards import Parts
from heedful.rollout import scored_rollout, tasks
from heedful.training.forwards import policy_forward
from heedful.types import Batch, Sampling, Scored

SAMPLING = Sampling()


def with_advantages(batch: Batch) -> Scored:
    """RLOO on whole episodes."""
    score = batch.reward + batch.step_rewards.sum(1)
    adv = by_episode(leave_one_out, score, batch.group, batch.episode)[:, None] * batch.mask
    own = {f.name: getattr(batch, f.name) for f in fields(Batch)}
    return Scored(**own, ref_logp=batch.old_logp, adv=adv, weight=batch.mask.float())


@pytest.mark.long
def test_rloo_learns_to_guess_the_number():
    """One token a turn, three turns. A policy that knows no digit finds one of the two secrets in one of a hundred
    episodes, one that guesses digits only in three of ten, and one that has heard which are right in all.

    Mutation caught: rewards at other tokens, observations in the loss, log-probs of another turn, weights not loaded.
    """
    tok = games.tokenizer()
    model = tiny.policy(tok)
    engine = LocalEngine(model)
    learner = LocalLearner(
        model,
        policy_forward(SAMPLING),
        Optim(1e-2, 24, schedule="constant"),
    )
    secrets = [{"secret": s, "room": 1} for s in (3, 7) * 4]
    todo = tasks(tok, [games.USER] * len(secrets), secrets)
    history = []
    for step in range(24):
        asyncio.run(engine.load(learner.weights(), version=step))
        samples, metrics = asyncio.run(
            scored_rollout(
                engine, Parts([]), todo, tok, env=games.guess, limits=Limits(turns=3), n=8, max_tokens=4,
                sampling=SAMPLING, seed=derive_seed(0, step), version=step,
            )
        )  # fmt: skip
        assert len(samples) == 64 and {s.policy_version for s in samples} == {step}
        history.append(metrics.get("reward/env", 0.0))
        learner.step(
            lambda out, b: Loss(policy_gradient(out.logp, b.adv)), with_advantages(collate(samples))
        )
    assert sum(history[:3]) / 3 < 0.1 and sum(history[-3:]) / 3 > 0.3, history
