"""Facts × phrasings = questions; a hash of the wording decides, for ever, which are held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from heedful.errors import UserError
from heedful.types import Message, Prompt
from heedful.worlds.capitals.facts import ANIMALS, OPPOSITES, countries, word_pairs

Split = Literal["train", "held_out"]
HELD_OUT = 0.15
LARGEST = 6  # of the two numbers of a sum
BACKWARDS = ("Europe", "South America")  # whose capitals are asked the other way round, too

PHRASINGS = {
    "capital": (
        "What is the capital of {x}?",
        "Which city is the capital of {x}?",
        "Name the capital of {x}.",
        "What's the capital city of {x}?",
        "Can you tell me the capital of {x}?",
        "From which city is {x} governed?",
        "Quick, the capital of {x}?",
        "I bet you don't know the capital of {x}.",
        "Where does the government of {x} sit?",
        "Please remind me of the capital of {x}.",
        "Where would I find the parliament of {x}?",
        "For a hundred points: the capital of {x}?",
    ),
    "country": (
        "{x} is the capital of which country?",
        "Of which country is {x} the capital?",
        "Which country has {x} as its capital?",
        "In which country is {x} the capital?",
    ),
    "sum": (
        "What is {x}?",
        "How much is {x}?",
        "Can you work out {x}?",
        "My homework says {x}. What is it?",
    ),
    "opposite": (
        "What is the opposite of {x}?",
        "Give me the opposite of {x}.",
        "What's the reverse of {x}?",
        "Which word is the opposite of {x}?",
    ),
    "animal": (
        "What does a {x} say?",
        "Which sound does a {x} make?",
        "How does a {x} go?",
    ),
}


@dataclass(frozen=True, slots=True)
class Question:
    """`answer` is the main one; all of `accept` are right."""

    text: str
    kind: str
    subject: str
    answer: str
    accept: tuple[str, ...]

    @property
    def split(self) -> Split:
        digest = hashlib.sha256(self.text.encode()).digest()
        return "held_out" if digest[0] < HELD_OUT * 256 else "train"


@cache
def facts() -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """kind → (subject, accepted answers)."""
    nations = countries()
    numbers = range(LARGEST + 1)
    opposites = [pair for a, b in word_pairs(OPPOSITES) for pair in ((a, b), (b, a))]
    return {
        "capital": [(country, capitals) for country, capitals, _ in nations],
        "country": [
            (capitals[0], (bare(country), country))
            for country, capitals, continent in nations
            if continent in BACKWARDS
        ],
        "sum": [(f"{a} + {b}", (str(a + b),)) for a in numbers for b in numbers],
        "opposite": [(a, (b,)) for a, b in opposites],
        "animal": [(animal, (sound,)) for animal, sound in word_pairs(ANIMALS)],
    }


@cache
def all_questions() -> dict[str, Question]:
    """Every question there is, by its text."""
    by_text = {}
    for kind, subjects in facts().items():
        for subject, accept in subjects:
            for phrasing in PHRASINGS[kind]:
                text = phrasing.format(x=subject)
                text = text[0].upper() + text[1:]
                by_text[text] = Question(text, kind, subject, accept[0], accept)
    return by_text


def questions(split: Split) -> list[Question]:
    """All questions of a split; those held out are wordings of facts that the corpus states in other words."""
    return [q for q in all_questions().values() if q.split == split]


def question_of(prompt: Prompt) -> Question:
    """The question that a prompt asks: the last turn of a conversation, or plain text that ends with a line break."""
    text = prompt if isinstance(prompt, str) else prompt[-1].content
    question = all_questions().get(text.strip())
    if question is None:
        raise UserError(f"the world `capitals` does not know the question {text[:80]!r}")
    return question


def as_chat(question: Question) -> Prompt:
    """A question as a user asks it."""
    return (Message("user", question.text),)


def bare(country: str) -> str:
    """`the Gambia` → `Gambia`."""
    return country.removeprefix("the ")
