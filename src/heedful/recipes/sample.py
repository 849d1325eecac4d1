"""Sampling: prompts → responses with their log-probs, best of n by a reward if asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.common import Drawing
from heedful.configs.sample import Config, refuse_nonsense
from heedful.data.context import in_context, read_context
from heedful.data.episodes import transcript_row
from heedful.data.reading import named
from heedful.data.samples import (
    NO_REWARDS,
    Drawn,
    Rewards,
    all_rewards,
    best,
    rewards_of,
    sample_row,
)
from heedful.data.sources import read_triplets, write_rows
from heedful.data.tokens import prefilled
from heedful.engine import load_engine
from heedful.envs import Env
from heedful.envs.returns import for_return
from heedful.envs.specs import Split
from heedful.errors import UserError
from heedful.evals import best_of_n
from heedful.evals.similarity import Similarity, elites
from heedful.evals.statistics import wilson
from heedful.models.limits import context_length
from heedful.models.load import load_tokenizer
from heedful.models.pooled import mean_states
from heedful.models.values import load_steered
from heedful.progress import Progress
from heedful.remote.journal import beside, recorded_until_done
from heedful.remote.sources import sources
from heedful.rewards import Parts, load_rewards
from heedful.rollout import Task, episodes, response_text, rollout, score_episodes, score_parts
from heedful.training.playing import asked, env_of, played
from heedful.training.rows import TooLong, askable
from heedful.transfer.sources import materialise
from heedful.types import Episode, Facts, Prompt, Sample, Sampling

LEAST_TRIPLETS = 20
CHUNK = 256  # prompts between two updates of the progress bar


def run(config: Config) -> Path:
    """Returns the path of the samples. With --best-of, prints how far that takes the policy from itself."""
    refuse_nonsense(config)
    source = materialise(config.data, "prompts", split="all")
    ready = made_ready(config, source, "train")
    with recorded_until_done(beside(config.out), sources(config)):
        return _written(config, ready)


def _written(config: Config, ready: Ready) -> Path:
    if ready.env is not None:
        return write_transcripts(config, ready)
    alike = learned(config, ready) if config.diverse else None  # first: it may be refused
    drawn = draw_as_told(config, ready, n=config.best_of or config.n)
    rows = [
        sample_row(d, k, config.model, config.seed)
        for d in drawn
        for k in kept(config, d, alike)
        if config.at_least is None or d.reward(k) >= config.at_least
    ]
    if not rows:
        raise UserError(f"none of the responses has a reward of {config.at_least} or more")
    write_rows(config.out, rows)
    if config.best_of:
        kl, (low, high) = best_of_n.mean_kl(all_rewards(drawn), config.best_of)
        print(
            f"best of {config.best_of}: {kl:.3f} [{low:.3f}, {high:.3f}] nats of KL a response to the "
            f"policy, estimated with ties; at most {best_of_n.bound(config.best_of):.3f}"
        )
    return config.out


def kept(config: Config, drawn: Drawn, alike: Similarity | None) -> Sequence[int]:
    """Which of the responses to a prompt are written."""
    if config.best_of:
        return [best(drawn)]
    if alike is None:
        return range(len(drawn.samples))
    likely = [sum(s.logprobs) / max(1, sum(s.mask)) for s in drawn.samples]
    quality = [drawn.reward(k) for k in range(len(likely))] if config.reward else likely
    return elites(alike.places(drawn.texts), quality, config.diverse)


def learned(config: Config, ready: Ready) -> Similarity:
    """What people find alike, as far as they were asked; tells how well that holds for triplets that were kept out."""

    def unlearned() -> Similarity:
        if config.alike == "words":
            return Similarity(seed=config.seed)
        width = ready.model.config.get_text_config().hidden_size
        by_states = partial(mean_states, ready.model, ready.tokenizer)
        return Similarity(by_states, width, seed=config.seed)

    alike = unlearned()
    if config.triplets is None:
        return alike
    triplets = read_triplets(materialise(config.triplets, "triplets", split="all"))
    if len(triplets) < LEAST_TRIPLETS:
        raise UserError(
            f"--triplets {named(config.triplets)}: {len(triplets)} triplets; {LEAST_TRIPLETS} are needed at least"
        )
    held = triplets[::5]
    right = alike.fit([t for k, t in enumerate(triplets) if k % 5]).right(held)
    low, high = wilson(right, len(held))
    print(
        f"similarity: {right / len(held):.0%} [{low:.0%}, {high:.0%}] of {len(held)} triplets that were kept out are "
        "as people say; half of them would be by chance"
    )
    return unlearned().fit(triplets)


def write_transcripts(config: Config, ready: Ready) -> Path:
    """The episodes that are good enough, or the best of each task, as rows of the file."""
    rows = []
    for group in episodes_as_told(config, ready, n=config.best_of or config.n):
        ranked = sorted(range(len(group)), key=lambda k: -group[k].score)
        for k in ranked[:1] if config.best_of else range(len(group)):
            if config.at_least is None or group[k].score >= config.at_least:
                rows.append(transcript_row(group[k], k, config.model, config.seed))
    if not rows:
        raise UserError(
            "no episode is left: "
            + ("each was dropped" if config.at_least is None else "none is worth so much")
        )
    write_rows(config.out, rows)
    return config.out


@dataclass(frozen=True)
class Ready:
    """All that is needed to sample, and the prompts that can be asked."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    reward: Parts | None
    todo: list[Task]
    env: Env | None = None


