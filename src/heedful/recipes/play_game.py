"""A person plays a game in the terminal, or a player does: a play is a clip, and two of the same game a comparison."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np

from heedful.configs.play import Config
from heedful.control.filming import filmed
from heedful.control.games import load_game
from heedful.control.players import NAMED, load_player_of
from heedful.control.terminal import Hand
from heedful.data.clips import as_text
from heedful.data.files import add_rows


def run(config: Config) -> Path | None:
    """Returns the file of clips, if one was asked for. Task n is the same game whoever plays it."""
    spec, player = config.game, NAMED.get(config.player or "random")
    if player is None:
        player, spec = load_player_of(Path(config.player or ""), spec)
    game, person = load_game(spec), None if config.player else Hand()
    with person or nullcontext():
        for number in range(config.task, config.task + config.limit):
            seed = int(np.random.default_rng((config.seed, number)).integers(2**31))
            clip, score = filmed(game, spec, person or player, seed)
            if not clip.moves:
                break
            row = {
                "prompt": f"Which of the two plays better? ({spec}, game {number} of seed {config.seed})",
                "completion": as_text(clip),
                "model": config.player or config.name,
                "reward": score,
            }
            if config.out is not None:
                add_rows(config.out, row)
            print(
                f"game {number}: {len(clip.moves)} moves, {game.over or 'left off'}, return {score:g}",
                flush=True,
            )
            if not game.over:
                break
    return config.out
