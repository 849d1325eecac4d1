"""Rules for melodies in C major, as words of `data.melody`: the simple ones, and Sequence Tutor's (Jaques et al. 2017).

Sequence Tutor counts sixteenths, of which most hold a note; here a note is one word with a length, so that its bar of
eight is eight notes, and the rules read nothing but the pitches of notes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean

from heedful.data.melody import read
from heedful.registry import register
from heedful.types import Prompt

Score = Callable[[Prompt, str], float]
MAJOR = (0, 2, 4, 5, 7, 9, 11)
BAR = 8
# Semitones → what magenta's rl_tuner gives for such an interval, before its factor of 5.
INTERVALS = {1: 0.08, 2: 0.08, 3: 0.09, 4: 0.09, 5: 0.07, 7: 0.02, 8: 0.05, 9: 0.05, 10: -0.3, 11: -0.3}  # fmt: skip


def pitches_of(response: str) -> list[int]:
    """The MIDI pitches of a response's notes."""
    return [note.pitch for note in read(response) if note.pitch is not None]


@register("reward", "music_key", help="a penalty for each note outside C major")
def music_key(*, penalty: float = 1.0) -> Score:
    """−penalty for each note outside C major."""
    return lambda prompt, response: (
        -penalty * sum(p % 12 not in MAJOR for p in pitches_of(response))
    )


@register("reward", "music_step", help="1 for each small interval of a melody")
def music_step(*, most: int = 2) -> Score:
    """1 for each interval of at most `most` semitones; the same note again is one of 0."""
    return lambda prompt, response: float(sum(abs(d) <= most for d in _moves(pitches_of(response))))


@register("reward", "music_tonic", help="1 for each C of a melody")
def music_tonic() -> Score:
    """1 for each note that is the tonic."""
    return lambda prompt, response: float(sum(p % 12 == 0 for p in pitches_of(response)))


@register("reward", "sequence_tutor", help="Sequence Tutor's rules of music theory")
def sequence_tutor(*, scale: float = 0.5) -> Score:
    """`scale` times the sum of its rules: `RULES` of this module, each a function of the melody's pitches."""
    return lambda prompt, response: (
        scale * sum(rule(pitches_of(response)) for rule in RULES.values())
    )


def _moves(pitches: Sequence[int]) -> list[int]:
    return [b - a for a, b in pairwise(pitches)]


def key(pitches: Sequence[int]) -> float:
    """−1 for each note outside C major."""
    return -float(sum(p % 12 not in MAJOR for p in pitches))


def tonic(pitches: Sequence[int]) -> float:
    """3 each for a tonic as the first and as the last note."""
    ends = [*pitches[:1], *pitches[1:][-1:]]
    return 3.0 * sum(p % 12 == 0 for p in ends)


def repeats(pitches: Sequence[int]) -> float:
    """−100 for each note that more than four of the same stand before, one after the other."""
    total, same = 0.0, 0
    for move in _moves(pitches):
        same = 0 if move else same + 1
        total -= 100.0 * (same > 4)
    return total


def autocorrelation(pitches: Sequence[int]) -> float:
    """−3·|c| for each correlation above .15 of the melody with itself, one, two and three notes later."""
    total = 0.0
    for lag in (1, 2, 3):
        c = abs(_correlation(pitches[:-lag], pitches[lag:]))
        total -= 3.0 * c * (c > 0.15)
    return total


def _correlation(a: Sequence[int], b: Sequence[int]) -> float:
    if len(a) < 2:
        return 0.0
    x, y = [v - fmean(a) for v in a], [v - fmean(b) for v in b]
    size = math.sqrt(sum(v * v for v in x) * sum(v * v for v in y))
    return sum(v * w for v, w in zip(x, y, strict=True)) / size if size else 0.0


def motifs(pitches: Sequence[int]) -> float:
    """3 for each bar of eight notes, wherever it begins, with three different pitches, and .3 for each one more."""
    kinds = [len(set(bar)) for bar in _bars(pitches)]
    return sum(3.0 + 0.3 * (k - 3) for k in kinds if k >= 3) / BAR


def repeated_motifs(pitches: Sequence[int]) -> float:
    """4 for each such bar that was heard before, and 1 for each pitch beyond three."""
    bars = _bars(pitches)
    again = (bar for i, bar in enumerate(bars) if bar in bars[: max(0, i - BAR + 1)])
    return sum(4.0 + len(set(bar)) - 3 for bar in again if len(set(bar)) >= 3) / BAR


def _bars(pitches: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(pitches[i : i + BAR]) for i in range(len(pitches) - BAR + 1)]


def intervals(pitches: Sequence[int]) -> float:
    """5 times the table of `INTERVALS`; .1 and .15 for a fifth and a third over the tonic's chord; −1 beyond an
    octave."""
    total = 0.0
    for before, move in zip(pitches, _moves(pitches), strict=False):
        size, place = abs(move), before % 12
        if size == 7 and place in (0, 7):
            total += 0.1
        elif size == 4 and place in (0, 4):
            total += 0.15
        else:
            total += -1.0 if size > 12 else INTERVALS.get(size, 0.0)
    return 5.0 * total


def leaps(pitches: Sequence[int]) -> float:
    """5 where a leap of a fifth or more is resolved, by coming back to where it began or by a leap back more than six
    notes later; −5 for a second one in the same direction."""
    total, since = 0.0, 0
    direction, start = 0, 0
    for before, now in pairwise(pitches):
        move = now - before
        if abs(move) >= 7:
            way = 1 if move > 0 else -1
            if not direction:
                direction, start = way, before
            elif way == direction:
                total -= 5.0
            else:
                total += 5.0 * (since > 6)
                direction = 0
            since = 0
        else:
            since += 1
            if direction and (now - start) * direction <= 0:
                total, direction = total + 5.0, 0
    return total


def unique_ends(pitches: Sequence[int]) -> float:
    """3 each where the highest and the lowest note are heard once."""
    return (
        3.0 * sum(list(pitches).count(e) == 1 for e in (max(pitches), min(pitches)))
        if pitches
        else 0.0
    )


RULES: dict[str, Callable[[Sequence[int]], float]] = {
    rule.__name__: rule
    for rule in (key, tonic, repeats, autocorrelation, motifs, repeated_motifs, intervals, leaps, unique_ends)
}  # fmt: skip
