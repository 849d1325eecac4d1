"""A game in the terminal: it moves, and whoever watches presses keys."""

from __future__ import annotations

import os
import select
import sys
import time
from types import TracebackType

from heedful.control.tamer import Press
from heedful.control.trainers import Seen
from heedful.data.clips import Frame
from heedful.errors import UserError

KEYS = {"+": 1.0, "=": 1.0, "j": 1.0, "-": -1.0, "k": -1.0}
ROWS, COLUMNS = 18, 60  # of a plane of strokes
COLOURS = ("90", "36", "33", "32", "31")


class Person:
    """A trainer who sits at the terminal. `with Person() as person:` has it give keys one by one, unseen."""

    def __init__(self) -> None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UserError(
                "nobody can press keys here, since this is no terminal; --trainer simulated, or --data with presses of "
                "the browser's"
            )

    def __enter__(self) -> Person:
        import termios
        import tty

        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        print("+ or j: good   - or k: bad   q: leave off", flush=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        import termios

        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

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
