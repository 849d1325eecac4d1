"""TextArena's games for one player, `textarena:ID`, such as `textarena:GuessTheNumber-v0`.

The reward is the game's own, at its end. Its games draw from Python's global random numbers: each has its own state of
them here, so that a seed gives the same game whoever else plays. Options go to the game.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from heedful.envs.chat import Chat, Env
from heedful.envs.openings import package, seed_of, seeded, with_first
from heedful.envs.specs import Environment
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Task


@register(
    "adapter", "textarena", help="ID: a game of TextArena's for one player", source="TextArena 0.7"
)
def textarena(name: str, **options: Any) -> Env:
    """The environment of a game."""
    arena = package("textarena", "textarena", f"textarena:{name}")
    _started(arena, name, options, 0)

    async def play(task: Task, chat: Chat) -> float | None:
        dice = _Dice(seed := seed_of(task.facts, chat.rng))
        with dice.thrown():
            game = _started(arena, name, options, seed)
        chat.begin(with_first(task.prompt, _news(arena, game)))
        while True:
            reply = await chat.say()
            with dice.thrown():
                done, _ = game.step(action=reply.text)
                rewards, _ = game.close() if done else ({}, None)
            if done:
                return float((rewards or {}).get(0, 0.0))
            chat.hear("user", _news(arena, game))

    return Environment(play, seeded(""), f"textarena:{name}")


def _started(arena: Any, name: str, options: dict[str, Any], seed: int) -> Any:
    try:
        game = arena.make(name, **options)
        game.reset(num_players=1, seed=seed)
    except (ValueError, TypeError, AssertionError, ImportError, LookupError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--env textarena:{name}: {reason[:300]}") from error
    return game


def _news(arena: Any, game: Any) -> str:
    """What the player has not been told yet, its own moves left out."""
    own = arena.ObservationType.PLAYER_ACTION
    news = game.state.get_current_player_observation()
    return "\n".join(text for _, text, kind in news if kind is not own) or "Your move."


class _Dice:
    """A state of the global random numbers that is one game's own."""

    def __init__(self, seed: int):
        self._state = random.Random(seed).getstate()

    @contextmanager
    def thrown(self) -> Iterator[None]:
        """Nothing else may draw while this lasts, and nobody else notices."""
        before = random.getstate()
        random.setstate(self._state)
        try:
            yield
        finally:
            self._state = random.getstate()
            random.setstate(before)
