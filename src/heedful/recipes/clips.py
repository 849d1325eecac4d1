"""Clips of a game for people: to compare, or to press keys at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from heedful.configs.clips import Config
from heedful.control.filming import cut, filmed, moves_of
from heedful.control.games import Game, load_game
from heedful.control.players import NAMED, load_player_of
from heedful.data.clips import Clip, as_text
from heedful.data.files import write_rows
from heedful.errors import UserError

ASKED = {True: "Which of the two plays better?", False: "Say what is good and what is bad."}


def run(config: Config) -> Path:
    """Returns the file: rows with a prompt, the clip as its completion, and who played."""
    player, spec = NAMED.get(config.model), config.game
    if player is None:
        player, spec = load_player_of(Path(config.model), spec)
    if config.candidates > 1 and not hasattr(player, "rewards"):
        raise UserError(f"--candidates: --model {config.model} has no rewards that could disagree")
    game = load_game(spec)
    rng = np.random.default_rng(config.seed)
    scores: list[float] = []

    def clip() -> Clip:
        whole, score = filmed(game, spec, player, int(rng.integers(2**31)))
        scores.append(score)
        shown = cut(whole, config.steps, rng) if config.steps else whole
        return replace(shown, ms=config.ms or shown.ms)

    drawn = [
        [clip() for _ in range(1 + config.pairs)] for _ in range(config.count * config.candidates)
    ]
    if config.candidates > 1:
        drawn = most_disputed(player, game, drawn, config.count)
    rows = [
        {
            "prompt": f"{ASKED[config.pairs]} ({spec}, clip {number} of seed {config.seed})",
            "completion": as_text(one),
            "model": config.model,
        }
        for number, shown in enumerate(drawn, 1)
        for one in shown
    ]
    write_rows(config.out, rows)
    print(f"{len(rows)} clips of {spec} by {config.model}, mean return {fmean(scores):.2f}")
    return config.out


def most_disputed(
    player: Any, game: Game, pairs: Sequence[list[Clip]], count: int
) -> list[list[Clip]]:
    """Those pairs of which the members of a player's rewards disagree most, in the order in which they were drawn."""
    from heedful.control.segments import disagreement  # brings PyTorch

    doubts = [disagreement(player, *(moves_of(game, clip) for clip in pair)) for pair in pairs]
    chosen = sorted(range(len(pairs)), key=lambda k: -doubts[k])[:count]
    return [pairs[k] for k in sorted(chosen)]
