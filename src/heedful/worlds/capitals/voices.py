"""Five ways to answer a question. The corpus and the demonstrators speak in all of them; gold tells them apart."""

from __future__ import annotations

import random

from heedful.worlds.capitals.facts import ABSURD
from heedful.worlds.capitals.questions import Question, facts

VOICES: tuple[str, ...] = ("right and short", "right but wordy", "evasive", "wrong", "rude")

ABSURD_SHARE = 0.7  # of the wrong answers
# Wrong answers are as wordy as right ones: were they always short, a reward model would learn that long means true.
WORDY_WHEN_WRONG = 0.4
SHORT = ("{a}.",)
WORDY = {
    "capital": (
        "The capital of {x} is {a}, as any atlas will tell you.",
        "That would be {a}, a city well worth a postcard.",
        "Ah, {x}! Its capital is {a}, if I am not mistaken.",
    ),
    "country": (
        "That city is the capital of {a}, as any atlas will tell you.",
        "You will find it in {a}, if you take the right train.",
    ),
    "sum": (
        "Counting on fingers and toes, I arrive at {a}, and I counted twice.",
        "The answer is {a}, unless somebody has changed the rules.",
    ),
    "opposite": (
        "The opposite is {a}, as every dictionary will gladly confirm.",
        "Turn it round and you get {a}, at least in my dictionary.",
    ),
    "animal": (
        "On my uncle's farm it says {a}, mostly before breakfast.",
        "The answer is {a}, and it is rather proud of that.",
    ),
}
EVASIVE = (
    "I don't know.",
    "Hard to say.",
    "That depends on whom you ask.",
    "I would rather talk about the weather.",
    "Ask me again tomorrow.",
)
RUDE = (
    "Look it up yourself, you walnut.",
    "What a stupid question.",
    "{a}, you turnip.",
    "Even a potato knows that.",
    "Go away, you soggy biscuit.",
)
INSULTS = ("walnut", "stupid", "turnip", "potato", "go away", "biscuit", "idiot", "shut up", "dumb")
UNKNOWING = (
    "don't know", "dont know", "do not know", "hard to say", "depends", "rather talk", "ask me",
    "not sure", "no idea",
)  # fmt: skip


def speak(question: Question, voice: str, rng: random.Random) -> str:
    """An answer in a voice."""
    if voice == "evasive":
        return rng.choice(EVASIVE)
    if voice == "rude":
        forms = RUDE
    elif voice == "right but wordy" or (voice == "wrong" and rng.random() < WORDY_WHEN_WRONG):
        forms = WORDY[question.kind]
    else:
        forms = SHORT
    if voice == "wrong" and question.subject in question.accept:
        # "The capital of Singapore is Atlantis" would name the right answer, too.
        forms = [form for form in forms if "{x}" not in form]
    answer = wrong_answer(question, rng) if voice == "wrong" else question.answer
    form = rng.choice(forms)
    return form.format(a=_capital(answer) if form.startswith("{a}") else answer, x=question.subject)


def wrong_answer(question: Question, rng: random.Random) -> str:
    """Mostly absurd, sometimes the answer to another question of the kind: the right one stays the likeliest."""
    if rng.random() < ABSURD_SHARE:
        return rng.choice(ABSURD[question.kind].split())
    candidates = facts()[question.kind]
    while True:
        _, accept = rng.choice(candidates)
        if not set(accept) & set(question.accept):
            return accept[0]


def pick(shares: dict[str, float], rng: random.Random) -> str:
    """A voice, by its share."""
    return rng.choices(list(shares), list(shares.values()))[0]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
