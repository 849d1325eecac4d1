"""`maze`: a small maze in text, to be left by the shortest way; what is to be learned from is walks of mixed quality.

Every move costs one, also one against a wall or one that cannot be read. The policy is told once where the goal is, and
after each move where it is and which ways are closed (the fully observed maze of LMRL-Gym, Abdulhai et al. 2023).
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.envs.chat import Chat, Env
from heedful.envs.specs import Environment, Player, Split
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Message, Task

Cell = tuple[int, int]  # row and column, from 1
MOVES: dict[str, Cell] = {"north": (-1, 0), "south": (1, 0), "west": (0, -1), "east": (0, 1)}
HELD_OUT = 0.2  # of the places to begin
OPENED = 0.1  # of the walls that a tree of ways would have: there is more than one way
AT = re.compile(r"You are at (\d+) (\d+)")


@dataclass(frozen=True)
class Maze:
    """Cells (1, 1) to (size, size); `ways` are the open sides between neighbours, in both directions."""

    size: int
    ways: frozenset[tuple[Cell, Cell]]
    goal: Cell

    @property
    def cells(self) -> list[Cell]:
        return _cells(self.size)

    def step(self, at: Cell, move: str) -> Cell:
        """Where one is after a move: in the same place where there is a wall."""
        there = _beside(at, move)
        return there if (at, there) in self.ways else at

    def distances(self) -> dict[Cell, int]:
        """Moves from each cell to the goal, by the shortest way."""
        found, queue = {self.goal: 0}, deque([self.goal])
        while queue:
            cell = queue.popleft()
            for there in (self.step(cell, move) for move in MOVES):
                if there not in found:
                    found[there] = found[cell] + 1
                    queue.append(there)
        return found

    def told(self, at: Cell) -> str:
        """What the policy hears in a cell."""
        closed = [move for move in MOVES if self.step(at, move) == at]
        return f"You are at {at[0]} {at[1]}. Walls: {' '.join(closed) or 'none'}."


def made(size: int, world: int) -> Maze:
    """A tree of ways that reaches every cell, a few walls more taken out, and the goal somewhere in it."""
    rng, cells = random.Random(f"maze/{size}/{world}"), _cells(size)
    reached, path, ways = {cells[0]}, [cells[0]], set()
    while path:
        at = path[-1]
        fresh = [
            c for c in (_beside(at, move) for move in MOVES) if c in cells and c not in reached
        ]
        if not fresh:
            path.pop()
            continue
        there = rng.choice(fresh)
        reached.add(there)
        path.append(there)
        ways |= {(at, there), (there, at)}
    for at in cells:
        for there in (_beside(at, "south"), _beside(at, "east")):
            if there in cells and rng.random() < OPENED:
                ways |= {(at, there), (there, at)}
    return Maze(size, frozenset(ways), rng.choice(cells))


def move_in(text: str) -> str | None:
    """The direction that is named; None where there is none, or more than one."""
    named = [word for word in re.findall(r"[a-z]+", text.lower()) if word in MOVES]
    return named[0] if len(set(named)) == 1 else None


@register("environment", "maze", help="the shortest way out of a maze, told in text")
def maze(*, size: int = 5, world: int = 0, moves: int = 40) -> Env:
    """Every move costs 1. A maze of `size` by `size` cells, `world` its seed; after so many `moves` the episode is
    truncated. Tasks are places to begin; those of the held-out tasks begin no other."""
    if not 2 <= size <= 9 or moves < 1:
        raise UserError("maze: size is 2 to 9, moves at least 1")
    of = made(size, world)

    async def play(task: Task, chat: Chat) -> float | None:
        at = (int(task.facts["row"]), int(task.facts["column"]))
        for _ in range(moves):
            move = move_in((await chat.say()).text)
            chat.reward(-1.0, "moves")
            if move is None:
                chat.count("wrong_moves", 1)
                chat.hear("user", f"north, south, west or east? {of.told(at)}")
                continue
            at = of.step(at, move)
            if at == of.goal:
                chat.count("solved", 1)
                return 0.0
            chat.hear("user", of.told(at))
        raise chat.truncate("turns")

    players = {
        "shortest": _walker(of, lambda rng: 0.0),
        "random": _walker(of, None),
        "mixed": _walker(of, lambda rng: rng.choice((0.6, 0.8, 1.0))),
    }
    return Environment(play, lambda split, seed: _tasks(of, split, seed), "maze", players)


def shortest(size: int, world: int, row: Mapping[str, Any]) -> int:
    """Moves of the shortest way from where a task begins."""
    return made(size, world).distances()[row["row"], row["column"]]


def _tasks(of: Maze, split: Split, seed: int) -> list[dict[str, Any]]:
    begins = [cell for cell in of.cells if cell != of.goal]
    random.Random(f"maze/{of.size}/begins").shuffle(begins)  # not by the seed: the split is fixed
    held = max(1, round(HELD_OUT * len(begins)))
    begins = begins[:held] if split == "held_out" else begins[held:]
    random.Random(f"maze/{split}/{seed}").shuffle(begins)
    opening = f"The goal is at {of.goal[0]} {of.goal[1]}. "
    return [
        {
            "prompt": [{"role": "user", "content": opening + of.told(cell)}],
            "row": cell[0],
            "column": cell[1],
        }
        for cell in begins
    ]


def _walker(of: Maze, wandering: Callable[[random.Random], float] | None) -> Player:
    """A player who goes the shortest way, but for a share of the moves, in which it wanders: any open way but back
    where it came from. `wandering` draws the share for each episode, so that one player's walks are of mixed quality;
    without it any move is as likely as any other, walls too."""
    away = of.distances()

    def player(row: Mapping[str, Any], rng: random.Random) -> Any:
        share, before = wandering(rng) if wandering else 1.0, list[Cell]()

        async def walk(heard: Sequence[Message], tools: Any) -> str:
            found = AT.search(heard[-1].content)
            assert found
            at = (int(found[1]), int(found[2]))
            before.append(at)
            if wandering is None:
                return rng.choice(list(MOVES))
            if rng.random() >= share:
                return min(MOVES, key=lambda move: (away[of.step(at, move)], rng.random()))
            ways = [move for move in MOVES if of.step(at, move) != at]
            onward = [move for move in ways if of.step(at, move) not in before[-2:-1]]
            return rng.choice(onward or ways)

        return walk

    return player


def _cells(size: int) -> list[Cell]:
    return [(row, column) for row in range(1, size + 1) for column in range(1, size + 1)]


def _beside(at: Cell, move: str) -> Cell:
    return at[0] + MOVES[move][0], at[1] + MOVES[move][1]
