"""What the environments of other libraries share: how their games begin, and tasks that differ by a seed only."""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from heedful.envs.chat import Chat
from heedful.envs.specs import Rows, Split
from heedful.envs.tools import in_thread
from heedful.errors import UserError
from heedful.types import Message, Prompt

GAMES = 256  # tasks of a game that has endlessly many
SECONDS = 60.0  # that a step of a foreign environment may take


def with_first(prompt: Prompt, text: str) -> Prompt:
    """A prompt and what the environment says first, in one turn of the user's: many templates refuse two in a row."""
    if not text:
        return prompt
    if isinstance(prompt, str):
        return f"{prompt}\n{text}\n" if prompt else text
    if not prompt or prompt[-1].role != "user":
        return (*prompt, Message("user", text))
    last = prompt[-1]
    words = f"{last.content}\n\n{text}" if last.content else text
    return (*prompt[:-1], replace(last, content=words))


def seeded(instruction: str) -> Callable[[Split, int], Rows]:
    """Tasks that are told the same and differ by their `seed`, so that all episodes of one begin alike."""

    def tasks(split: Split, seed: int) -> Rows:
        numbers = random.Random(f"{split}/{seed}")
        prompt = [{"role": "user", "content": instruction}]
        return [{"prompt": prompt, "seed": numbers.getrandbits(31)} for _ in range(GAMES)]

    return tasks


def seed_of(facts: Mapping[str, Any], rng: random.Random) -> int:
    """Of a task's game: the task's `seed`, else one of the episode's own."""
    seed = facts.get("seed")
    return seed if isinstance(seed, int) else rng.getrandbits(31)


def package(name: str, extra: str, spec: str) -> Any:
    """An optional package; `UserError` that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"--env {spec} needs the package {name.partition('.')[0]}: pip install 'heedful[{extra}]' ({error})"
        ) from error


class Moves(Protocol):
    """How what the policy says is read as a move of a game."""

    told: str  # how to answer

    def of(self, said: str) -> Any:
        """None if there is none in it."""
        ...


async def next_move(chat: Chat, moves: Moves) -> Any:
    """What the policy does next; it is told how to answer, and counted, until there is a move in what it says."""
    while (move := moves.of((await chat.say()).text)) is None:
        chat.count("wrong_moves", 1)
        chat.hear("user", moves.told)
    return move


async def within(seconds: float, spec: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """What a blocking function returns; RuntimeError if it takes longer than so many seconds."""
    try:
        return await asyncio.wait_for(in_thread(function, arguments), seconds)
    except TimeoutError:
        name = getattr(function, "__name__", "a step")
        raise RuntimeError(f"{spec}: {name} took longer than {seconds:g} seconds") from None
