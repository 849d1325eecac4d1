"""Control from comparisons: a reward from clips that people compared, and a player that maximises it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from heedful.configs.segments import Config
from heedful.control.filming import moves_of
from heedful.control.games import Game, load_game
from heedful.control.players import load_player, write_player
from heedful.control.segments import Compared, Learned, Optimiser, fit, play
from heedful.data import clips
from heedful.data.reading import named
from heedful.data.sources import read_comparisons
from heedful.errors import UserError
from heedful.models.sampling import derive_seed
from heedful.run import Run, check_out, metrics_of
from heedful.transfer.sources import materialise
from heedful.types import Comparison


def run(config: Config) -> Path:
    """Returns the run's folder, which then holds the player and its rewards."""
    check_out(config)
    source = materialise(config.data, "rankings", noun="comparisons of clips")
    spec, compared = _compared(named(config.data), read_comparisons(source, columns=config.columns))
    games = [load_game(spec) for _ in range(config.episodes)]
    player = _begun(config, spec, games[0])
    optimiser = Optimiser(player, config.learning_rate)
    stateful = {"adam": optimiser.adam, **player.parts()}
    with Run(
        config.out, config, total_steps=config.iterations, quiet=config.quiet, report_to=config.report_to,
        show=("return", "reward"),
    ) as run_:  # fmt: skip
        done = run_.restore(stateful)
        if not done:
            right = fit(player, compared, config.seed)
            ties = sum(c.preferred == 0.5 for c in compared)
            print(
                f"{len(compared)} comparisons of {spec}, {ties} of them ties; {right:.0%} of the others fitted"
            )
        for step in range(done + 1, config.iterations + 1):
            rng = np.random.default_rng(derive_seed(config.seed, step))
            seeds = [int(s) for s in rng.integers(2**31, size=len(games))]
            run_.log(step, optimiser.step(play(player, games, seeds, rng), rng, learned=True))
            run_.keep(step, stateful)
        run_.finish(lambda place: write_player(place, "segments", spec, player))
    returns = [row["return"] for row in metrics_of(config.out)]
    print(f"return {returns[0]:.1f} → {returns[-1]:.1f}, which was never learned from")
    return config.out


def _begun(config: Config, spec: str, game: Game) -> Learned:
    if not config.model:
        game.reset(config.seed)
        return Learned(game.choices().shape[1], config.seed)
    player, about = load_player(Path(config.model))
    if about["player"] != "segments" or about["game"] != spec:
        raise UserError(
            f"--model {config.model} is a player of {about['game']} by `train {about['player']}`; the clips are of "
            f"{spec}"
        )
    return player


def _compared(source: str, comparisons: Sequence[Comparison]) -> tuple[str, list[Compared]]:
    """What is played, and every pair of clips that was compared, by the features of their moves."""
    found, games = list[Compared](), dict[str, Game]()
    for comparison in comparisons:
        shown = [clips.read(text, source) for text in comparison.responses]
        for spec in {clip.game for clip in shown} - games.keys():
            games[spec] = load_game(spec)
        if len(games) > 1:
            raise UserError(
                f"{source}: the clips are of {' and '.join(games)}; a player is of one game"
            )
        moves = [moves_of(games[clip.game], clip) for clip in shown]
        for i, j in combinations(range(len(shown)), 2):
            first, second = comparison.ranking[i], comparison.ranking[j]
            if first is None and second is None:
                continue  # in no order with each other
            first, second = comparison.places[i], comparison.places[j]
            preferred = 0.5 if first == second else float(first < second)
            found.append(Compared(moves[i], moves[j], preferred))
    return next(iter(games)), found
