"""Melodies as words: `C5:4` is a C for four sixteenths, `F#4` one for a single one, `z:2` a rest for two."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
WORD = re.compile(r"(?:([A-G]#?)(\d)|z)(?::([1-9]\d?))?")


@dataclass(frozen=True, slots=True)
class Note:
    """A MIDI pitch (60 is C4, the middle one), None for a rest, and its length in sixteenths."""

    pitch: int | None
    length: int = 1

    def __str__(self) -> str:
        octave, name = (0, 0) if self.pitch is None else divmod(self.pitch, 12)
        word = "z" if self.pitch is None else f"{NAMES[name]}{octave - 1}"
        return word if self.length == 1 else f"{word}:{self.length}"


def written(notes: Iterable[Note]) -> str:
    """A melody as text."""
    return " ".join(map(str, notes))


def read(text: str) -> list[Note]:
    """The melody of a text; a word that is no note, which a model may write, is left out."""
    matches = filter(None, map(WORD.fullmatch, text.split()))
    return [_note(*match.groups()) for match in matches]


def is_melody(text: str) -> bool:
    """Whether each word is a note or a rest, and there are some notes."""
    words = text.split()
    notes = read(text)
    return len(notes) == len(words) and any(n.pitch is not None for n in notes)


def _note(name: str | None, octave: str | None, length: str | None) -> Note:
    pitch = None if name is None else 12 * (int(octave or 0) + 1) + _place(name)
    return Note(pitch, int(length or 1))


def _place(name: str) -> int:
    """E# and B# are the next white key, as F and C are."""
    return (NAMES.index(name[0]) + len(name) - 1) % 12 + (12 if name == "B#" else 0)
