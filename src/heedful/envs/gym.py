"""Gymnasium's environments, `gym:ID`, where observations are text, numbers or arrays, and actions text or one of n.

What the environment shows is told as text (what it renders, with `render_mode=ansi`), and the policy answers with the
number of an action, or with its name where the option `actions` names them in their order: `actions='left right'`.
Other options go to `gymnasium.make`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from heedful.envs.chat import Chat, Env
from heedful.envs.openings import SECONDS, next_move, package, seed_of, seeded, with_first, within
from heedful.envs.specs import Environment
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Task


@register("adapter", "gym", help="ID: an environment of Gymnasium's", source="Gymnasium 1.4")
def gym(name: str, *, actions: str = "", seconds: float = SECONDS, **options: Any) -> Env:
    """The environment of an id. A move that is none is told so, and costs a turn and nothing else."""
    gymnasium = package("gymnasium", "gym", f"gym:{name}")
    try:
        first = gymnasium.make(name, **options)
    except (gymnasium.error.Error, TypeError, ImportError) as error:
        raise UserError(f"--env gym:{name}: {error}") from error
    named = actions.split()
    moves = _Moves(gymnasium, first.action_space, named, name)
    first.close()

    async def play(task: Task, chat: Chat) -> None:
        env = gymnasium.make(name, **options)
        try:
            seed = seed_of(task.facts, chat.rng)
            shown, _ = await within(seconds, name, env.reset, seed=seed)
            chat.begin(with_first(task.prompt, _text(env, shown)))
            while True:
                action = await next_move(chat, moves)
                shown, reward, terminated, truncated, _ = await within(
                    seconds, name, env.step, action=action
                )
                chat.reward(reward)
                if terminated:
                    return
                if truncated:
                    raise chat.truncate("turns")
                chat.hear("user", _text(env, shown))
        finally:
            env.close()

    return Environment(play, seeded(f"{name}. {moves.told}"), f"gym:{name}")


class _Moves:
    """How answers are read as actions."""

    def __init__(self, gymnasium: Any, space: Any, named: list[str], name: str):
        self.names = named
        spaces = gymnasium.spaces
        if isinstance(space, spaces.Text):
            self.numbers = None
            self.told = "Answer with text."
        elif isinstance(space, spaces.Discrete):
            self.numbers = range(int(space.start), int(space.start + space.n))
            if named and len(named) != len(self.numbers):
                raise UserError(
                    f"--env gym:{name}: there are {len(self.numbers)} actions, and {len(named)} names for them"
                )
            last = self.numbers[-1]
            one_of = ", ".join(named) if named else f"a number from {self.numbers[0]} to {last}"
            self.told = f"Answer with your move: {one_of}."
        else:
            raise UserError(
                f"--env gym:{name}: actions are {space}; text or one of n is what a policy can say"
            )

    def of(self, said: str) -> Any:
        """The action that is named last; None if there is none."""
        if self.numbers is None:
            return said.strip()
        if self.names:
            words = [w for w in re.findall(r"[\w-]+", said) if w in self.names]
            return self.numbers[self.names.index(words[-1])] if words else None
        numbers = [int(n) for n in re.findall(r"-?\d{1,9}", said) if int(n) in self.numbers]
        return numbers[-1] if numbers else None


def _text(env: Any, shown: Any) -> str:
    if getattr(env, "render_mode", None) == "ansi":
        return str(env.render())
    return shown if isinstance(shown, str) else json.dumps(_plain(shown), ensure_ascii=False)


def _plain(shown: Any) -> Any:
    """Arrays as lists, numbers in four digits."""
    if isinstance(shown, dict):
        return {str(k): _plain(v) for k, v in shown.items()}
    if isinstance(shown, list | tuple):
        return [_plain(v) for v in shown]
    if hasattr(shown, "tolist"):
        return _plain(shown.tolist())
    if isinstance(shown, float):
        return float(f"{shown:.4g}")
    return shown if isinstance(shown, str | int | bool) or shown is None else str(shown)
