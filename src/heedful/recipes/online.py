"""Online and iterated DPO: sample from the policy as it is, judge, take preference steps, and go round.

Sample, judge by a reward or by raters, make pairs (or thumbs, or rankings: whatever the loss reads), take
steps, refresh the reference every so many rounds if asked (iterated DPO). Fresh samples are what offline DPO
lacks: its pairs say nothing of where the policy has gone since (Guo et al. 2024).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.online import Config, refuse_nonsense
from heedful.data.collate import shuffled
from heedful.data.texts import some_texts
from heedful.doctor import preflight
from heedful.envs import Env
from heedful.errors import UserError
from heedful.learner import load_learner
from heedful.learner.local import LocalLearner
from heedful.models.adapters import reference_of
from heedful.models.limits import context_length
from heedful.models.load import load_tokenizer
from heedful.models.reference import Reference
from heedful.models.sampling import derive_seed
from heedful.ranks import ALONE, Ranks
from heedful.raters.panel import judged, judges
from heedful.recipes.preference import objective_of
from heedful.rewards import Parts, load_rewards
from heedful.rollout import Task, response_text, rollout, score, scored_rollout
from heedful.training.forwards import policy_forward
from heedful.training.judgments import (
    Prepared,
    RunningMean,
    judgments,
    loss_of,
    with_reference,
)
from heedful.training.kept import Judgment
from heedful.training.objective import Objective
from heedful.training.on_policy import OnPolicy, on_policy
from heedful.training.playing import Played, asked, env_of, played
from heedful.training.reference_sums import NOTHING, Known, Sums, reference_sums
from heedful.training.rows import askable, asked_of, prompts_of
from heedful.training.supervised import begun, optim, rows_at
from heedful.training.trainable import base, named_reference, prepare
from heedful.types import Engine, Metrics, Rater, Sample


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds the policy."""
    refuse_what_cannot_be(config)
    objective = objective_of(config)
    config = begun(config, "prompts", ranks)
    env = env_of(config)
    data = asked(config, env, "train")
    tokenizer = load_tokenizer(config.model)
    policy = prepare(base(config), config)
    reference = Reference(policy)  # is not asked where the loss reads none
    if config.reference:
        reference = named_reference(config.reference, config)
    elif objective.needs_reference:
        reference = reference_of(policy)
    judge: Parts | list[Rater] = (
        judges(config.judge, config.seed)
        if config.judge
        else load_rewards(
            config.reward,
            weights=config.reward_weights,
            dtype=config.dtype,
            device=config.device,
            none=env is not None,
        )
    )
    reward = judge if isinstance(judge, Parts) else None
    make = askable(tokenizer, context_length(policy), config.max_tokens, reward)
    todo, held, notes = asked_of(config, data, config.eval_data, make)
    preflight(tokenizer, policy, prompts_of(todo), max_tokens=config.max_tokens)
    return optimise(
        config, objective, tokenizer, policy, reference, judge, todo, held, notes, ranks, env
    )


