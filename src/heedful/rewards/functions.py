"""A function of the user's as a reward: what it is given is decided once, by the names of its parameters.

    score(prompt, response)                  one response at a time
    score(prompt, response, facts)           and the other columns of the prompt's row
    score(prompt, response, answer)          or one of those columns, by its name
    score(prompt, response, ended)           and whether the response ended by itself
    score(prompt, response, conversation)    and all that was said before it, in an episode more than the prompt
    score(prompt, responses)                 all responses to a prompt, → a list of numbers
    score(completions, prompts, **columns)   as TRL calls its reward functions

Each may be `async`, and may return None for a response that is none of its affair. Whatever is left, and has a
default, is an option: `--reward 'mypkg.mod:score(strict=true)'`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from heedful.data.sources import prompt_to_json
from heedful.errors import UserError
from heedful.remote.limits import Limits
from heedful.types import Facts, Group, Prompt, Reward
from heedful.waiting import all_of

# Names of parameters that are no columns. What is a list with a place for each response is one of them where the
# function is asked for one response at a time.
OF_RESPONSES = ("ended", "completion_ids", "conversation")
GIVEN = ("facts", "prefilled", "trainer_state", "log_metric", "log_extra", *OF_RESPONSES)
TRL = ("completions", "completion_ids", "prompts")

Values = Sequence[float | None]


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Of its signature; of a function without one (some are written in C) the two that every scorer has."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        kind = inspect.Parameter.POSITIONAL_ONLY
        return [inspect.Parameter(name, kind) for name in ("prompt", "response")]


def as_reward(
    function: Callable[..., Any], name: str, limits: Limits | None = None, **options: Any
) -> Reward:
    """A reward that calls `function`; `name` is for messages, `options` go to its parameters of these names.

    `limits` hold for a function that is awaited. The reward has a `check(prompt, facts)`, which tells what scoring a
    prompt's responses would refuse before there are any.
    """
    if isinstance(function, type):
        raise UserError(
            f"the reward '{name}' is a class: make one beside it, such as reward = {function.__name__}(…), "
            "and name that"
        )
    taken = [p for p in parameters(function) if p.name not in options]
    limits = limits or Limits()
    columns: list[str] = []
    if _is_trls(taken):
        columns = [
            p.name
            for p in taken
            if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        columns = [c for c in columns if c not in (*TRL, *GIVEN)]
        reward = _as_trl_has_it(function, name, taken, options, limits)
    else:
        reward, columns = _by_position(function, name, taken, options, limits)

    def check(prompt: Prompt, facts: Facts) -> None:
        for column in columns:
            _column(column, name, facts)
        getattr(function, "check", lambda prompt, facts: None)(prompt, facts)

    reward.check = check  # type: ignore[attr-defined]
    return reward


def _is_trls(taken: Sequence[inspect.Parameter]) -> bool:
    """Whether TRL could call it: everything by name, a list each."""
    names = {p.name for p in taken if p.kind is not p.POSITIONAL_ONLY}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in taken)
    own = [p for p in taken if p.kind is not p.VAR_KEYWORD and p.name not in GIVEN]
    if "completions" in names or ("prompts" in names and "responses" not in names):
        return True
    return (
        ("completion_ids" in names or takes_all)
        and (takes_all or len(own) < 2)
        and (not own or "completion_ids" in names)
    )


def _by_position(
    function: Callable[..., Any],
    name: str,
    taken: Sequence[inspect.Parameter],
    options: Mapping[str, Any],
    limits: Limits,
) -> tuple[Reward, list[str]]:
    """Prompt and response(s) in front, the rest by name; and the columns that it asks for."""
    named = [p for p in taken if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    first = [p for p in named if p.kind is not p.KEYWORD_ONLY and p.name not in GIVEN][:2]
    rest = [p for p in named if p not in first and (p.default is p.empty or p.name in GIVEN)]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in taken)
    if (len(first) < 2 and not takes_any) or any(p.kind is p.POSITIONAL_ONLY for p in rest):
        raise UserError(
            f"the reward '{name}' must take (prompt, response) or (prompt, responses), then facts, "
            f"ended or names of columns; it takes ({', '.join(p.name for p in taken)})"
        )
    wanted, told = [p.name for p in rest], f"the reward '{name}'"

    def given(group: Group, k: int | None = None) -> dict[str, Any]:
        values = {n: _given(n, name, group) for n in wanted}
        if k is not None:
            values |= {n: values[n][k] for n in OF_RESPONSES if n in values}
        return values | options

    async def whole(group: Group) -> Values:
        key = (name, options, group.prompt, list(group.responses), dict(group.facts))

        def ask(heard: Group) -> Any:
            return function(group.prompt, list(group.responses), **given(heard))

        return await _asked(limits, function, ask, group, key, told)

    async def each(group: Group) -> Values:
        async def one(k: int) -> float | None:
            key = (name, options, group.prompt, group.responses[k], dict(group.facts))

            def ask(heard: Group) -> Any:
                return function(group.prompt, group.responses[k], **given(heard, k))

            return await _asked(limits, function, ask, group, key, told)

        return await all_of(map(one, range(len(group.responses))))

    reward = whole if len(first) > 1 and first[1].name == "responses" else each
    return reward, [n for n in wanted if n not in GIVEN]


def _given(wanted: str, name: str, group: Group) -> Any:
    if wanted == "completion_ids":
        if group.tokens is None:
            raise UserError(
                f"the reward '{name}' asks for completion_ids, and the ids of these responses are not known; "
                "heedful sample writes them into the column `tokens`"
            )
        return [list(ids) for ids in group.tokens]
    if wanted == "conversation":
        return list(group.conversations or [group.prompt] * len(group.responses))
    if wanted == "trainer_state":
        return _trainer_state(*group.progress)
    if wanted in GIVEN:
        return list(group.ended) if wanted == "ended" else getattr(group, wanted)
    return _column(wanted, name, group.facts)


def _column(wanted: str, name: str, facts: Facts) -> Any:
    if wanted not in facts:
        raise UserError(
            f"the reward '{name}' asks for the column `{wanted}`, which a prompt's row has not; beside "
            f"the prompt it has {', '.join(facts) or 'nothing'} (a parameter `facts` gets them all)"
        )
    return facts[wanted]


def _trainer_state(done: int, of: int, epoch: float) -> Any:
    """What reward functions read of TRL's trainer: how far it is."""
    from transformers import TrainerState

    return TrainerState(global_step=done, max_steps=of, epoch=epoch)


