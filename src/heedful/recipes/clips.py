"""Clips of a game for people: to compare, or to press keys at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from heedful.configs.clips import Config
from heedful.control.filming import cut, filmed
from heedful.control.games import load_game
from heedful.control.players import NAMED, load_player_of
from heedful.data.clips import as_text
from heedful.data.files import write_rows

ASKED = {True: "Which of the two plays better?", False: "Say what is good and what is bad."}


def run(config: Config) -> Path:
    """Returns the file: rows with a prompt, the clip as its completion, and who played."""
    player, spec = NAMED.get(config.model), config.game
    if player is None:
        player, spec = load_player_of(Path(config.model), spec)
    game = load_game(spec)
    rng = np.random.default_rng(config.seed)
    rows, scores = [], []
    for number in range(config.count):
        prompt = f"{ASKED[config.pairs]} ({spec}, clip {number + 1} of seed {config.seed})"
        for _ in range(1 + config.pairs):
            clip, score = filmed(game, spec, player, int(rng.integers(2**31)))
            scores.append(score)
            clip = cut(clip, config.steps, rng) if config.steps else clip
            clip = replace(clip, ms=config.ms or clip.ms)
            rows.append({"prompt": prompt, "completion": as_text(clip), "model": config.model})
    write_rows(config.out, rows)
    print(f"{len(rows)} clips of {spec} by {config.model}, mean return {fmean(scores):.2f}")
    return config.out
