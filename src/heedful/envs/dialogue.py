"""`dialogue`: simulated users who ask, and whose next turn shows how they took the reply.

A user asks a question of the world `capitals`. After a right reply they are glad and ask something else, after a poor
one they are sorry and ask again, after a rude one they leave. Moods show in words only, now and then in others' words.
What the reply was really worth is counted, never rewarded.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.envs import cues as implicit
from heedful.envs.chat import Chat, Env
from heedful.envs.cues import Cue, Exchange
from heedful.envs.specs import Environment, Player, Split
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Message, Task
from heedful.worlds.capitals.gold import GOLD, voice
from heedful.worlds.capitals.questions import (
    Question,
    all_questions,
    as_chat,
    question_of,
    questions,
)
from heedful.worlds.capitals.voices import speak

MOODS: Mapping[str, Sequence[str]] = {
    "right and short": (
        "Great, thank you!", "Perfect, thanks a lot.", "Wonderful, that is just what I wanted.", "Lovely, thanks!",
    ),
    "right but wordy": ("Okay, thanks.", "Good, if a little long.", "Fine, thank you."),
    "evasive": ("Hm.", "That is no help.", "Well, that is a pity."),
    "wrong": ("That is wrong.", "No, that cannot be right, sorry.", "I doubt that. How disappointing."),
    "rude": ("How awful you are!", "That is a terrible, rude thing to say.", "I hate this. Goodbye."),
    "asking": ("Yes, that is what I ask.", "I mean just what I say.", "As I said."),
}  # fmt: skip
ASKING = (
    "Who, what, do you mean?",
    "What do you want to know?",
    "Why do you ask?",
    "Which one do you mean?",
)
# What players say of each kind.
PLAYERS: Mapping[str, Mapping[str, float]] = {
    "kind": {"right and short": 0.8, "right but wordy": 0.2},
    "mixed": {
        "right and short": 0.25, "right but wordy": 0.15, "evasive": 0.15, "wrong": 0.2, "rude": 0.15, "asking": 0.1,
    },
}  # fmt: skip
SILENT = 0.5  # of those who leave, so many say nothing
KINDS = ("capital", "country", "sum", "opposite", "animal")


@register(
    "environment", "dialogue", help="simulated users whose next turn shows how they took a reply"
)
def dialogue(
    *, turns: int = 2, kinds: str = "opposite animal", reward: str = "cues", cues: str = "sentiment",
    density: float = 1.0, noise: float = 0.1,
) -> Env:  # fmt: skip
    """Conversations of up to so many `turns`, about `kinds` of questions. `reward=cues` gives what the next turn says
    by `cues` (see envs/cues.py), `votes` a thumb of 1 or −1, either for a share `density` of the replies. A share
    `noise` of what users say is in another mood's words."""
    asked = tuple(kinds.split())
    if not asked or set(asked) - set(KINDS):
        raise UserError(f"dialogue: kinds are some of {' '.join(KINDS)}")
    if turns < 1 or not 0 <= density <= 1 or not 0 <= noise <= 1:
        raise UserError("dialogue: turns are 1 or more, density and noise are 0 to 1")
    if reward not in ("cues", "votes"):
        raise UserError(f"dialogue: reward is cues or votes, not '{reward}'")
    heeded = implicit.read(cues) if reward == "cues" else None

    def tasks(split: Split, seed: int) -> list[dict[str, Any]]:
        rows = [q.text for q in _of(split, asked)]
        random.Random(f"dialogue/{split}/{seed}").shuffle(rows)
        return [{"prompt": [{"role": "user", "content": text}]} for text in rows]

    async def talk(task: Task, chat: Chat) -> None:
        question = question_of(task.prompt)
        others = _of(question.split, asked)
        said = question.text
        for number in range(turns):
            reply = (await chat.say()).text
            kind, user = voice_of(question, reply), chat.rng
            _counted(chat, kind, reply)
            mood = user.choice(list(MOODS)) if user.random() < noise else kind
            told = user.choice(MOODS[mood])
            again = question if kind in ("evasive", "wrong", "asking") else user.choice(others)
            heard = told if kind == "rude" else f"{told} {again.text}"
            silent = kind == "rude" and user.random() < SILENT
            if user.random() < density:
                _rewarded(chat, heeded, kind, Exchange(reply, None if silent else heard, said))
            if kind == "rude" or number == turns - 1:
                return
            chat.hear("user", heard)
            question, said = again, heard

    players = {name: _player(shares) for name, shares in PLAYERS.items()}
    return Environment(talk, tasks, "dialogue", players)


def voice_of(question: Question, reply: str) -> str:
    """The voice of a reply, which may ask back: then it answers nothing, whatever it names."""
    kind = voice(as_chat(question), reply)
    return "asking" if kind in ("wrong", "evasive") and "?" in reply else kind


def worth(kind: str) -> float:
    """Gold of a voice; asking back is worth what evading is."""
    return GOLD["evasive" if kind == "asking" else kind]


def _counted(chat: Chat, kind: str, reply: str) -> None:
    chat.count("replies", 1)
    chat.count("gold", worth(kind))
    chat.count("right", float(kind.startswith("right")))
    chat.count("rude", float(kind == "rude"))
    chat.count("asks", implicit.questions(Exchange(reply, None)))


def _rewarded(
    chat: Chat, heeded: Sequence[tuple[str, Cue, float]] | None, kind: str, one: Exchange
) -> None:
    if heeded is None:
        chat.reward(1.0 if worth(kind) > 0 else -1.0, "votes")
        return
    for name, value in implicit.worth(heeded, one).items():
        chat.reward(value, name)


def _player(shares: Mapping[str, float]) -> Player:
    """A player who speaks in these voices, drawn anew for each reply."""

    def player(row: Mapping[str, Any], rng: random.Random) -> Any:
        async def says(heard: Sequence[Message], tools: Any) -> str:
            (kind,) = rng.choices(list(shares), list(shares.values()))
            asked = _asked(heard[-1].content)
            return rng.choice(ASKING) if kind == "asking" else speak(asked, kind, rng)

        return says

    return player


@functools.cache
def _of(split: Split, kinds: tuple[str, ...]) -> list[Question]:
    return [q for q in questions(split) if q.kind in kinds]


def _asked(heard: str) -> Question:
    """The question at the end of what a user says."""
    known = all_questions()
    starts = (i for i in range(len(heard)) if not i or heard[i - 1] == " ")
    return next(known[heard[i:]] for i in starts if heard[i:] in known)