def _as_trl_has_it(
    function: Callable[..., Any],
    name: str,
    taken: Sequence[inspect.Parameter],
    options: Mapping[str, Any],
    limits: Limits,
) -> Reward:
    """Everything by name, a list each: prompts, completions (messages where the prompt has some), columns.

    TRL calls it for a batch, here each prompt's responses are one call.
    """
    takes_all = any(p.kind is p.VAR_KEYWORD for p in taken)
    names = {p.name for p in taken}
    needed = {p.name for p in taken if p.default is p.empty}

    def asked(group: Group) -> dict[str, Any]:
        n = len(group.responses)
        texts: list[Any] = list(group.responses)
        if not isinstance(group.prompt, str):
            texts = [[{"role": "assistant", "content": text}] for text in group.responses]
        lists = {c: [v] * n for c, v in group.facts.items() if c not in TRL}
        lists |= {"prompts": [prompt_to_json(group.prompt) for _ in range(n)], "completions": texts}
        for own in ("completion_ids", "trainer_state", "log_metric", "log_extra"):
            unknown = own == "completion_ids" and group.tokens is None and own not in needed
            if (own in names or takes_all) and not unknown:
                lists[own] = _given(own, name, group)
        return {c: v for c, v in lists.items() if takes_all or c in names} | dict(options)

    async def reward(group: Group) -> Values:
        key = (name, options, group.prompt, list(group.responses), dict(group.facts))

        def ask(heard: Group) -> Any:
            return function(**asked(heard))

        return await _asked(limits, function, ask, group, key, f"the reward '{name}'")

    return reward


async def _asked(
    limits: Limits,
    function: Callable[..., Any],
    ask: Callable[[Group], Any],
    group: Group,
    key: Any,
    told: str,
) -> Any:
    """What `ask` returns. What it logs meanwhile is kept with the answer, and logged again where that is found."""
    logs: list[tuple[str, str, Any]] = []
    heard = replace(
        group,
        log_metric=lambda name, value: logs.append(("log_metric", name, float(value))),
        log_extra=lambda column, values: logs.append(("log_extra", column, list(values))),
    )
    of = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    answer = await limits.awaited(
        lambda: ask(heard),
        key,
        told,
        of=of,
        kept=lambda value: {"value": value, "logged": logs} if logs else value,
    )
    if not isinstance(answer, dict) or "logged" not in answer:
        return answer
    for method, name, value in answer["logged"]:
        getattr(group, method)(name, value)
    return answer["value"]
