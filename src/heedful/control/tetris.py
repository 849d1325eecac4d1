"""Tetris as TAMER plays it: a move is where a piece comes to lie, and its features are those of the board it leaves.

The features are those of Bertsekas & Ioffe 1996 (heights, their differences, the highest, holes) and of Dellacherie's
player (Fahey 2003), by whose weights `advice` judges moves.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from heedful.control.games import Choices, Over
from heedful.errors import UserError
from heedful.registry import register

Cells = tuple[tuple[int, int], ...]  # (row, column), row 0 at the bottom
PIECES: tuple[tuple[str, ...], ...] = (
    ("1111",), ("11", "11"), ("111", "010"), ("011", "110"), ("110", "011"), ("111", "100"), ("111", "001"),
)  # fmt: skip
SCALE = 10.0  # features are of about one


@cache
def turned(piece: int) -> tuple[Cells, ...]:
    """The piece in each of its different rotations."""
    grid, seen = np.array([[int(c) for c in row] for row in PIECES[piece]][::-1]), []
    for _ in range(4):
        cells = tuple((int(r), int(c)) for r, c in np.argwhere(grid))
        if cells not in seen:
            seen.append(cells)
        grid = np.rot90(grid)
    return tuple(seen)


@register(
    "game", "tetris", help="pieces fall, full rows vanish; a move is where a piece comes to lie"
)
class Tetris:
    """A reward of 1 a row. It is over when a piece fits nowhere, or after so many `pieces`."""

    def __init__(self, pieces: int = 150, width: int = 10, height: int = 20):
        if pieces < 1 or not 4 <= width <= 40 or not 4 <= height <= 40:
            raise UserError("tetris: pieces are 1 or more, width and height 4 to 40")
        self.pieces, self.width, self.height = pieces, width, height
        self.ms = 700
        self.reset(0)

    def reset(self, seed: int) -> None:
        """An empty board."""
        self._numbers = np.random.default_rng(seed)
        self._board = np.zeros((self.height, self.width), dtype=np.int8)
        self._shown = self._board
        self._left = self.pieces
        self.over: Over = ""
        self._next()

    def _next(self) -> None:
        """The next piece, and everywhere it may come to lie."""
        self.piece = int(self._numbers.integers(len(PIECES)))
        heights = _heights(self._board[None])[0]
        rows, cells = [], []
        for shape in turned(self.piece):
            columns = 1 + max(c for _, c in shape)
            for left in range(self.width - columns + 1):
                row = max(0, *(int(heights[left + c]) - r for r, c in shape))
                if row + max(r for r, _ in shape) >= self.height:
                    continue
                rows.append((row, len({r for r, _ in shape})))
                cells.append(([row + r for r, _ in shape], [left + c for _, c in shape]))
        if not cells:
            self.over = "terminated"
            return
        self._laid = np.repeat(self._board[None], len(cells), axis=0)
        for board, where in zip(self._laid, cells, strict=True):
            board[where] = 2
        after = np.stack([_without_full(board) for board in self._laid])
        self._after = (after > 0).astype(np.int8)
        full = np.asarray((self._laid > 0).all(2))
        self._lines = full.sum(1)
        own = (self._laid == 2) & full[:, :, None]
        landing = np.array([row + (tall - 1) / 2 for row, tall in rows])
        self._choices, self._advice = _features(self._after, landing, self._lines * own.sum((1, 2)))

    def choices(self) -> Choices:
        """Of each place where the piece may come to lie, `[A, 2·width + 8]`."""
        return self._choices

    def advice(self) -> np.ndarray:
        """Dellacherie's evaluation of each."""
        return self._advice

    def step(self, move: int) -> float:
        """Let the piece lie there; rows that vanish."""
        lines = float(self._lines[move])
        full = (self._laid[move] > 0).all(1)
        self._shown = np.where(full[:, None], 3, self._laid[move])
        self._board = self._after[move]
        self._left -= 1
        if self._left:
            self._next()
        else:
            self.over = "truncated"
        return lines

    def frame(self) -> str:
        """The board as the piece came to lie (2), with rows that are about to vanish (3)."""
        signs = np.array([".", "1", "2", "3"])
        return "/".join("".join(row) for row in signs[self._shown[::-1]])


def _heights(boards: np.ndarray) -> np.ndarray:
    """`[N, W]` of boards `[N, H, W]`."""
    tall = boards.shape[1]
    filled = boards[:, ::-1] > 0
    return np.where(filled.any(1), tall - filled.argmax(1), 0)


def _without_full(board: np.ndarray) -> np.ndarray:
    full = (board > 0).all(1)
    if not full.any():
        return board
    return np.concatenate([board[~full], np.zeros_like(board[full])])


def _features(
    boards: np.ndarray, landing: np.ndarray, eroded: np.ndarray
) -> tuple[np.ndarray, ...]:
    """`[A, F]` and Dellacherie's evaluation `[A]` of boards `[A, H, W]`."""
    filled = boards > 0
    heights = _heights(boards)
    below = np.arange(boards.shape[1])[None, :, None] < heights[:, None, :]
    holes = below & ~filled
    walled = np.pad(filled, ((0, 0), (0, 0), (1, 1)), constant_values=True)
    in_use = np.arange(boards.shape[1])[None, :] < heights.max(1)[:, None]
    across = ((walled[:, :, 1:] != walled[:, :, :-1]).sum(2) * in_use).sum(1) + 2 * (~in_use).sum(1)
    floored = np.pad(filled, ((0, 0), (1, 0), (0, 0)), constant_values=True)
    down = (floored[:, 1:] != floored[:, :-1]).sum((1, 2))
    sides = np.pad(heights, ((0, 0), (1, 1)), constant_values=boards.shape[1])
    depth = np.maximum(np.minimum(sides[:, :-2], sides[:, 2:]) - heights, 0)
    wells = (depth * (depth + 1) // 2).sum(1)
    above = (holes * (heights[:, None, :] - np.arange(boards.shape[1])[None, :, None])).sum((1, 2))
    several = [
        heights.max(1), holes.sum((1, 2)), across, down, wells, landing, eroded, above, holes.any(2).sum(1),
    ]  # fmt: skip
    steps = np.abs(np.diff(heights, axis=1))
    features = np.concatenate([heights, steps, np.stack(several, axis=1)], axis=1) / SCALE
    advice = -landing + eroded - across - down - 4 * holes.sum((1, 2)) - wells
    return features, advice.astype(float)
