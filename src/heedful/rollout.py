"""Episodes against an engine: recorded tokens, masks and log-probs, nothing ever re-tokenised.

`rollout` and `scored_rollout` give them as samples; without an `env` each is one turn, scored by a reward.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NotRequired, TypedDict, Unpack

from transformers import PreTrainedTokenizerBase

from heedful.data.episodes import as_samples
from heedful.data.samples import logged, rewards_of
from heedful.data.shown import Judged, whole
from heedful.data.tokens import decode_response, encode_prompt, prefilled, stop_tokens
from heedful.data.turns import Openings
from heedful.envs.ask import ask
from heedful.envs.chat import Env, Limits, Record
from heedful.envs.play import OnError, play
from heedful.models.sampling import derive_seed
from heedful.ranks import ALONE, Ranks
from heedful.rewards.parts import Early, Parts, Scores
from heedful.types import (
    NO_FACTS,
    Completion,
    Engine,
    Episode,
    Facts,
    Group,
    Metrics,
    Prompt,
    Reward,
    Sample,
    Sampling,
    Segment,
    Task,
)
from heedful.waiting import all_of

log = logging.getLogger("heedful")


def tasks(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    facts: Sequence[Facts] | None = None,
) -> list[Task]:
    """Encode prompts for sampling. `facts`, one mapping a prompt, are what `data.sources.read_questions` gives."""
    known = [NO_FACTS] * len(prompts) if facts is None else facts
    return [
        Task(p, tuple(encode_prompt(tokenizer, p)), tuple(stop_tokens(tokenizer, p)), f)
        for p, f in zip(prompts, known, strict=True)
    ]


class Drawing(TypedDict):
    """How to sample, `n` episodes of each task and max_tokens a turn. The seed is that of the batch; a version marks
    the samples."""

    n: int
    max_tokens: int
    sampling: Sampling
    seed: int
    version: NotRequired[int]


class How(Drawing):
    """How to sample and what to play. `limits` go with an `env`; an error in it stops the run, or drops and counts the
    episode. Where a template writes an earlier turn anew, a branch of the episode begins, or all is refused.
    `tool_format` is how calls of tools are written, see `envs.formats`; what of an episode is `judged` by rewards and
    raters, its last turn or all of it, goes where the environment does not say."""

    env: NotRequired[Env]
    limits: NotRequired[Limits]
    on_error: NotRequired[OnError]
    rewrites: NotRequired[Literal["branch", "refuse"]]
    tool_format: NotRequired[str]
    judged: NotRequired[Judged]


async def episodes(
    engine: Engine,
    batch: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    *,
    ranks: Ranks = ALONE,
    **how: Unpack[How],
) -> list[list[Episode]]:
    """The episodes of each task. An environment's error, unless dropped, is raised."""

    async def played(numbered: tuple[int, Task]) -> list[Episode]:
        return await _played(engine, *numbered, tokenizer, **how)

    return await ranks.share_out(list(enumerate(batch)), played)


async def rollout(
    engine: Engine,
    batch: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    *,
    ranks: Ranks = ALONE,
    **how: Unpack[How],
) -> list[Sample]:
    """The samples of `n` episodes of each task, those of one task next to each other in one group. Their rewards are
    the environment's, 0 without one."""
    grouped = await episodes(engine, batch, tokenizer, ranks=ranks, **how)
    return [
        s
        for g, group in enumerate(grouped)
        for samples in _samples(group, g, how["n"])
        for s in samples
    ]


async def scored_rollout(
    engine: Engine,
    reward: Parts | Reward,
    batch: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    *,
    ranks: Ranks = ALONE,
    **how: Unpack[How],
) -> tuple[list[Sample], Metrics]:
    """`rollout` and `score`. A reward that is no model here, such as one asked over the network, judges a group as
    soon as it is written, while others are still being written. What it judges of an episode is the last turn; an
    environment's own rewards come on top. An episode that every term abstains from is left out, and counted."""
    parts = Parts.of(reward)

    async def played(numbered: tuple[int, Task]) -> tuple[list[Episode], Early]:
        group = await _played(engine, *numbered, tokenizer, **how)
        return group, await parts.early(_judged(numbered[1], group, tokenizer))

    done = await ranks.share_out(list(enumerate(batch)), played)
    groups = [_judged(task, group, tokenizer) for task, (group, _) in zip(batch, done, strict=True)]
    scores = await parts.score(groups, [early for _, early in done], ranks)
    alone = how.get("env", ask) is ask  # an environment's rewards stand where a reward abstains
    samples, worth = [], iter(rewards_of(scores))
    for number, (group, _) in enumerate(done):
        for main, *others in _samples(group, number, how["n"]):
            own = next(worth)
            if (value := own.total if alone else own.total or 0.0) is not None:
                extra = logged(own.extra)
                samples += [replace(main, reward=main.reward + value, extra=extra), *others]
    return samples, scores.metrics if alone else scores.metrics | episode_metrics(
        [e for group, _ in done for e in group], len(batch) * how["n"]
    )


