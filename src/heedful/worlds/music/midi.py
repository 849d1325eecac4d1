"""MIDI files → notes: the highest voice of the track with the most notes, in sixteenths."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from heedful.data.melody import Note

MAJOR = (0, 2, 4, 5, 7, 9, 11)
LONGEST = 16  # sixteenths of a note or rest


def melody(data: bytes) -> list[Note]:
    """The melody of a file's bytes. ValueError for what is no MIDI file, or counts time in seconds."""
    if len(data) < 14 or data[:4] != b"MThd":
        raise ValueError("it does not begin as a MIDI file does")
    _, _, _, division = struct.unpack(">IHHH", data[4:14])
    if division & 0x8000 or division < 1:
        raise ValueError("it counts time in seconds, not in beats")
    tracks = [list(_sounding(track)) for track in _tracks(data)]
    sounding = max(tracks, key=len, default=[])
    return _highest([(4 * on / division, 4 * off / division, pitch) for on, off, pitch in sounding])


def _tracks(data: bytes) -> Iterator[bytes]:
    place = 8 + struct.unpack(">I", data[4:8])[0]
    while place + 8 <= len(data):
        size = struct.unpack(">I", data[place + 4 : place + 8])[0]
        if data[place : place + 4] == b"MTrk":
            yield data[place + 8 : place + 8 + size]
        place += 8 + size


def _sounding(track: bytes) -> Iterator[tuple[int, int, int]]:
    """(tick on, tick off, pitch) of each note but the drums'. ValueError for a torn track."""
    place = tick = status = 0
    begun: dict[tuple[int, int], int] = {}

    def number() -> int:
        nonlocal place
        value = 0
        while True:
            byte = track[place]
            place += 1
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value

    try:
        while place < len(track):
            tick += number()
            if track[place] & 0x80:
                status = track[place]
                place += 1
            if status in (0xF0, 0xF7) or status == 0xFF:
                place += status == 0xFF  # what kind it is of
                size = number()
                place += size
                continue
            kind, channel = status >> 4, status & 0x0F
            first, second = track[place], 0 if kind in (0xC, 0xD) else track[place + 1]
            place += 1 if kind in (0xC, 0xD) else 2
            if channel == 9 or kind not in (0x8, 0x9):
                continue
            if (on := begun.pop((channel, first), None)) is not None and tick > on:
                yield on, tick, first
            if kind == 0x9 and second:
                begun[channel, first] = tick
    except IndexError as error:
        raise ValueError("a track ends in the middle") from error


def _highest(sounding: list[tuple[float, float, int]]) -> list[Note]:
    """Of notes that begin together the highest; each lasts until the next one begins, or is followed by a rest."""
    tops: dict[int, tuple[int, int]] = {}
    for on, off, pitch in sounding:
        begin, end = round(on), max(round(off), round(on) + 1)
        if begin not in tops or tops[begin][1] < pitch:
            tops[begin] = (end, pitch)
    found: list[Note] = []
    begins = sorted(tops)
    for begin, following in zip(begins, [*begins[1:], None], strict=True):
        end, pitch = tops[begin]
        end = end if following is None else min(end, following)
        found.append(Note(pitch, min(end - begin, LONGEST)))
        if following is not None and following > end:
            found.append(Note(None, min(following - end, LONGEST)))
    return found


def tonic_of(notes: list[Note]) -> int:
    """The pitch class whose major scale has most of the notes; of several the one that the melody ends on, or the one
    that is heard most."""
    pitches = [n.pitch % 12 for n in notes if n.pitch is not None]

    def fit(tonic: int) -> tuple[int, bool, int]:
        within = sum((p - tonic) % 12 in MAJOR for p in pitches)
        return within, pitches[-1:] == [tonic], pitches.count(tonic)

    return max(range(12), key=fit)
