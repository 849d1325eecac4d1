"""TAMER: a player that learns from key presses, live in the terminal, of a simulated trainer, or at clips."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from heedful.configs.tamer import Config
from heedful.control.games import Game, load_game
from heedful.control.players import LOG, load_player, save_player
from heedful.control.tamer import Press, Tamer
from heedful.control.terminal import Person
from heedful.control.trainers import Simulated, again, imitated, taught
from heedful.data import clips
from heedful.data.files import read_rows
from heedful.data.reading import named, read_items, read_table
from heedful.errors import UserError
from heedful.transfer.sources import materialise

TRAINERS = 2**32  # above the seeds of games, which are drawn from otherwise
PRESSED = re.compile(r"(good|bad) after (\d{1,2}\.\d{3}) s")


def run(config: Config) -> Path:
    """Returns the folder with the player."""
    return _from_clips(config) if config.data else _live(config)


def _live(config: Config) -> Path:
    """Games in which the player learns from each press; saved after each, and when somebody leaves off."""
    player, spec, log = _begun(config)
    game = load_game(spec)
    player = player or _new(config, game)
    person = Person() if config.trainer == "person" else None
    most, seconds = config.presses or None, (config.ms or game.ms) / 1000
    with person or nullcontext():
        for _ in range(config.games):
            if most is not None and player.presses >= most:
                break
            seed = config.seed + len(log)
            # Of each game anew, so that who goes on is taught as by a trainer who never left.
            trainer = person or Simulated(TRAINERS + seed)
            try:
                told = taught(game, player, trainer, seed, seconds=seconds, most=most)
            except KeyboardInterrupt:
                save_player(config.out, "tamer", spec, player, log)
                break
            log.append(told.row())
            save_player(config.out, "tamer", spec, player, log)
            print(
                f"game {len(log)}: return {told.score:g}, {player.presses} presses so far",
                flush=True,
            )
    return config.out


def _begun(config: Config) -> tuple[Tamer | None, str, list[dict[str, Any]]]:
    """The player to go on with, what is played, and the games so far."""
    if not config.out.exists():
        return None, config.game, []
    player, about = load_player(config.out)
    if about["player"] != "tamer" or (config.game and config.game != about["game"]):
        raise UserError(
            f"--out {config.out} has a player of {about['game']} that another command or game has trained; choose "
            "another folder"
        )
    path = config.out / LOG
    return player, about["game"], [row for _, row in read_rows(path)] if path.exists() else []


def _new(config: Config, game: Game) -> Tamer:
    game.reset(config.seed)
    return Tamer(game.choices().shape[1], (config.delay_from, config.delay_to), config.ridge)


def _from_clips(config: Config) -> Path:
    """Fitted to all presses at once, whoever made them."""
    if (config.out / LOG).exists():
        raise UserError(f"--out {config.out} was taught by presses at games; choose another folder")
    source = materialise(config.data, "critiques", noun="presses")
    pressed: dict[str, list[Press]] = {}
    for text, press in read_items(source, read_table(source, config.columns), _press):
        pressed.setdefault(text, []).extend([press] if press else [])
    seen = [(clips.read(text), presses) for text, presses in pressed.items()]
    specs = sorted({clip.game for clip, _ in seen})
    if len(specs) > 1 or (config.game and specs != [config.game]):
        asked = f", not of {config.game}" if config.game else "; a player is of one game"
        raise UserError(f"{named(source)}: the clips are of {', '.join(specs)}{asked}")
    game = load_game(spec := specs[0])
    player = _new(config, game)
    for clip, presses in seen:
        if presses:
            again(game, player, clip, presses)
        else:
            imitated(game, player, clip)
    save_player(config.out, "tamer", spec, player)
    shown = sum(not presses for presses in pressed.values())
    told = f", {shown} of them demonstrations, whose moves are counted as presses" if shown else ""
    print(f"{player.presses} presses at {len(pressed)} clips of {spec}{told}")
    return config.out


def _press(where: str, row: Mapping[str, Any]) -> Iterator[tuple[str, Press | None]]:
    """A row of `heedful export critiques`: a clip, a frame of it, and what was pressed how long after it came up. A
    clip alone, as `heedful play --game` writes it, is a demonstration."""
    text, start = row.get("completion"), row.get("start")
    if isinstance(text, str) and "critique" not in row:
        clips.read(text, where)
        yield text, None
        return
    found = PRESSED.fullmatch(str(row.get("critique")))
    if not isinstance(text, str) or not found:
        raise UserError(
            f"{where}: expected a press at a clip, such as `good after 0.420 s` in `critique`"
        )
    clip = clips.read(text, where)
    frame = clips.frame_of(text, start) if type(start) is int else None
    if frame is None or frame >= len(clip.frames):
        raise UserError(f"{where}: `start` is in none of the clip's frames")
    yield text, Press(frame * clip.ms / 1000 + float(found[2]), 1.0 if found[1] == "good" else -1.0)
