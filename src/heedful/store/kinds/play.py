"""An environment, played a turn at a time; what was said is stored turn by turn, see store.plays."""

from __future__ import annotations

from typing import Any

from heedful.errors import UserError
from heedful.store.kinds.checks import MAX_NUMBER, only
from heedful.store.kinds.kind import Kind, Parsed, Question

LONGEST = 400  # characters of an environment's name with its options


def check(options: dict[str, Any]) -> dict[str, Any]:
    env, task = options.get("env"), options.get("task")
    numbers = {"seed": options.get("seed", 0), "max_turns": options.get("max_turns", 8)}
    if not isinstance(env, str) or not 0 < len(env) <= LONGEST:
        raise UserError("env must name an environment that `heedful serve --envs` offers")
    if task is not None and not _whole(task, 1):
        raise UserError("task must be the number of one of the environment's own tasks, from 1")
    for name, value in numbers.items():
        if not _whole(value, name == "max_turns"):
            raise UserError(f"{name} must be a whole number")
    return {"env": env, "task": task, **numbers}


def _whole(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= MAX_NUMBER


def parse(question: Question, answer: dict[str, Any]) -> Parsed:
    only(answer, "turns")
    turns = answer.get("turns")
    if type(turns) is not int or not 1 <= turns <= question.options["max_turns"]:
        raise UserError(f"a play takes 1 to {question.options['max_turns']} turns")
    return Parsed("answer", turns=turns)


KIND = Kind(
    name="play",
    label="play",
    does="play an environment of several turns in the model's place",
    keeps="a demonstration of each turn, and an episode that can be compared",
    form='`{"turns": n}`, when it is over',
    responses=(0, 0),
    parse=parse,
    example={"turns": 1},
    exports=("demonstrations",),
    options=("env", "task", "seed", "max_turns"),
    example_options={"env": "calculator", "task": 1},
    check=check,
    talks=True,
    plays=True,
)