def episode_metrics(played: Sequence[Episode], asked: int) -> Metrics:
    """Means over episodes: turns, the share of truncated ones, each part of the rewards; and how many are missing."""
    count = max(1, len(played))
    names = dict.fromkeys(name for e in played for name in e.parts)
    counted = dict.fromkeys(name for e in played for name in e.counts)
    return {
        "episodes/turns": sum(len(e.turns) for e in played) / count,
        "episodes/truncated": sum(e.ended == "truncated" for e in played) / count,
        "episodes/dropped": float(asked - len(played)),
        **{f"episodes/{n}": sum(e.counts.get(n, 0) for e in played) / count for n in counted},
        **{f"reward/{n}": math.fsum(e.parts.get(n, 0.0) for e in played) / count for n in names},
    }


async def ahead(
    engine: Engine,
    batch: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    *,
    ranks: Ranks = ALONE,
    **how: Unpack[How],
) -> None:
    """Have the engine draw this rank's episodes of `rollout`, without waiting for other ranks: an engine with `once`
    gives them again when their time has come."""
    mine = list(enumerate(batch))[ranks.rank :: ranks.world]
    await all_of(_played(engine, *numbered, tokenizer, **how) for numbered in mine)


async def _played(
    engine: Engine, number: int, task: Task, tokenizer: PreTrainedTokenizerBase, **how: Unpack[How]
) -> list[Episode]:
    """The episodes of the batch's task of this number in which the policy said something."""
    once = getattr(engine, "once", None)
    group = functools.partial(_group, engine, number, task, tokenizer, **how)
    return await (group() if once is None else once((how["seed"], number), group))


async def _group(
    engine: Engine, number: int, task: Task, tokenizer: PreTrainedTokenizerBase, **how: Unpack[How]
) -> list[Episode]:
    env, limits = how.get("env", ask), how.get("limits", Limits())
    openings = Openings()
    if env is ask:
        limits = replace(limits, turns=1)

    async def one(i: int) -> Episode | None:
        record = Record(
            task,
            tokenizer,
            functools.partial(speak, engine, how["sampling"], (how["seed"], number), i),
            replace(limits, turn_tokens=how["max_tokens"]),
            seed=f"{how['seed']}/{number}/{i}",
            window=engine.window,
            version=how.get("version", 0),
            rewrites=how.get("rewrites", "branch"),
            tool_format=how.get("tool_format", "auto"),
            openings=openings,
        )
        return await play(env, record, how.get("on_error", "stop"))

    found = await all_of(map(one, range(how["n"])))
    told = [episode for episode in found if episode is not None and episode.turns]
    return [whole(episode) for episode in told] if how.get("judged") == "episode" else told


async def speak(
    engine: Engine,
    sampling: Sampling,
    seed: tuple[int, ...],
    sibling: int,
    tokens: Sequence[int],
    *,
    place: tuple[int, ...],
    max_tokens: int,
    stop: Sequence[int],
    keep: bool,
    **more: Any,
) -> Completion:
    """One turn. The first turns of a task's episodes are the n completions of one prompt. `more` is for the engine."""
    (completion,) = await engine.generate(
        tokens,
        n=1,
        first=sibling,
        max_tokens=max_tokens,
        sampling=sampling,
        stop=stop,
        seed=derive_seed(*seed, *(place if place != (0,) else ())),
        keep=keep,
        **more,
    )
    return completion


def _samples(group: Sequence[Episode], number: int, n: int) -> list[list[Sample]]:
    return [as_samples(e, group=number, number=number * n + i) for i, e in enumerate(group)]


def _last_turn(episode: Episode) -> Segment:
    """The policy's last turn in the conversation."""
    for branch in episode.branches:
        if turns := [s for s in branch.segments[branch.context :] if s.author == "policy"]:
            return turns[-1]
    raise ValueError("an episode in which the policy said nothing")


