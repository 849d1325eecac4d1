"""`music`: the beginnings of tunes in C major, a word a note, to be written from nothing; and the rules for them.

A model of tunes has a word of its own for each note, so a tokenizer comes with them. Rewards are in `rewards.music`.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

from heedful.data.files import write_rows
from heedful.data.melody import is_melody, read, written
from heedful.registry import register
from heedful.types import Prompt
from heedful.worlds.music.tunes import of_source

VOICES = ("melody", "repeats", "broken")
HELD_OUT, WORDS = 0.1, 24  # share of the tunes; notes and rests of each that are kept
MADE = 4000  # tunes from a seed


def gold(prompt: Prompt, response: str) -> float:
    """Share of the notes that keep to C major and come by a step, minus that in runs of three or more."""
    pitches = [n.pitch for n in read(response) if n.pitch is not None]
    if len(pitches) < 2:
        return 0.0
    steps = sum(abs(a - b) <= 2 for a, b in pairwise(pitches))
    key = sum(p % 12 in (0, 2, 4, 5, 7, 9, 11) for p in pitches)
    return key / len(pitches) + steps / (len(pitches) - 1) - in_runs(response)


def voice(prompt: Prompt, response: str) -> str:
    """Nothing but notes and rests, or not; and whether half of the notes repeat the one before twice or more."""
    if not is_melody(response):
        return "broken"
    return "repeats" if in_runs(response) >= 0.5 else "melody"


def in_runs(response: str, least: int = 3) -> float:
    """The share of a melody's notes that stand in runs of `least` or more of the same pitch, rests left out."""
    pitches = [n.pitch for n in read(response) if n.pitch is not None]
    runs: list[int] = []
    for i, pitch in enumerate(pitches):
        if i and pitch == pitches[i - 1]:
            runs[-1] += 1
        else:
            runs.append(1)
    return sum(n for n in runs if n >= least) / max(1, len(pitches))


@register("world", "music", help="tunes in C major, to be written from nothing")
def write(out: Path, *, source: Path | None, seed: int) -> dict[str, Path]:
    """Texts, held-out texts (split by a hash), an empty prompt, and a tokenizer with a word for each note."""
    from heedful.models.new import train_tokenizer  # PyTorch

    texts = dict.fromkeys(f" {written(t[:WORDS])}" for t in of_source(source, seed, MADE))
    train = [t for t in texts if not _held_out(t)]
    unseen = [t for t in texts if _held_out(t)]
    rows = {
        "text": ({"text": t} for t in train),
        "held_out": ({"text": t} for t in unseen),
        "prompts": [{"prompt": ""}],
    }
    paths = {name: out / f"{name}.jsonl" for name in rows}
    for name, path in paths.items():
        write_rows(path, rows[name])
    tokenizer = train_tokenizer([], 261)  # bytes, so that any text round-trips
    tokenizer.add_tokens(sorted({f" {word}" for text in train for word in text.split()}))
    tokenizer.save_pretrained(out / "tokenizer")
    return {**paths, "tokenizer": out / "tokenizer"}


def _held_out(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] < HELD_OUT * 256
