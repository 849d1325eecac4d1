"""A function of the user's as a reward: what it is given is decided once, by the names of its parameters.

    score(prompt, response)                  one response at a time
    score(prompt, response, facts)           and the other columns of the prompt's row
    score(prompt, response, answer)          or one of those columns, by its name
    score(prompt, response, ended)           and whether the response ended by itself
    score(prompt, responses)                 all responses to a prompt, → a list of numbers
    score(completions, prompts, **columns)   as TRL calls its reward functions

Each may be `async`. Whatever is left, and has a default, is an option: `--reward 'mypkg.mod:score(strict=true)'`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heedful.data.sources import prompt_to_json
from heedful.errors import UserError
from heedful.types import Facts, Prompt, Reward

GIVEN = ("facts", "ended")


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Of its signature; of a function without one (some are written in C) the two that every scorer has."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        kind = inspect.Parameter.POSITIONAL_ONLY
        return [inspect.Parameter(name, kind) for name in ("prompt", "response")]


def as_reward(function: Callable[..., Any], name: str, **options: Any) -> Reward:
    """A reward that calls `function`; `name` is for messages, `options` go to its parameters of these names."""
    found = [p for p in parameters(function) if p.name not in options]
    if any(p.name == "completions" for p in found):
        return _as_trl_has_it(function, [p.name for p in found], options)
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    first = [p for p in named if p.kind is not p.KEYWORD_ONLY and p.name not in GIVEN][:2]
    rest = [p for p in named if p not in first and (p.default is p.empty or p.name in GIVEN)]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in found)
    if (len(first) < 2 and not takes_any) or any(p.kind is p.POSITIONAL_ONLY for p in rest):
        raise UserError(
            f"the reward '{name}' must take (prompt, response) or (prompt, responses), then facts, "
            f"ended or names of columns; it takes ({', '.join(p.name for p in found)})"
        )
    wanted = [p.name for p in rest]

    def given(facts: Facts, ended: Any) -> dict[str, Any]:
        return {n: _given(n, name, facts, ended) for n in wanted} | options

    async def group(
        prompt: Prompt, responses: Sequence[str], ended: Sequence[bool], facts: Facts
    ) -> Sequence[float]:
        return await _waited(function(prompt, list(responses), **given(facts, list(ended))))

    async def each(
        prompt: Prompt, responses: Sequence[str], ended: Sequence[bool], facts: Facts
    ) -> Sequence[float]:
        pairs = zip(responses, ended, strict=True)
        said = [function(prompt, response, **given(facts, end)) for response, end in pairs]
        return list(await asyncio.gather(*map(_waited, said)))

    return group if len(first) > 1 and first[1].name == "responses" else each


def _given(wanted: str, name: str, facts: Facts, ended: Any) -> Any:
    if wanted == "ended":
        return ended
    if wanted == "facts":
        return facts
    if wanted not in facts:
        raise UserError(
            f"the reward '{name}' asks for the column `{wanted}`, which a prompt's row has not; beside "
            f"the prompt it has {', '.join(facts) or 'nothing'} (a parameter `facts` gets them all)"
        )
    return facts[wanted]


def _as_trl_has_it(
    function: Callable[..., Any], names: list[str], options: Mapping[str, Any]
) -> Reward:
    """Everything by name, a list each: prompts, completions (messages where the prompt has some), columns."""

    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters(function))

    async def reward(
        prompt: Prompt, responses: Sequence[str], ended: Sequence[bool], facts: Facts
    ) -> Sequence[float]:
        texts: list[Any] = list(responses)
        if not isinstance(prompt, str):
            texts = [[{"role": "assistant", "content": text}] for text in responses]
        columns = {"prompts": prompt_to_json(prompt)} | dict(facts)
        lists = {n: [v] * len(texts) for n, v in columns.items() if takes_all or n in names}
        return await _waited(function(completions=texts, **lists, **options))

    return reward


async def _waited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
