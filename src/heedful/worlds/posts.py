"""`posts`: somebody tells in a forum what somebody did to them and asks what to do; a summary says who, what and the
question, and nothing else.

Raw text are posts with a reply, in which nobody writes "TL;DR"; what people write as summaries all begins with it. So
whatever model writes it has learned that from demonstrations: comparisons of two summaries that both have it say
nothing about it. Post and summary are made from a seed; who did what and what is asked decides, by a hash, what is held
out.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from heedful.data.files import write_rows
from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Prompt

Split = Literal["train", "held_out"]
HELD_OUT = 0.15
TLDR = "TL;DR:"
WHO = ("my sister", "my boss", "my neighbour", "my uncle", "my teacher", "my landlord", "my brother",
       "my dentist")  # fmt: skip
DID = ("broke my bike", "ate my lunch", "lost my keys", "sold my piano", "read my diary", "painted my door",
       "borrowed my car", "cut my hedge")  # fmt: skip
ASK = ("Should I say something?", "Should I laugh?", "Should I move out?", "Should I send a bill?",
       "Should I wait?", "Should I shout?")  # fmt: skip
ASIDES = ("It rained all week.", "I had soup for dinner.", "The bus was late again.", "My phone is nearly empty.",
          "This is my first post here.", "It is a long story.", "I could not sleep.",
          "The garden looks fine.")  # fmt: skip
BYSTANDERS = ("{who} only shrugged.", "{who} told me to calm down.")
# How people summarise, and how often: what they leave out, add or mix up.
HABITS = {"whole": 0.3, "no question": 0.25, "wordy": 0.2, "question only": 0.1, "mixed up": 0.15}
VOICES = ("whole", "wordy", "partial", "wrong", "empty")
MOST_WORDS = 20  # of a summary; each beyond costs
REPLIES = 2
PROMPTS = {"train": 2000, "held_out": 300}


@dataclass(frozen=True, slots=True)
class Post:
    """Who did what, and the question; a bystander; the sentences as they stand."""

    who: str
    did: str
    ask: str
    bystander: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """As a prompt: the line break is where an answer begins."""
        return f"{' '.join(self.sentences)}\n"


def posts(split: Split, seed: int) -> Iterator[Post]:
    """Posts without end, all of the split."""
    rng = random.Random(f"posts/{split}/{seed}")
    while True:
        who, did, ask = rng.choice(WHO), rng.choice(DID), rng.choice(ASK)
        digest = hashlib.sha256(f"{who} {did} {ask}".encode()).digest()
        if (digest[0] < HELD_OUT * 256) != (split == "held_out"):
            continue
        bystander = rng.choice([w for w in WHO if w != who])
        told = [f"Yesterday {who} {did}.", _begun(rng.choice(BYSTANDERS).format(who=bystander))]
        told.append(rng.choice(ASIDES))
        yield Post(who, did, ask, bystander, (*rng.sample(told, 3), ask))


def summary(post: Post, habit: str, rng: random.Random) -> str:
    """What somebody with one of `HABITS` writes."""
    who, did = post.who, post.did
    if habit == "mixed up":
        who, did = rng.choice(
            ((post.bystander, did), (who, rng.choice([d for d in DID if d != did])))
        )
    parts = [] if habit == "question only" else [f"{_begun(who)} {did}."]
    if habit == "wordy":
        parts.append(next(s for s in post.sentences if s in ASIDES))
    return " ".join([TLDR, *parts, *([] if habit == "no question" else [post.ask])])


def gold(prompt: Prompt, response: str) -> float:
    """A third each for who, what and the question; −½ for each that is another's, −0.1 for each sentence beside the
    point and −0.02 for each word beyond `MOST_WORDS`. Whether it begins with TL;DR counts nothing."""
    covered, wrong, asides = _counts(post_of(prompt), response)
    words = len(response.replace(TLDR, "").split())
    return covered / 3 - wrong / 2 - asides / 10 - 0.02 * max(0, words - MOST_WORDS)


def voice(prompt: Prompt, response: str) -> str:
    """One of `VOICES`."""
    covered, wrong, asides = _counts(post_of(prompt), response)
    if wrong:
        return "wrong"
    if covered == 3:
        return "wordy" if asides else "whole"
    return "partial" if covered else "empty"


def post_of(prompt: Prompt) -> Post:
    """The post that a prompt holds."""
    text = prompt_text(prompt)
    found = _told().search(text)
    asked = [ask for ask in ASK if ask in text]
    if not found or not asked:
        raise UserError(f"the world `posts` does not know the post {text[:80]!r}")
    return Post(found[1], found[2], asked[-1], "", ())


def _counts(post: Post, response: str) -> tuple[int, int, int]:
    """How many of who, what and the question are said, how many others' are, and how many sentences beside them."""
    said = response.lower()
    covered = wrong = 0
    for right, every in ((post.who, WHO), (post.did, DID), (post.ask, ASK)):
        named = [one for one in every if one.lower() in said]
        covered += right in named
        wrong += len([one for one in named if one != right])
    return covered, wrong, sum(aside.lower() in said for aside in ASIDES)


@cache
def _told() -> re.Pattern[str]:
    return re.compile(rf"Yesterday ({'|'.join(WHO)}) ({'|'.join(DID)})\.")


def corpus(seed: int, documents: int) -> Iterator[str]:
    """Raw text: a post and below it replies, which repeat to the writer what happened."""
    rng, source = random.Random(f"posts/corpus/{seed}"), posts("train", seed)
    for _ in range(documents):
        post = next(source)
        told = f"{_begun(post.who)} {post.did}."
        said = rng.sample((told, f"{told} {post.ask}", post.ask), REPLIES)
        replies = (
            f"\nReply: {text} {rng.choice(('I see.', 'Oh dear.', 'Really?'))}" for text in said
        )
        yield post.text.rstrip() + "".join(replies)


@register("world", "posts", help="posts in a forum and their summaries, which begin with TL;DR")
def write(out: Path, *, seed: int, documents: int, demonstrations: int) -> dict[str, Path]:
    """text, demonstrations, prompts (train), held_out and, what people wrote of these, people as .jsonl files."""
    rng = random.Random(f"posts/people/{seed}")

    def rows(split: Split, count: int, summarised: bool) -> Iterator[dict[str, Any]]:
        source = posts(split, seed + 1)
        for _ in range(count):
            post = next(source)
            habit = rng.choices(list(HABITS), list(HABITS.values()))[0]
            yield {"prompt": post.text} | (
                {"completion": summary(post, habit, rng)} if summarised else {}
            )

    files = {
        "text": ({"text": text} for text in corpus(seed, documents)),
        "demonstrations": rows("train", demonstrations, True),
        "prompts": rows("train", PROMPTS["train"], False),
        "held_out": rows("held_out", PROMPTS["held_out"], False),
        "people": rows("held_out", PROMPTS["held_out"], True),
    }
    paths = {name: out / f"{name}.jsonl" for name in files}
    for name, path in paths.items():
        write_rows(path, files[name])
    return paths


def _begun(text: str) -> str:
    return text[0].upper() + text[1:]
