"""The loop of every method that learns from what its policy samples: collect, judge, estimate, update, and go round."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from heedful.configs.common import Training
from heedful.evals.alarms import Alarms
from heedful.evals.watch import BEFORE
from heedful.learner.local import LocalLearner
from heedful.models.merging import whole
from heedful.models.reference import Reference
from heedful.training.ahead import engines_of
from heedful.training.engines import forget, left_alone, loaded
from heedful.training.saving import finish, rehearse, saver
from heedful.training.supervised import close_step, evaluates_at, keep_notes, opened
from heedful.types import Engine, Metrics, Sample, Stateful

MODELS = 20  # so many times at most the model that was best by what is watched is written anew
T = TypeVar("T")
ROUNDS = 40  # of about so many of a run's rounds the texts are kept


def kept(step: int, steps: int) -> bool:
    """Whether the texts of a round are: of the first, of the last, and evenly between."""
    return step in (1, steps) or step % -(-steps // ROUNDS) == 0


@dataclass(frozen=True, kw_only=True)
class OnPolicy:
    """What sets one on-policy method apart.

    `collect(engine, step)` samples and judges; what it returns is kept, so that nobody is asked to judge the same
    thing twice after an interruption, and `recall` is told when that happened. `texts(collected)` are rows of what
    was sampled, for who looks later. `learn(step, collected)` estimates and updates. `stateful` are all that changes
    from round to round. The reference moves after every `reference_every` rounds. `held_out(engine)`
    samples responses to prompts that are not trained on, and scores them. `ahead(engine, step)` draws what of a step
    can be drawn before its time.
    """

    policy: LocalLearner
    collect: Callable[[Engine, int], Coroutine[Any, Any, Any]]
    learn: Callable[[int, Any], Metrics]
    stateful: Mapping[str, Stateful]
    reference: Reference
    texts: Callable[[Any], list[dict[str, Any]]]
    show: tuple[str, ...]
    reference_every: int = 0
    reference_share: float = 1.0
    recall: Callable[[Any], None] = field(default=lambda collected: None)
    notes: Sequence[Mapping[str, Any]] = ()
    held_out: Callable[[Engine], Coroutine[Any, Any, Sequence[Sample]]] | None = None
    ahead: Callable[[Engine, int], Coroutine[Any, Any, Any]] | None = None


def on_policy(
    config: Training, steps: int, tokenizer: PreTrainedTokenizerBase, method: OnPolicy
) -> Path:
    """Returns the run's folder, which then holds the policy."""
    policy, alarms = method.policy, Alarms()
    save = saver(policy, tokenizer, config)
    stateful = {**method.stateful, "alarms": alarms}
    if method.reference_every:
        stateful["reference"] = method.reference
    with (
        engines_of(config, policy) as engines,
        opened(config, steps, method.show, policy.ranks) as run,
        asyncio.Runner() as loop,
    ):
        stateful |= engines.stateful()

        def asked(step: int, what: str, work: Coroutine[Any, Any, T]) -> T:
            """What rewards and judges say is kept as it comes: of an interrupted step, too, nobody is asked twice."""
            with run.asking(step, what):
                return loop.run(work, context=copy_context())

        start = set_aside = run.restore(stateful)
        keep_notes(run, start, method.notes)
        rehearse(run, policy, tokenizer, config)
        for step in range(start + 1, steps + 1):
            metrics = loop.run(loaded(engines.newest, policy, config, step - 1))
            if method.ahead is not None:
                for later in range(step + 1, min(step + engines.staleness, steps) + 1):
                    engines.begin(later, method.ahead, run.asking(later, "collect"))
            if (collected := run.stashed(step)) is None:
                collected = asked(step, "collect", method.collect(engines.of(step), step))
                run.stash(step, collected)
            else:
                method.recall(collected)
            loop.run(left_alone(engines.newest))
            metrics |= method.learn(step, collected)
            if method.held_out and evaluates_at(config, step, steps):
                loop.run(loaded(engines.newest, policy, config, step))
                scored = asked(step, "held out", method.held_out(engines.newest))
                metrics |= held_out_metrics(scored)
                loop.run(left_alone(engines.newest))
            if kept(step, steps):
                run.texts([{"step": step, **row} for row in method.texts(collected)])
            if method.reference_every and step % method.reference_every == 0:
                method.reference.refresh(whole(policy.model), method.reference_share)
            close_step(run, config, step, metrics, alarms, save, stateful)
            if step >= set_aside + steps / MODELS and alarms.watch.at_best():
                run.set_aside(BEFORE, save())
                set_aside = step
        policy.ranks.on_first(forget, config)
        finish(run, save, config)
    return config.out


def held_out_metrics(samples: Sequence[Sample]) -> Metrics:
    """What scored responses to prompts that are not trained on say; nothing of none."""
    if not samples:
        return {}
    worth = (s.reward + sum(turn.reward for turn in s.steps) for s in samples)
    episodes = {(s.group, i if s.episode is None else s.episode) for i, s in enumerate(samples)}
    return {
        "eval/reward": math.fsum(worth) / len(episodes),
        "eval/completions/mean_length": sum(sum(s.mask) for s in samples) / len(samples),
        "eval/eos_rate": sum(s.stop_reason == "stop" for s in samples) / len(samples),
    }
