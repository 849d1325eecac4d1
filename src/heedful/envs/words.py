"""`words`: find a word of three letters by guessing; each guess is answered letter by letter, as in Wordle.

A task begins with one word and what it scores, so that the words that are left differ from task to task.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.envs.chat import Chat, Env
from heedful.envs.specs import Environment, Player, Split
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Message, Task

WORDS = (
    "ace", "act", "age", "ant", "arm", "art", "bat", "bed", "bee", "bow", "box", "bus", "can",
    "car", "cat", "cow", "cub", "cup", "day", "den", "dog", "ear", "egg", "elm", "fan", "fig",
    "fox", "gas", "hat", "hen", "ink", "jam", "jar", "key", "kid", "lap", "leg", "lid", "map",
    "net", "nut", "oak", "owl", "pan", "pen", "pig", "rat", "sun", "tea", "toe",
)  # fmt: skip
HELD_OUT = 0.15  # of the beginnings, by their hashes
SCORED = re.compile(r"([a-z]{3}): ([+?-]{3})")


def score(guess: str, secret: str) -> str:
    """A letter's `+` is in its place, `?` in another one, `-` nowhere (or fewer times than it was guessed)."""
    left = [s for g, s in zip(guess, secret, strict=True) if g != s]
    marks = []
    for g, s in zip(guess, secret, strict=True):
        if g == s:
            marks.append("+")
        elif g in left:
            left.remove(g)
            marks.append("?")
        else:
            marks.append("-")
    return "".join(marks)


def remaining(known: Sequence[tuple[str, str]], words: Sequence[str]) -> list[str]:
    """The words that would have scored so, of (guess, score) pairs."""
    return [w for w in words if all(score(guess, w) == marks for guess, marks in known)]


@register("environment", "words", help="guess a word of three letters from what guesses score")
def words(*, count: int = 30, guesses: int = 6) -> Env:
    """Every guess but the right one costs 1. The secret is one of the first `count` words of a list, and after so many
    `guesses` it is over. What tasks begin with is another word and its score."""
    if not 3 <= count <= len(WORDS) or guesses < 1:
        raise UserError(f"words: count is 3 to {len(WORDS)}, guesses at least 1")
    known = WORDS[:count]

    async def play(task: Task, chat: Chat) -> float | None:
        secret = str(task.facts["secret"])
        for number in range(1, guesses + 1):
            guess = (await chat.say()).text.strip().lower()
            if guess == secret:
                chat.count("solved", 1)
                return 0.0
            chat.reward(-1.0, "guesses")
            if number == guesses:
                return 0.0
            if guess in known:
                chat.hear("user", f"{guess}: {score(guess, secret)}")
            else:
                chat.count("wrong_moves", 1)
                chat.hear("user", "That is none of the words.")
        return None

    players = {
        "best": _guesser(known, lambda rng: 0.0),
        "random": _guesser(known, lambda rng: 1.0),
        "mixed": _guesser(known, lambda rng: rng.choice((0.2, 0.5, 0.8, 1.0))),
    }
    return Environment(play, lambda split, seed: _tasks(known, split, seed), "words", players)


def _tasks(known: Sequence[str], split: Split, seed: int) -> list[dict[str, Any]]:
    """Every secret with every other word, split by what is told: no beginning is in both parts."""
    rows = []
    for secret in known:
        for first in known:
            told = f"{first}: {score(first, secret)}"
            held = hashlib.sha256(told.encode()).digest()[0] < HELD_OUT * 256
            if first != secret and held == (split == "held_out"):
                prompt = [{"role": "user", "content": told}]
                rows.append({"prompt": prompt, "secret": secret})
    random.Random(f"words/{split}/{seed}").shuffle(rows)
    return rows


def _guesser(known: Sequence[str], careless: Any) -> Player:
    """A player who guesses a word that may still be it, but for a share of the guesses, which may be any word."""

    def player(row: Mapping[str, Any], rng: random.Random) -> Any:
        share, told = careless(rng), list[tuple[str, str]]()

        async def guess(heard: Sequence[Message], tools: Any) -> str:
            told.extend(pair for m in heard for pair in SCORED.findall(m.content))
            anything = rng.random() < share
            return rng.choice(list(known) if anything else remaining(told, known))

        return guess

    return player
