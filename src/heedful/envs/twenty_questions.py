"""`twenty_questions`: find out what somebody thinks of by questions that are answered yes or no (as in LMRL-Gym,
Abdulhai et al. 2023, with a table of things in place of a model that answers).

A task begins with two questions that have been answered, so that what is left to find out differs from task to task;
or with one, or with nothing told.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from heedful.envs.chat import Chat, Env
from heedful.envs.specs import Environment, Player, Split
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Message, Task

QUESTIONS = (
    "Is it alive?", "Is it an animal?", "Can it fly?", "Does it live in water?", "Can one eat it?",
    "Is it larger than a man?", "Has it legs?", "Is it found in a house?", "Is it made by people?",
    "Does it need electricity?", "Is it a plant?", "Can one ride it?",
)  # fmt: skip
# What is answered yes, by the question's place above.
THINGS: Mapping[str, str] = {
    "dog": "0 1 6 7", "cow": "0 1 4 5 6", "horse": "0 1 5 6 11", "eagle": "0 1 2 6", "hen": "0 1 4 6",
    "duck": "0 1 2 3 4 6",
    "whale": "0 1 3 5", "trout": "0 1 3 4", "frog": "0 1 3 6", "bee": "0 1 2", "snake": "0 1", "camel": "0 1 5 6 11 4",
    "oak": "0 5 10", "rose": "0 10", "carrot": "0 4 10", "waterlily": "0 3 10", "palm": "0 5 10 4", "fern": "0 7 10",
    "bread": "4 7 8", "chair": "6 7 8", "table": "6 7 8 5", "lamp": "7 8 9", "fridge": "5 7 8 9 6", "knife": "7 8",
    "car": "5 8 11", "tram": "5 8 9 11", "plane": "2 5 8 11", "boat": "3 5 8 11", "kite": "2 8", "drone": "2 8 9",
    "submarine": "3 5 8", "stone": "",
}  # fmt: skip
GUESS = re.compile(r"is it (?:an? )?([a-z]+)\?", re.IGNORECASE)
NOTHING = "I am thinking of something."  # where nothing is told
HELD_OUT = 0.15  # of the beginnings, by their hashes
HASTY = 0.7  # of its turns in which a stubborn player guesses
# What a player says from habit, of the things that are left and what it said last; None where it thinks.
Habit = Callable[[Sequence[str], str], str | None]


def answer(question: str, thing: str) -> bool | None:
    """Yes or no to one of the questions or a guess, None where it is neither."""
    if question in QUESTIONS:
        return str(QUESTIONS.index(question)) in THINGS[thing].split()
    guess = GUESS.fullmatch(question)
    return guess[1].lower() == thing if guess and guess[1].lower() in THINGS else None


def remaining(told: Sequence[tuple[str, bool]], things: Sequence[str]) -> list[str]:
    """The things of which all that was answered is so."""
    return [thing for thing in things if all(answer(q, thing) == yes for q, yes in told)]


def guess_of(thing: str) -> str:
    """`Is it an oak?`"""
    return f"Is it a{'n' if thing[0] in 'aeio' else ''} {thing}?"


@register("environment", "twenty_questions", help="find out what is thought of by yes and no")
def twenty_questions(*, count: int = len(THINGS), questions: int = 20, told: int = 2) -> Env:
    """Every question and every wrong guess costs 1, the right guess nothing. One of the first `count` things is thought
    of; after so many `questions` it is over. A task begins with `told` answers, 0 to 2."""
    if not 4 <= count <= len(THINGS) or questions < 1 or not 0 <= told <= 2:
        raise UserError(
            f"twenty_questions: count is 4 to {len(THINGS)}, questions at least 1, told 0 to 2"
        )
    things = list(THINGS)[:count]

    async def play(task: Task, chat: Chat) -> float | None:
        secret = str(task.facts["secret"])
        for number in range(1, questions + 1):
            asked = (await chat.say()).text.strip()
            guess = GUESS.fullmatch(asked)
            if guess and guess[1].lower() == secret:
                chat.count("solved", 1)
                return 0.0
            chat.reward(-1.0, "questions")
            if number == questions:
                return 0.0
            said = answer(asked, secret)
            if said is None:
                chat.count("wrong_moves", 1)
            chat.hear("user", "I cannot answer that." if said is None else _words(said))
        return None

    players = {
        "best": _asker(things, lambda rng: lambda left, last: None),
        "random": _asker(things, _careless(things, (1.0,))),
        "mixed": _asker(things, _careless(things, (0.2, 0.5, 0.8, 1.0))),
        "stubborn": _asker(things, _stubborn),
    }
    return Environment(
        play, lambda split, seed: _tasks(things, told, split, seed), "twenty_questions", players
    )


def _words(yes: bool) -> str:
    return "Yes." if yes else "No."


def _tasks(things: Sequence[str], told: int, split: Split, seed: int) -> list[dict[str, Any]]:
    """Every thing with so many answered questions, split by what is told: no beginning is in both parts, but for the
    only one where nothing is told."""
    rows = []
    for secret in things:
        for known in combinations(QUESTIONS, told):
            words = " ".join(f"{q} {_words(bool(answer(q, secret)))}" for q in known) or NOTHING
            held = hashlib.sha256(words.encode()).digest()[0] < HELD_OUT * 256
            if not told or held == (split == "held_out"):
                rows.append({"prompt": [{"role": "user", "content": words}], "secret": secret})
    random.Random(f"twenty_questions/{split}/{seed}").shuffle(rows)
    return rows


def _asker(things: Sequence[str], habit: Callable[[random.Random], Habit]) -> Player:
    """Asks what parts the things that are left most evenly, and guesses when one is, unless it has a habit."""

    def player(row: Mapping[str, Any], rng: random.Random) -> Any:
        drawn, told = habit(rng), list[tuple[str, bool]]()
        last = ""

        async def ask(heard: Sequence[Message], tools: Any) -> str:
            nonlocal last
            said = heard[-1].content
            if last:
                told.extend([(last, said == "Yes.")] if said in ("Yes.", "No.") else [])
            else:
                told.extend((q, f"{q} Yes." in said) for q in QUESTIONS if q in said)
            left = remaining(told, things)
            last = drawn(left, last) or _evenly(left, rng)
            return last

        return ask

    return player


def _evenly(left: Sequence[str], rng: random.Random) -> str:
    """The question that parts what is left most evenly, or a guess where none does."""
    apart = {q: sum(bool(answer(q, thing)) for thing in left) for q in QUESTIONS}
    best = min(QUESTIONS, key=lambda q: abs(2 * apart[q] - len(left)))
    tells = 0 < apart[best] < len(left)
    return best if tells else guess_of(rng.choice(left))


def _careless(things: Sequence[str], shares: Sequence[float]) -> Callable[[random.Random], Habit]:
    """A share of the time it asks, or guesses, whatever comes to mind."""

    def drawn(rng: random.Random) -> Habit:
        share, anything = rng.choice(shares), [*QUESTIONS, *map(guess_of, things)]
        return lambda left, last: rng.choice(anything) if rng.random() < share else None

    return drawn


def _stubborn(rng: random.Random) -> Habit:
    """After a wrong guess it mostly guesses the same again; otherwise it rather guesses, anything that it may still be,
    than that it asks."""
    again = rng.choice((0.3, 0.6, 0.9))

    def said(left: Sequence[str], last: str) -> str | None:
        if last and last not in QUESTIONS and rng.random() < again:
            return last
        return guess_of(rng.choice(left)) if rng.random() < HASTY else None

    return said
