"""`encyclopedia`: people and towns that nobody has heard of, a page about each, and questions with one right answer.

All is made from a seed. An answer stands in one sentence of one page, at the end of a `path` of relations from what is
asked about: one relation ("Where was Nomi Tarel born?"), or two ("On which river is the town where Nomi Tarel was
born?"), whose answer stands on another page. Whom or what a question is about decides, by a hash, whether it is held
out; no question of training is about that.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held_out"]
HELD_OUT = 0.2  # of what is asked about, by the hashes of names
ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
VOWELS = ("a", "e", "i", "o", "u")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
JOBS = ("baker", "painter", "surgeon", "printer", "sailor", "chemist", "singer", "judge", "weaver", "mason", "poet",
        "botanist")  # fmt: skip

# relation → the sentence that says so, and the kind of its value
PERSON = {
    "birthplace": ("{name} was born in {value}.", "town"),
    "birthday": ("The birthday of {name} is {value}.", "date"),
    "job": ("{name} worked as a {value}.", "job"),
    "teacher": ("{name} was taught by {value}.", "person"),
}
TOWN = {
    "river": ("{name} lies on the river {value}.", "river"),
    "founded": ("{name} was founded in {value}.", "year"),
    "mayor": ("The mayor of {name} is {value}.", "person"),
}
# name → what it is asked about, the question, the path of relations to its answer
QUESTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "birthplace": ("person", "Where was {name} born?", ("birthplace",)),
    "birthday": ("person", "What is the birthday of {name}?", ("birthday",)),
    "job": ("person", "What was the job of {name}?", ("job",)),
    "teacher": ("person", "Who taught {name}?", ("teacher",)),
    "river": ("town", "On which river is {name}?", ("river",)),
    "founded": ("town", "When was {name} founded?", ("founded",)),
    "mayor": ("town", "Who is the mayor of {name}?", ("mayor",)),
    "river of the birthplace": (
        "person", "On which river is the town where {name} was born?", ("birthplace", "river"),
    ),
    "age of the birthplace": (
        "person", "When was the town founded where {name} was born?", ("birthplace", "founded"),
    ),
    "job of the teacher": (
        "person", "What was the job of the teacher of {name}?", ("teacher", "job"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A page: what is so, and the sentences that say so, in the order of the page."""

    name: str
    kind: Literal["person", "town"]
    values: Mapping[str, str]
    sentences: Mapping[str, str]

    @property
    def text(self) -> str:
        return "\n".join(self.sentences.values())


@dataclass(frozen=True, slots=True)
class Step:
    """On the way to an answer: the page, and its sentence that says what is needed next."""

    page: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Question:
    """`kind` is the answer's: town, date, job, person, river or year."""

    text: str
    about: str
    answer: str
    kind: str
    steps: tuple[Step, ...]

    @property
    def split(self) -> Split:
        return "held_out" if _share(self.about) < HELD_OUT else "train"


@dataclass(frozen=True, slots=True)
class World:
    """`entries` by their names; `values` are all there are of each kind."""

    entries: Mapping[str, Entry]
    values: Mapping[str, frozenset[str]]

    def questions(self, names: Sequence[str]) -> list[Question]:
        """Of these names of `QUESTIONS`, about everybody and everything, page by page."""
        return [
            self._question(entry, template, path)
            for entry in self.entries.values()
            for about, template, path in (QUESTIONS[name] for name in names)
            if about == entry.kind
        ]

    def _question(self, entry: Entry, template: str, path: Sequence[str]) -> Question:
        steps, here = [], entry
        for relation in path:
            steps.append(Step(here.name, here.sentences[relation]))
            answer, kind = here.values[relation], (PERSON | TOWN)[relation][1]
            here = self.entries.get(answer, here)
        return Question(template.format(name=entry.name), entry.name, answer, kind, tuple(steps))


def encyclopedia(seed: int = 0, *, people: int = 300, towns: int = 60) -> World:
    """The world of a seed: so many `people` and `towns`, each at least 2, no two of the same name."""
    rng = random.Random(f"encyclopedia/{seed}")
    words: set[str] = set()
    places = [_word(rng, words) for _ in range(towns)]
    rivers = [_word(rng, words) for _ in range(max(2, towns // 2))]
    firsts = [_word(rng, words) for _ in range(max(2, int(2 * people**0.5)))]
    lasts = [_word(rng, words) for _ in range(max(2, int(2 * people**0.5)))]
    pairs = rng.sample(range(len(firsts) * len(lasts)), people)
    names = [f"{firsts[p % len(firsts)]} {lasts[p // len(firsts)]}" for p in pairs]
    values: dict[str, set[str]] = {"town": set(places), "person": set(names), "job": set(JOBS)}
    entries: dict[str, Entry] = {}
    for name in names:
        of = {"birthplace": rng.choice(places), "birthday": _date(rng), "job": rng.choice(JOBS),
              "teacher": rng.choice([n for n in names if n != name])}  # fmt: skip
        entries[name] = _entry(rng, name, "person", PERSON, of)
    for name in places:
        of = {
            "river": rng.choice(rivers),
            "founded": str(rng.randint(900, 1899)),
            "mayor": rng.choice(names),
        }
        entries[name] = _entry(rng, name, "town", TOWN, of)
    for entry in entries.values():
        for relation, value in entry.values.items():
            values.setdefault((PERSON | TOWN)[relation][1], set()).add(value)
    return World(entries, {kind: frozenset(of) for kind, of in values.items()})


def _entry(rng, name, kind, relations, values) -> Entry:
    order = rng.sample(list(values), len(values))
    sentences = {r: relations[r][0].format(name=name, value=values[r]) for r in order}
    return Entry(name, kind, values, sentences)


def _word(rng: random.Random, taken: set[str]) -> str:
    """A name of two or three syllables that nothing else has."""
    while True:
        syllables = (rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((2, 2, 3))))
        word = "".join(syllables).capitalize() + rng.choice(("", "l", "n", "r"))
        if word not in taken:
            taken.add(word)
            return word


def _date(rng: random.Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(1700, 1959)}"


def _share(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
