"""Players in folders: what `heedful train tamer` and `train segments` leave, and who else may play."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from heedful.control.games import Game, load_game
from heedful.control.tamer import Tamer
from heedful.data.files import write_rows
from heedful.disk import write_folder
from heedful.errors import UserError

Player = Callable[[Game, np.random.Generator], int]
ABOUT, ARRAYS, LOG = "player.json", "player.safetensors", "games.jsonl"


def by_chance(game: Game, rng: np.random.Generator) -> int:
    """Any of the moves."""
    return int(rng.integers(len(game.choices())))


def advised(game: Game, rng: np.random.Generator) -> int:
    """What the player who was written by hand does; UserError where there is none."""
    advice = game.advice()
    if advice is None:
        raise UserError(f"{type(game).__name__}: nobody has written a player for this game")
    return int(advice.argmax())


NAMED: Mapping[str, Player] = {"random": by_chance, "advised": advised}


def played(game: Game, player: Player, seed: int) -> float:
    """What a player earns in one game."""
    rng, score = np.random.default_rng(seed), 0.0
    game.reset(seed)
    while not game.over:
        score += game.step(player(game, rng))
    return score


def save_player(
    folder: Path, kind: str, game: str, player: Any, log: Iterable[Mapping[str, Any]] = ()
) -> None:
    """A folder that is whole, or as it was before; `log` has a row for each game so far."""

    def write(place: Path) -> None:
        write_player(place, kind, game, player)
        if rows := list(log):
            write_rows(place / LOG, (dict(row) for row in rows))

    write_folder(folder, write)


def write_player(place: Path, kind: str, game: str, player: Any) -> None:
    """The player's files, into a folder that nobody reads yet."""
    about, arrays = player.state()
    known = {"player": kind, "game": game} | about
    (place / ABOUT).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    (place / ARRAYS).write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))


def load_player(folder: Path) -> tuple[Any, dict[str, Any]]:
    """What `write_player` wrote, to play or to go on from, and what it says about itself: `player`, `game`."""
    if not (folder / ABOUT).is_file():
        raise UserError(
            f"{folder}: no player; `heedful train tamer` and `train segments` leave one"
        )
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
        if about["player"] == "tamer":
            return Tamer.of(about, arrays), about
        from heedful.control.segments import Learned  # brings PyTorch

        return Learned.of(about, arrays), about
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: no player that `heedful train tamer` or `train segments` has left ({error})"
        ) from None


def load_player_of(folder: Path, spec: str) -> tuple[Any, str]:
    """A player that `load_player` reads, and the game it is to play: `spec`, by default its own. UserError where its
    weights are of other features than the game has, as of a wider board."""
    player, about = load_player(folder)
    spec = spec or about["game"]
    game = load_game(spec)
    game.reset(0)
    if game.choices().shape[1] != player.features:
        raise UserError(f"--game {spec}: the player in {folder} is of {about['game']}")
    return player, spec