async def score_episodes(
    reward: Parts | Reward,
    groups: Sequence[Sequence[Episode]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[list[Episode]]:
    """The episodes with a reward's number for the last turn added to the reward at the end, and its parts to theirs.

    An episode that every part of the reward abstains from is left out, with a warning.
    """
    judged = [_judged(group[0], group, tokenizer) for group in groups if group]
    scores = await Parts.of(reward).score(judged)
    rows = iter(range(len(scores.total)))

    def with_reward(e: Episode, i: int, total: float) -> Episode:
        reward_parts = {
            name: e.parts.get(name, 0.0) + value
            for name, values in scores.parts.items()
            if (value := values[i]) is not None
        }
        return replace(e, reward=e.reward + total, parts={**e.parts, **reward_parts})

    if scores.unscored:
        log.warning("left out %d episodes that no reward has scored", scores.unscored)
    return [
        [
            with_reward(e, i, total)
            for e, i in zip(group, rows, strict=False)
            if (total := scores.total[i]) is not None
        ]
        for group in groups
    ]


def _judged(
    task: Task | Episode, group: Sequence[Episode], tokenizer: PreTrainedTokenizerBase
) -> Group:
    """A task's episodes as a reward sees them: the texts of the last turns, or what the environment shows of them, and
    whether these ended by themselves.

    The prompt has no say in whether a response ended.
    """
    turns = [_last_turn(episode) for episode in group]
    texts = [decode_response(tokenizer, turn.tokens) for turn in turns]
    ended = [
        turn.stop_reason == "stop" and e.ended == "terminated"
        for turn, e in zip(turns, group, strict=True)
    ]
    if any(e.shown is not None for e in group):
        return Group(task.prompt, [e.shown or "" for e in group], ended, task.facts)
    heard = next(s.tokens for s in group[0].branches[0].segments)
    return Group(
        task.prompt,
        texts,
        ended,
        task.facts,
        tokens=[turn.tokens for turn in turns],
        conversations=_conversations(task.prompt, group),
        prefilled=prefilled(tokenizer, heard),
    )


def _conversations(prompt: Prompt, group: Sequence[Episode]) -> list[Prompt] | None:
    """What stood before the last turns, None where that is the prompt each time, or plain text."""
    if isinstance(prompt, str):
        return None
    before: list[Prompt] = []
    for episode in group:
        said = [i for i, m in enumerate(episode.messages) if m.role == "assistant"]
        before.append(episode.messages[: said[-1]] if said else prompt)
    return None if all(one == prompt for one in before) else before


def response_text(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> str:
    """What the policy wrote in a sample, decoded; of several turns the last."""
    return decode_response(tokenizer, _written(sample))


def _written(sample: Sample) -> list[int]:
    """The ids of the policy's last turn."""
    start = sample.steps[-1].start if sample.steps else 0
    written = zip(sample.tokens[start:], sample.mask[start:], strict=True)
    return [token for token, own in written if own]


async def score(
    reward: Parts | Reward,
    batch: Sequence[Task],
    samples: Sequence[Sample],
    tokenizer: PreTrainedTokenizerBase,
    ranks: Ranks = ALONE,
) -> tuple[list[Sample], Metrics]:
    """The samples with their rewards, and mean and spread of each part over the batch; see `score_parts`.

    A sample that every part abstains from is left out.
    """
    scores = await score_parts(reward, batch, samples, tokenizer, ranks)
    paired = zip(samples, rewards_of(scores), strict=True)
    return [
        replace(s, reward=own.total, extra=logged(own.extra))
        for s, own in paired
        if own.total is not None
    ], scores.metrics


async def score_parts(
    reward: Parts | Reward,
    batch: Sequence[Task],
    samples: Sequence[Sample],
    tokenizer: PreTrainedTokenizerBase,
    ranks: Ranks = ALONE,
) -> Scores:
    """What the samples are worth, part by part, in their own order; each group is scored in one call."""
    members: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        assert sample.group is not None
        members.setdefault(sample.group, []).append(i)

    def judged(group: int, rows: Sequence[int]) -> Group:
        task, written = batch[group], [_written(samples[i]) for i in rows]
        return Group(
            task.prompt,
            [decode_response(tokenizer, ids) for ids in written],
            [samples[i].stop_reason == "stop" for i in rows],
            task.facts,
            tokens=written,
            prefilled=prefilled(tokenizer, task.tokens),
        )

    groups = [judged(g, rows) for g, rows in members.items()]
    scores = await Parts.of(reward).score(groups, ranks=ranks)
    order = [i for rows in members.values() for i in rows]

    place = {i: k for k, i in enumerate(order)}

    def in_order(values: Sequence[Any]) -> list[Any]:
        return [values[place[i]] for i in range(len(samples))]

    columns = ({n: in_order(v) for n, v in of.items()} for of in (scores.parts, scores.extra))
    parts, extra = columns
    return Scores(in_order(scores.total), parts, scores.metrics, extra)
