"""Melodies to be seen and heard: a piano roll in SVG, and sound by a few lines of one's own, both within the page."""

from __future__ import annotations

import base64
import io
import math
import wave
from array import array
from collections.abc import Sequence

from markupsafe import Markup

from heedful.data.melody import Note, is_melody, read

RATE, SIXTEENTH = 8000, 0.08  # samples a second; seconds of a sixteenth
HEIGHT, WIDTH = 5, 7  # pixels of a semitone and of a sixteenth
OVERTONES = (1.0, 0.35, 0.15)


def shown(text: str) -> Markup:
    """A melody's piano roll and a player; nothing for another text."""
    return roll(read(text)) + player(read(text)) if is_melody(text) else Markup("")


def roll(notes: Sequence[Note]) -> Markup:
    """Time from left to right, pitch upwards, a line below each C."""
    pitches = [n.pitch for n in notes if n.pitch is not None]
    low, high = min(pitches) - 1, max(pitches) + 1
    width, height = WIDTH * sum(n.length for n in notes), HEIGHT * (high - low + 1)
    bars, start = [], 0
    for note in notes:
        if note.pitch is not None:
            y, size = HEIGHT * (high - note.pitch), WIDTH * note.length - 1
            at = f'x="{WIDTH * start}" y="{y}" width="{size}" height="{HEIGHT - 1}"'
            bars.append(f'<rect {at} rx="1"><title>{note}</title></rect>')
        start += note.length
    lines = [
        f'<line x1="0" x2="{width}" y1="{y}" y2="{y}"/>'
        for pitch in range(low, high + 1)
        if pitch % 12 == 0 and (y := HEIGHT * (high - pitch + 1) - 0.5)
    ]
    said = f"{len(pitches)} notes from {Note(min(pitches))} to {Note(max(pitches))}"
    return Markup(
        f'<svg class="roll" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="Piano roll: {said}">{"".join(lines)}{"".join(bars)}</svg>'
    )


def player(notes: Sequence[Note]) -> Markup:
    """The browser's own controls, with the sound in the page."""
    sound = base64.b64encode(wav(notes)).decode("ascii")
    return Markup(f'<audio controls preload="none" src="data:audio/wav;base64,{sound}"></audio>')


def wav(notes: Sequence[Note]) -> bytes:
    """A WAV file, mono, 8 bits: each note a tone with two overtones that fades."""
    samples = array("B")
    for note in notes:
        count = round(RATE * SIXTEENTH * note.length)
        if note.pitch is None:
            samples.extend([128] * count)
            continue
        turn = 2 * math.pi * 440 * 2 ** ((note.pitch - 69) / 12) / RATE
        samples.extend(128 + round(70 * _fade(i, count) * _tone(turn * i)) for i in range(count))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return file.getvalue()


def _tone(phase: float) -> float:
    return sum(share * math.sin(k * phase) for k, share in enumerate(OVERTONES, 1)) / sum(OVERTONES)


def _fade(i: int, count: int) -> float:
    """In for 5 ms and out for 20, so that nothing clicks; less and less between."""
    rise, fall = i / (0.005 * RATE), (count - i) / (0.02 * RATE)
    return min(1.0, rise, fall) * math.exp(-2.0 * i / RATE)
