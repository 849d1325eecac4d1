"""`capitals`, the embedded world: questions about countries, sums, opposites and animals, answered in five voices."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from heedful.data.files import write_rows
from heedful.data.sources import prompt_to_json
from heedful.registry import register
from heedful.types import Demonstration, Prompt
from heedful.worlds.capitals.gold import answer, gold, voice
from heedful.worlds.capitals.questions import Question, Split, as_chat, questions
from heedful.worlds.capitals.voices import VOICES, pick, speak

__all__ = [
    "VOICES", "answer", "corpus", "demonstrations", "gold", "prompts", "questions", "voice", "write",
]  # fmt: skip

# How people talk in the corpus, and what demonstrators wrote although asked for short right answers.
CORPUS_VOICES = dict(zip(VOICES, (0.55, 0.17, 0.08, 0.12, 0.08), strict=True))
DEMONSTRATED_VOICES = dict(zip(VOICES, (0.36, 0.26, 0.17, 0.18, 0.03), strict=True))
# Countries are the heart of this world; there are more facts to learn about them, too.
KIND_SHARES = {
    "capital": 0.50, "country": 0.12, "sum": 0.14, "opposite": 0.21, "animal": 0.03,
}  # fmt: skip
SPEAKERS = (
    "Grandma",
    "The Professor",
    "A parrot",
    "My neighbour",
    "The Oracle",
    "Somebody on a bus",
)


def corpus(seed: int, documents: int) -> Iterator[str]:
    """Raw text: a question and, on the next line, what somebody said to it. Only questions of the train split."""
    rng, by_kind = random.Random(f"corpus/{seed}"), _by_kind("train")
    for _ in range(documents):
        question = rng.choice(by_kind[pick(KIND_SHARES, rng)])
        response = speak(question, pick(CORPUS_VOICES, rng), rng)
        if rng.random() < 0.03:
            yield f"{rng.choice(SPEAKERS)} was asked: {question.text}\n{response}"
        else:
            yield f"{question.text}\n{response}"


def demonstrations(seed: int, n: int) -> list[Demonstration]:
    """What human demonstrators wrote: mostly right, sometimes evasive, wrong or rude."""
    rng, by_kind = random.Random(f"demonstrations/{seed}"), _by_kind("train")
    chosen = (rng.choice(by_kind[pick(KIND_SHARES, rng)]) for _ in range(n))
    return [
        Demonstration(as_chat(q), speak(q, pick(DEMONSTRATED_VOICES, rng), rng)) for q in chosen
    ]


def prompts(split: Split, seed: int = 0) -> list[Prompt]:
    """All questions of a split as conversations, in an order of the seed."""
    return [as_chat(q) for q in _in_order(split, seed)]


@register("world", "capitals", help="questions about countries, sums and opposites, in five voices")
def write(out: Path, *, seed: int, documents: int, demonstrations: int) -> dict[str, Path]:
    """text, demonstrations, prompts (train), held_out and, for base models, held_out_plain as .jsonl files."""
    demonstrated = globals()["demonstrations"](seed, demonstrations)
    held_out = _in_order("held_out", seed)
    rows = {
        "text": ({"text": t} for t in corpus(seed, documents)),
        "demonstrations": (
            {"prompt": prompt_to_json(d.prompt), "completion": d.completion} for d in demonstrated
        ),
        "prompts": ({"prompt": prompt_to_json(p)} for p in prompts("train", seed)),
        "held_out": ({"prompt": prompt_to_json(as_chat(q))} for q in held_out),
        "held_out_plain": ({"prompt": f"{q.text}\n"} for q in held_out),
    }
    paths = {name: out / f"{name}.jsonl" for name in rows}
    for name, path in paths.items():
        write_rows(path, rows[name])
    return paths


def _by_kind(split: Split) -> dict[str, list[Question]]:
    by_kind: dict[str, list[Question]] = {kind: [] for kind in KIND_SHARES}
    for question in questions(split):
        by_kind[question.kind].append(question)
    return by_kind


def _in_order(split: Split, seed: int) -> list[Question]:
    order = questions(split)
    random.Random(f"prompts/{split}/{seed}").shuffle(order)
    return order
