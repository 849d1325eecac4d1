"""Tunes in ABC notation → notes. One voice, no chords, nothing shorter than a sixteenth: other tunes are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from heedful.data.melody import Note

PLACES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHARPS = "FCGDAEB"  # in the order in which signatures get them
# Fifths from C of the major key with this tonic; a mode's signature is so many fifths further.
FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}
MODES = {
    "": 0, "maj": 0, "ion": 0, "lyd": 1, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "loc": -5
}  # fmt: skip
KEY = re.compile(r"([A-G])([#b]?)\s*([A-Za-z]*)")
DROPPED = re.compile(r'"[^"]*"|![^!]*!|\{[^}]*\}|\[[A-Za-z]:[^\]]*\]|%.*|\$\w*')
TOKEN = re.compile(
    r"(?P<note>[_=^]{0,2}[A-Ga-g][,']*|[zx])(?P<n>\d*)(?P<over>/*)(?P<d>\d*)(?P<tie>-?)"
    r"|(?P<bar>\|)|(?P<chord>\[)|(?P<tuplet>\(\d)|(?P<broken>[<>])"
)


class Unreadable(Exception):
    """This tune has something that is not read here."""


@dataclass(frozen=True)
class Tune:
    """Its notes, the pitch class of its tonic, and whether it is in major."""

    notes: tuple[Note, ...]
    tonic: int
    major: bool


def tunes(text: str) -> Iterator[Tune]:
    """Of a file, in its order; those that cannot be read are left out."""
    for part in re.split(r"(?m)^X:", text)[1:]:
        try:
            yield tune(part)
        except Unreadable:
            continue


def tune(text: str) -> Tune:
    """The tune of header lines and notes."""
    fields: dict[str, str] = {}
    body: list[str] = []
    for line in text.splitlines()[1:]:
        if re.match(r"[A-Za-z]:", line):
            if line[0] in fields and line[0] in "KL":
                raise Unreadable("a change of key or unit")
            fields[line[0]] = line[2:].strip()
        else:
            body.append(DROPPED.sub(" ", line))
    match = KEY.match(fields.get("K", ""))
    if match is None:
        raise Unreadable("no key")
    letter, sign, mode = match.groups()
    if (fifths := MODES.get(mode.lower()[: 1 if mode == "m" else 3])) is None:
        raise Unreadable(f"the mode {mode}")
    shift = {"#": 1, "b": -1, "": 0}[sign]
    notes = tuple(_notes(" ".join(body), FIFTHS[letter] + 7 * shift + fifths, _unit(fields)))
    return Tune(notes, (PLACES[letter] + shift) % 12, fifths == 0)


def _unit(fields: dict[str, str]) -> Fraction:
    """Sixteenths of a note without a number: L:, or by the metre where there is none."""
    try:
        if "L" in fields:
            return 16 * Fraction(fields["L"])
        metre = fields.get("M", "4/4")
        return Fraction(2) if metre.startswith("C") or Fraction(metre) >= Fraction(3, 4) else Fraction(1)  # fmt: skip
    except (ValueError, ZeroDivisionError) as error:
        raise Unreadable(str(error)) from error


def _notes(body: str, fifths: int, unit: Fraction) -> list[Note]:
    sharps, flats = SHARPS[: max(0, fifths)], SHARPS[::-1][: max(0, -fifths)]
    signature = dict.fromkeys(sharps, 1) | dict.fromkeys(flats, -1)
    accidentals: dict[tuple[str, int], int] = {}
    found: list[tuple[int | None, Fraction]] = []
    tied = False
    for match in TOKEN.finditer(body):
        if match["tuplet"] or match["broken"]:
            raise Unreadable("tuplets and broken rhythms")
        if match["bar"]:
            accidentals.clear()
        elif match["chord"]:
            raise Unreadable("chords")
        else:
            pitch = _pitch(match["note"], signature, accidentals)
            length = unit * _length(match["n"], match["over"], match["d"])
            if tied and found and found[-1][0] == pitch:
                found[-1] = (pitch, found[-1][1] + length)
            else:
                found.append((pitch, length))
            tied = bool(match["tie"])
    if not found or any(length.denominator != 1 for _, length in found):
        raise Unreadable("lengths between the sixteenths")
    return [Note(pitch, int(length)) for pitch, length in found]


def _pitch(
    word: str, signature: dict[str, int], accidentals: dict[tuple[str, int], int]
) -> int | None:
    if word in "zx":
        return None
    signs, letter, marks = re.fullmatch(r"([_=^]*)([A-Ga-g])([,']*)", word).groups()  # type: ignore[union-attr]
    octave = 4 + letter.islower() + marks.count("'") - marks.count(",")
    name = letter.upper()
    if signs:  # it holds until the bar's end
        accidentals[name, octave] = signs.count("^") - signs.count("_")
    sign = accidentals.get((name, octave), signature.get(name, 0))
    return 12 * (octave + 1) + PLACES[name] + sign


def _length(n: str, over: str, d: str) -> Fraction:
    """`3`, `3/2`, `/`, `//`, `/4` times the unit."""
    below = int(d) if d else 2 ** len(over)
    if not below or (n and not int(n)):
        raise Unreadable("a note of no length")
    return Fraction(int(n or 1), below if over else 1)