def optimise(
    config: Config,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    policy: PreTrainedModel,
    reference: Reference,
    judge: Parts | list[Rater],
    todo: Sequence[Task],
    held: Sequence[Task] = (),
    notes: Sequence[Mapping[str, Any]] = (),
    ranks: Ranks = ALONE,
    env: Env | None = None,
) -> Path:
    """The loop itself, on models that are already in memory."""
    how = played(config, env)
    limit, forward = context_length(policy), policy_forward(config.sampling)
    most = config.batch_size * _judgments_a_prompt(config, objective)
    inner = config.inner_epochs * -(-most // config.minibatch_size)
    learner = load_learner(
        policy,
        forward,
        optim(config, config.steps * inner),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )
    delta = RunningMean()

    def sums_of(samples: Iterable[Sample], known: Known) -> Known:
        with reference.active() as frozen:
            return reference_sums(
                frozen, forward, samples, config.micro_batch_tokens, known, ranks=ranks
            )

    async def collect(engine: Engine, step: int) -> list[Any]:
        if isinstance(judge, Parts):
            epoch = (step - 1) * config.batch_size / len(todo)
            judge.progress = (step - 1, config.steps, epoch)
        chosen = [todo[i] for i in rows_at(len(todo), config.batch_size, step - 1, config.seed)]
        return [
            *await _sample_and_judge(engine, judge, chosen, tokenizer, config, step, ranks, how)
        ]

    def learn(step: int, collected: list[Any]) -> Metrics:
        samples, worth, *of_reward = collected
        if not samples:  # every term of the reward abstained: there is nothing to learn from
            return dict(of_reward[0])
        known = sums_of(samples, NOTHING) if objective.needs_reference else NOTHING
        metrics = rollout_metrics(samples, known) | (of_reward[0] if of_reward else {})
        if not config.judge:
            metrics["reward"] = math.fsum(map(_reward_of, samples)) / len(samples)
        judged = judge_groups(config, objective, samples, worth, step)
        metrics["judgments"] = float(len(judged))
        if judged:
            part = with_reference(
                objective, partial(sums_of, known=known), judged, samples, limit, config.seed + step
            )
            metrics |= update(config, objective, learner, part, len(judged), delta, step)
        return metrics

    async def on_held_out(engine: Engine) -> list[Sample]:
        """One response to each prompt, by the same seed each time; a running scale is moved by what is trained on."""
        assert isinstance(judge, Parts)
        samples, _ = await scored_rollout(
            engine, Parts(judge.parts), held, tokenizer, n=1, max_tokens=config.max_tokens,
            sampling=config.sampling, seed=derive_seed(config.seed), ranks=ranks, **how,
        )  # fmt: skip
        return samples

    method = OnPolicy(
        policy=learner,
        collect=collect,
        learn=learn,
        stateful={"learner": learner, "delta": delta},
        reference=reference,
        texts=lambda collected: some_texts(tokenizer, collected[0]),
        show=("reward", "kl/seq", "rewards/accuracies", "completions/mean_length"),
        reference_every=config.refresh_reference,
        notes=notes,
        held_out=on_held_out if held else None,
    )
    return on_policy(config, config.steps, tokenizer, method)


async def _sample_and_judge(
    engine: Engine,
    judge: Parts | list[Rater],
    batch: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    config: Config,
    step: int,
    ranks: Ranks,
    how: Played,
) -> tuple[list[Sample], list[float], Metrics]:
    """Samples, what each is worth within its group (its reward, or minus its rank), and what the reward logged. An
    episode is compared as a whole, so a template that makes several samples of one is refused."""
    cut = config.missing_eos_penalty
    if how:
        assert isinstance(judge, Parts)
        samples, metrics = await scored_rollout(
            engine, judge, batch, tokenizer, n=config.n, max_tokens=config.max_tokens, sampling=config.sampling,
            seed=derive_seed(config.seed, step), version=step - 1, ranks=ranks, rewrites="refuse", **how,
        )  # fmt: skip
        return (
            samples,
            [_reward_of(s) - cut * (s.stop_reason == "length") for s in samples],
            metrics,
        )
    samples = await rollout(
        engine, batch, tokenizer, n=config.n, max_tokens=config.max_tokens, sampling=config.sampling,
        seed=derive_seed(config.seed, step), version=step - 1, ranks=ranks,
    )  # fmt: skip
    if not isinstance(judge, list):
        samples, metrics = await score(judge, batch, samples, tokenizer, ranks)
        worth = [s.reward - cut * (s.stop_reason == "length") for s in samples]
        return samples, worth, metrics
    raters = judge

    async def ranking(i: int) -> Sequence[int]:
        texts = [response_text(tokenizer, s) for s in samples if s.group == i]
        return (await judged(raters[i % len(raters)], batch[i].prompt, texts)).places

    rankings = await ranks.share_out(range(len(batch)), ranking)
    return samples, [-float(rank) for of_prompt in rankings for rank in of_prompt], {}


def _reward_of(sample: Sample) -> float:
    return sample.reward + sum(turn.reward for turn in sample.steps)


def judge_groups(
    config: Config,
    objective: Objective,
    samples: Sequence[Sample],
    worth: Sequence[float],
    step: int,
) -> list[Judgment]:
    """The round's judgments; a prompt whose responses are all worth the same gives none."""
    rng = random.Random(derive_seed(config.seed, step))
    groups: dict[int | None, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(i)
    judged: list[Judgment] = []
    for rows in groups.values():
        if config.keep:
            accepted = rejection_sample(
                [worth[i] for i in rows], config.keep, config.accept_beta, rng
            )
            rows = [rows[k] for k in accepted]
        levels = sorted({worth[i] for i in rows}, reverse=True)
        if len(levels) > 1:
            ranking = [levels.index(worth[i]) + 1 for i in rows]
            judged += judgments(
                objective.reads,
                [samples[i] for i in rows],
                ranking,
                1 - config.label_smoothing,
                config.pairs,
            )
    return judged


def rejection_sample(
    rewards: Sequence[float], keep: int, beta: float, rng: random.Random
) -> list[int]:
    """Which of the candidates to keep, so that they follow π* ∝ π·e^{r/β} when they were drawn from π.

    A candidate is accepted with chance exp((r − r_max)/β), r_max the best of those not yet accepted, until
    `keep` are (Liu et al. 2024, algorithm 1). Small β trusts the reward: then these are the best ones.
    """
    left, accepted = list(range(len(rewards))), list[int]()
    while left and len(accepted) < keep:
        top, rest = max(rewards[i] for i in left), list[int]()
        for i in left:
            chosen = len(accepted) < keep and rng.random() < math.exp((rewards[i] - top) / beta)
            (accepted if chosen else rest).append(i)
        left = rest
    return accepted


def update(
    config: Config,
    objective: Objective,
    learner: LocalLearner,
    part: Prepared,
    count: int,
    delta: RunningMean,
    step: int,
) -> Metrics:
    """The inner epochs over one round's judgments. Returns the mean metrics of its steps."""
    history: list[Metrics] = []
    for epoch in range(config.inner_epochs):
        order = shuffled(count, derive_seed(config.seed, step), epoch)
        for start in range(0, count, config.minibatch_size):
            groups = order[start : start + config.minibatch_size]
            batch = part.take(groups, objective, learner, delta)
            history.append(learner.step(loss_of(objective), batch, per="group"))
    return {k: math.fsum(row[k] for row in history) / len(history) for k in history[0]}


def rollout_metrics(samples: Sequence[Sample], known: Sums) -> Metrics:
    """What the sampled responses say; kl/seq in nats per response, to the reference as it was in this round."""
    tokens = [sum(s.mask) for s in samples]
    metrics = {
        "completions/mean_length": sum(tokens) / len(tokens),
        "eos_rate": sum(s.stop_reason == "stop" for s in samples) / len(samples),
        "policy/entropy": -math.fsum(x for s in samples for x in s.logprobs) / max(1, sum(tokens)),
    }
    if len(known):
        k1 = [math.fsum(s.logprobs) - known[s] for s in samples]
        metrics["kl/seq"] = math.fsum(k1) / len(k1)
    return metrics


def _judgments_a_prompt(config: Config, objective: Objective) -> int:
    """How many judgments a prompt gives at most, which is what the schedule of the learning rate counts on."""
    k = config.keep or config.n
    if objective.reads == "PairLogps":
        return k * (k - 1) // 2 if config.pairs == "all" else 1
    return k if objective.reads == "LabelledLogps" else 1


def refuse_what_cannot_be(config: Config) -> None:
    """Numbers and combinations that no run can have."""
    refuse_nonsense(config)
    if config.refresh_reference and not objective_of(config).needs_reference:
        raise UserError(f"--refresh-reference: --loss {config.loss} reads no reference")
