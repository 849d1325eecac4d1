"""`lookup`: questions about people whom only a database knows, made from a seed."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from heedful.envs.chat import Env, Reply
from heedful.envs.specs import Environment, Split
from heedful.envs.tools import ToolError, tool_env
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Task

FIRST = ("Ada", "Bo", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jun", "Kai", "Lea", "Mia", "Ned", "Ola",
         "Pia", "Rex", "Sam", "Tea", "Uma")  # fmt: skip
LAST = ("Abel", "Bloom", "Cook", "Dahl", "Egan", "Frost", "Gray", "Holm", "Ito", "Jones", "Klein", "Lund", "Moss",
        "North", "Oak", "Park", "Reed", "Stone", "Tate", "Wood")  # fmt: skip
VALUES = {
    "city": ("Oslo", "Lima", "Rome", "Cairo", "Paris", "Quito", "Seoul", "Delhi", "Tunis", "Bern", "Accra", "Hanoi",
             "Dublin", "Madrid", "Tokyo", "Kyiv"),
    "job": ("baker", "pilot", "nurse", "judge", "farmer", "singer", "tailor", "miner", "cook", "clerk", "poet",
            "coach", "guard", "barber", "potter", "driver"),
    "pet": ("cat", "dog", "owl", "goat", "horse", "snail", "parrot", "rabbit", "turtle", "ferret", "canary", "duck",
            "mouse", "crab", "lizard", "pony"),
}  # fmt: skip
QUESTIONS = {
    "city": "Where does {name} live?",
    "job": "What is the job of {name}?",
    "pet": "Which pet does {name} have?",
}
HELD_OUT = 0.2  # of the people, by the hashes of their names


def people(seed: int) -> dict[str, dict[str, str]]:
    """The database: every name, and what is so of it."""
    rng = random.Random(f"lookup/{seed}")
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    return {name: {field: rng.choice(of) for field, of in VALUES.items()} for name in names}


def right(task: Task, reply: Reply) -> float:
    """1 if the answer names the right value of its field and no other one."""
    said = {word.strip(".,!?:;'\"") for word in reply.text.split()}
    return float(said & set(VALUES[task.facts["field"]]) == {task.facts["answer"]})


@register("environment", "lookup", help="questions that a database of people answers")
def lookup(*, world: int = 0, fields: str = "city job pet", tool: bool = True) -> Env:
    """Tasks such as `Where does Ada Abel live?`; people of the held-out tasks are in no other. `world` is the seed of
    the database, `fields` are what is asked; `tool=false` takes the database away."""
    asked = fields.split()
    if not asked or set(asked) - set(VALUES):
        raise UserError(f"lookup: fields are some of {' '.join(VALUES)}")
    known = people(world)

    def look_up(name: str, field: str) -> str:
        """Looks up a person.

        Args:
            name: first and last name
            field: city, job or pet
        """
        if name not in known:
            raise ToolError(f"nobody is called '{name[:40]}'")
        if field not in VALUES:
            raise ToolError(f"there is no field '{field[:40]}', only {', '.join(VALUES)}")
        return known[name][field]

    def tasks(split: Split, seed: int) -> list[dict[str, Any]]:
        rows = [
            {"prompt": [{"role": "user", "content": QUESTIONS[field].format(name=name)}],
             "name": name, "field": field, "answer": values[field]}
            for name, values in known.items() if _held_out(name) == (split == "held_out")
            for field in asked
        ]  # fmt: skip
        random.Random(f"lookup/{split}/{seed}").shuffle(rows)
        return rows

    return Environment(tool_env(*([look_up] if tool else []), score=right), tasks, "lookup")


def _held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] < HELD_OUT * 256
