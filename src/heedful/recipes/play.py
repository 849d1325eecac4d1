"""A person plays an environment in the terminal, or a script does: a play is a demonstration, a transcript."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.configs.play import Config
from heedful.data.columns import prompt_columns
from heedful.data.episodes import transcript_row
from heedful.data.files import add_rows
from heedful.data.shown import whole
from heedful.data.sources import read_questions
from heedful.envs.plain import played_by
from heedful.envs.specs import player_of, tasks_of
from heedful.errors import UserError
from heedful.progress import Progress
from heedful.recipes import play_game
from heedful.training.playing import env_of
from heedful.types import Episode, Message


def run(config: Config) -> Path | None:
    """Returns the file of transcripts, or of clips, if one was asked for."""
    if config.game:
        return play_game.run(config)
    env = env_of(config)
    assert env is not None
    rows = _tasks(config, env)
    if config.player:
        return _scripted(config, env, rows)
    chosen = rows[config.task - 1 : config.task - 1 + config.limit]
    if not chosen:
        raise UserError(f"--task {config.task}: there are {len(rows)}")
    for number, row in enumerate(chosen, config.task):
        print(f"— task {number} of {len(rows)}; Ctrl-D leaves off —", file=sys.stderr)
        episode = asyncio.run(
            played_by(env, row, _person, turns=config.max_turns, seed=config.seed)
        )
        _show_end(episode)
        if config.out is not None and episode.turns:
            add_rows(config.out, _row(config, episode, 0, config.name))
    return config.out


def _scripted(config: Config, env: Any, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Episodes by a scripted player, all written at once."""
    assert config.player is not None and config.out is not None
    player, played = player_of(env, config.player), []
    with Progress("episodes", config.limit) as bar:
        for number in range(config.limit):
            row = rows[(config.task - 1 + number) % len(rows)]
            rng = random.Random(f"play/{config.player}/{config.seed}/{number}")
            work = played_by(env, row, player(row, rng), turns=config.max_turns, seed=config.seed)
            played.append(_row(config, asyncio.run(work), number, config.player))
            bar.update(number + 1)
    add_rows(config.out, *played)
    returns = [row["reward"] for row in played]
    print(f"{len(played)} episodes by {config.player}, mean return {fmean(returns):.3f}")
    return config.out


def _row(config: Config, episode: Episode, index: int, who: str) -> dict[str, Any]:
    seen = whole(episode) if config.judged == "episode" else episode
    return transcript_row(seen, index, who, config.seed)


def _tasks(config: Config, env: Any) -> Sequence[Mapping[str, Any]]:
    if config.data:
        questions = read_questions(config.data, config.columns)
        return [{**prompt_columns(prompt), **facts} for prompt, facts in questions]
    if (rows := tasks_of(env, "train", config.seed)) is None:
        raise UserError(f"--data is missing: the environment {config.env} has no tasks of its own")
    return rows


async def _person(heard: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str | None:
    for message in heard:
        if message.role != "assistant":
            print(f"{message.name or message.role}: {message.content}", flush=True)
    for tool in tools if any(m.role != "tool" for m in heard) else ():
        shown = tool["function"]
        arguments = ", ".join(f"{name}=…" for name in shown["parameters"].get("properties", {}))
        print(f"  {shown['name']}({arguments})  {shown['description']}", file=sys.stderr)
    if sys.stdin.isatty():
        print("you> ", end="", file=sys.stderr, flush=True)
    line = await asyncio.to_thread(sys.stdin.readline)
    return line.rstrip("\n") if line else None


def _show_end(episode: Episode) -> None:
    last = [m for m in episode.messages if m.role != "assistant"][-1:]
    if last and episode.messages and episode.messages[-1] is last[0] and episode.turns:
        print(f"{last[0].name or last[0].role}: {last[0].content}", flush=True)
    parts = ", ".join(f"{name} {value:g}" for name, value in episode.parts.items())
    print(f"{episode.ended}: {episode.score:g}" + (f" ({parts})" if parts else ""), flush=True)