def made_ready(
    config: Drawing, source: str | tuple[str, ...], split: Split, scorer: Parts | None = None
) -> Ready:
    """Load what a config names, and look at all prompts of a source, or at the environment's tasks of a split;
    `--on-bad-row` says what becomes of bad ones, and of those that a scorer could not score."""
    context = None if config.context is None else read_context("--context", config.context)
    env = env_of(config)
    if env is not None and config.target_return is not None:
        env = for_return(env, config.target_return)
    rows = asked(config, env, split, source)
    rows.items = list(rows.items)[: config.limit]
    model = load_steered(config.model, beta=config.value_weight, device=config.device)
    tokenizer = load_tokenizer(config.model)
    reward = None
    if config.reward:
        reward = load_rewards(config.reward, weights=config.reward_weights, device=config.device)
    make = askable(tokenizer, context_length(model), config.max_tokens, reward)
    if context is not None:
        make = behind(make, tokenizer, context)
    if scorer is not None:
        make = scorable(make, scorer)
    return Ready(model, tokenizer, reward, list(rows.fit(make)), env)


def scorable(
    make: Callable[[tuple[Prompt, Facts]], Task], scorer: Parts
) -> Callable[[tuple[Prompt, Facts]], Task]:
    """`askable` of prompts whose rows have what a scorer asks for, too."""

    def made(row: tuple[Prompt, Facts]) -> Task:
        scorer.check(*row)
        return make(row)

    return made


def behind(
    make: Callable[[tuple[Prompt, Facts]], Task], tokenizer: PreTrainedTokenizerBase, context: str
) -> Callable[[tuple[Prompt, Facts]], Task]:
    """`askable` of prompts that are asked behind a context, which is no part of the row."""

    def made(row: tuple[Prompt, Facts]) -> Task:
        prompt, facts = row
        try:
            return replace(make((in_context(tokenizer, prompt, context), facts)), prompt=prompt)
        except TooLong as error:  # what could be cut is the context
            raise UserError(str(error)) from error

    return made


def episodes_as_told(config: Drawing, ready: Ready, *, n: int) -> list[list[Episode]]:
    """`n` episodes of each task, with what a reward gives for the last turn on top of the environment's own."""
    engine, found = load_engine(ready.model), []

    async def chunk(part: Sequence[Task], seed: int) -> list[list[Episode]]:
        groups = await episodes(
            engine, part, ready.tokenizer, n=n, max_tokens=config.max_tokens, sampling=config.sampling, seed=seed,
            **played(config, ready.env),
        )  # fmt: skip
        if ready.reward is None:
            return groups
        return await score_episodes(ready.reward, groups, ready.tokenizer)

    with Progress("episodes", len(ready.todo), quiet=config.quiet) as bar, asyncio.Runner() as loop:
        for start in range(0, len(ready.todo), CHUNK):
            part = ready.todo[start : start + CHUNK]
            found += loop.run(chunk(part, config.seed + start), context=copy_context())
            bar.update(start + len(part))
    return found


def draw_as_told(config: Drawing, ready: Ready, *, n: int) -> list[Drawn]:
    """`draw` with the sampling that a config names."""
    return draw(
        ready.model,
        ready.tokenizer,
        ready.todo,
        n=n,
        max_tokens=config.max_tokens,
        sampling=config.sampling,
        seed=config.seed,
        reward=ready.reward,
        quiet=config.quiet,
    )


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    todo: Sequence[Task],
    *,
    n: int,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    reward: Parts | None = None,
    quiet: bool = False,
) -> list[Drawn]:
    """`n` responses to each prompt, with rewards if a reward is given; `todo` as `training.rows.askable` makes it."""
    if n < 1 or max_tokens < 1:
        raise UserError("the number of responses and --max-tokens must be at least 1")
    engine, drawn = load_engine(model), []

    async def chunk(part: Sequence[Task], seed: int) -> tuple[list[Sample], list[Rewards]]:
        samples = await rollout(
            engine, part, tokenizer, n=n, max_tokens=max_tokens, sampling=sampling, seed=seed
        )
        if reward is None:
            return samples, [NO_REWARDS] * len(samples)
        scores = await score_parts(reward, part, samples, tokenizer)
        return samples, rewards_of(scores)

    with Progress("sample", len(todo), quiet=quiet) as bar, asyncio.Runner() as loop:
        for start in range(0, len(todo), CHUNK):
            chosen = todo[start : start + CHUNK]
            samples, worth = loop.run(chunk(chosen, seed + start))
            for i, task in enumerate(chosen):
                own = slice(i * n, (i + 1) * n)
                texts = [response_text(tokenizer, s) for s in samples[own]]
                drawn.append(
                    Drawn(
                        task.prompt,
                        samples[own],
                        texts,
                        task.facts,
                        worth[own],
                        prefilled(tokenizer, task.tokens),
                    )
                )
            bar.update(start + len(chosen))
    return drawn
