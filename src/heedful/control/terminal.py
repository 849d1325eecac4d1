"""A game in the terminal: it moves, and whoever watches presses keys; or whoever sits there plays it."""

from __future__ import annotations

import copy
import os
import select
import sys
import time
from types import TracebackType
from typing import Self

import numpy as np

from heedful.control.games import Game
from heedful.control.tamer import Press
from heedful.control.trainers import Seen
from heedful.data.clips import Frame
from heedful.errors import UserError

TURNS = {"\x1b[C": 1, "l": 1, "\x1b[D": -1, "h": -1}  # arrows to the right and to the left
KEYS = {"+": 1.0, "=": 1.0, "j": 1.0, "-": -1.0, "k": -1.0}
ROWS, COLUMNS = 18, 60  # of a plane of strokes
COLOURS = ("90", "36", "33", "32", "31")


class Terminal:
    """`with` it the terminal gives keys one by one, unseen."""

    keys = ""
    without = ""  # what else there is where nobody can press keys

    def __init__(self) -> None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UserError(
                f"nobody can press keys here, since this is no terminal; {self.without}"
            )

    def __enter__(self) -> Self:
        import termios
        import tty

        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        print(self.keys, flush=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        import termios

        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)


class Person(Terminal):
    """A trainer who sits at the terminal."""

    keys = "+ or j: good   - or k: bad   q: leave off"
    without = "--trainer simulated, or --data with presses of the browser's"

    def __call__(self, seen: Seen) -> list[Press]:
        """Shows a move for as long as it is seen; KeyboardInterrupt for q."""
        print(f"\x1b[H\x1b[J{drawn(seen.frame)}\n+ good   - bad   q leave off", flush=True)
        began, presses = time.monotonic(), []
        while (left := seen.end - seen.start - (time.monotonic() - began)) > 0:
            if not select.select([sys.stdin], [], [], left)[0]:
                break
            for key in os.read(sys.stdin.fileno(), 64).decode("utf-8", "replace"):
                if key == "q":
                    raise KeyboardInterrupt
                if key in KEYS:
                    presses.append(Press(seen.start + time.monotonic() - began, KEYS[key]))
        return presses


class Hand(Terminal):
    """A player who sits at the terminal: sees what a move would lead to, turns to the next or the one before, and makes
    it. The game waits."""

    keys = (
        "← → or h l: another move   Enter or space: make it   1–9: that move at once   q: leave off"
    )
    without = "--player random, advised or the folder of a run"

    def __call__(self, game: Game, rng: np.random.Generator) -> int | None:
        """The move; None for q."""
        moves, shown = len(game.choices()), 0
        while True:
            after = copy.deepcopy(game)
            after.step(shown)
            print(
                f"\x1b[H\x1b[J{drawn(after.frame())}\nmove {shown + 1} of {moves}\n{self.keys}",
                flush=True,
            )
            key = _key()
            if key in ("q", ""):
                return None
            if key in ("\n", "\r", " "):
                return shown
            if key.isdecimal() and 1 <= int(key) <= moves:
                return int(key) - 1
            shown = (shown + TURNS.get(key, 0)) % moves


def _key() -> str:
    """One key; keys that wait behind it stay there."""
    source = sys.stdin.fileno()
    first = os.read(source, 1)
    return (first + os.read(source, 2) if first == b"\x1b" else first).decode("utf-8", "replace")


def drawn(frame: Frame) -> str:
    """A frame in characters: cells two wide, strokes as points along them."""
    if isinstance(frame, str):
        rows = frame.split("/")
        edge = "+" + "--" * len(rows[0]) + "+"
        return "\n".join([edge, *(f"|{''.join(map(_cell, row))}|" for row in rows), edge])
    grid = [[" "] * COLUMNS for _ in range(ROWS)]
    for x1, y1, x2, y2, _, colour in frame:
        for k in range(101):
            x, y = x1 + (x2 - x1) * k / 100, y1 + (y2 - y1) * k / 100
            row, column = int(y / 60 * ROWS), int(x / 100 * COLUMNS)
            if 0 <= row < ROWS and 0 <= column < COLUMNS:
                grid[row][column] = _painted("#", int(colour))
    return "\n".join("".join(row) for row in grid)


def _cell(cell: str) -> str:
    return "  " if cell == "." else _painted("[]", int(cell))


def _painted(words: str, colour: int) -> str:
    return f"\x1b[{COLOURS[(max(colour, 1) - 1) % len(COLOURS)]}m{words}\x1b[0m"
