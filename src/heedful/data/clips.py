"""Clips as text: what people see of a game, and by which moves it can be played again.

    clip {"game": "tetris", "seed": 3, "first": 0, "moves": [4, 11], "ms": 700}
    "....../....../..11../..11.."
    "....../....../..112./..1122"

The first line says how the game was begun and which moves were made, of which those from `first` on are shown; each
line below is what was seen after one of them: rows of cells, parted by `/`, or strokes `[x1, y1, x2, y2, width,
colour]` on a plane of 100 by 60. So a clip is kept, asked about and exported as any other response is, and a key press
during a frame is a remark on that line.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from heedful.errors import UserError

Frame = str | list[list[float]]
START = "clip "
MOST_FRAMES, MOST_CELLS, MOST_STROKES = 5000, 64, 64
CELLS = re.compile(r"[.0-9]+(?:/[.0-9]+)*")


@dataclass(frozen=True)
class Clip:
    """Some steps of a game: `frames[k]` is what was seen after the move `moves[first + k]`, for `ms` milliseconds."""

    game: str
    seed: int
    first: int
    moves: tuple[int, ...]
    ms: int
    frames: tuple[Frame, ...]


def as_text(clip: Clip) -> str:
    """The clip as the text of a response."""
    names = ("game", "seed", "first", "moves", "ms")
    about = {name: getattr(clip, name) for name in names}
    return "\n".join([START + json.dumps(about), *map(json.dumps, clip.frames)])


def is_clip(text: str) -> bool:
    """Whether a response is a whole and proper clip."""
    try:
        read(text)
    except UserError:
        return False
    return True


def read(text: str, where: str = "the clip") -> Clip:
    """The inverse of `as_text`; UserError, which begins with `where`, for any other text."""
    if not text.startswith(START):
        raise UserError(f"{where}: expected a clip, a text that begins with '{START}'")
    first, *lines = text.removeprefix(START).split("\n")
    try:
        about, frames = json.loads(first), [json.loads(line) for line in lines]
        clip = Clip(**about | {"moves": tuple(about["moves"]), "frames": tuple(frames)})
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{where}: a clip that cannot be read") from None
    if not (
        isinstance(clip.game, str) and all(_whole(n) for n in (clip.first, clip.ms, *clip.moves))
    ):
        raise UserError(f"{where}: the clip's first line is not in order")
    if type(clip.seed) is not int or not 1 <= clip.ms <= 60_000:
        raise UserError(f"{where}: the clip's seed or its milliseconds are not in order")
    if not 1 <= len(frames) <= MOST_FRAMES or clip.first + len(frames) != len(clip.moves):
        raise UserError(
            f"{where}: a clip has 1 to {MOST_FRAMES} frames, one for each move from the first on"
        )
    if not all(map(_is_frame, frames)):
        raise UserError(f"{where}: a frame is neither cells nor strokes")
    return clip


def frame_of(text: str, start: int) -> int | None:
    """Which frame of a clip's text a character belongs to; None in the first line."""
    line = text.count("\n", 0, start)
    return line - 1 if line else None


def _is_frame(frame: Any) -> bool:
    if isinstance(frame, str):
        rows = frame.split("/")
        widths = {len(row) for row in rows}
        small = len(rows) <= MOST_CELLS and len(widths) == 1 and max(widths) <= MOST_CELLS
        return small and CELLS.fullmatch(frame) is not None
    return (
        isinstance(frame, list)
        and len(frame) <= MOST_STROKES
        and all(isinstance(s, list) and len(s) == 6 and all(map(_finite, s)) for s in frame)
    )


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= 1000


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0
