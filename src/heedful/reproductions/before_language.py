"""Control from people, before language: key presses, and comparisons of clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

PRESSES, PIECES, TETRIS_GAMES = 600, 150, 20
COMPARISONS, ROUNDS, SEGMENT, ERRORS = 100, 4, 25, 0.1
ITERATIONS, EPISODES, CONVERGED, POLE_GAMES = 45, 16, 500.0, 20
ARMS = {True: "cart-pole from comparisons", False: "cart-pole from its true reward"}


def run(seed: int, folder: Path, quick: bool) -> Result:
    """Lines of TAMER's pupil and of its teacher; steps of cart-pole's two players, and of their updates."""
    found = dict(taught_tetris(seed, quick))
    for learned, arm in ARMS.items():
        found |= trained_pole(seed, quick, learned, arm)
    return found


def taught_tetris(seed: int, quick: bool) -> dict[str, Any]:
    """As many presses as the criterion says, and then games of which nothing is learned."""
    from heedful.control.games import load_game
    from heedful.control.players import advised, by_chance, played
    from heedful.control.tamer import Tamer
    from heedful.control.trainers import Simulated, taught

    game = load_game(f"tetris(pieces={20 if quick else PIECES})")
    player, trainer, number = Tamer(game.choices().shape[1]), Simulated(seed), 0
    most = 20 if quick else PRESSES
    while player.presses < most:
        taught(game, player, trainer, 10_000 * (seed + 1) + number, most=most)
        number += 1
    new = range(2 if quick else TETRIS_GAMES)
    lines = {
        name: sum(played(game, who, 5_000_000 + 1000 * seed + k) for k in new) / len(new)
        for name, who in (("pupil", player), ("teacher", advised), ("chance", by_chance))
    }
    shares = {f"Tetris: lines of the {name}": value for name, value in lines.items()}
    share = lines["pupil"] / lines["teacher"] if lines["teacher"] else 0.0
    return shares | {
        "Tetris: games until then": number,
        "Tetris: share of its teacher's lines": share,
    }


def trained_pole(seed: int, quick: bool, learned: bool, arm: str) -> dict[str, Any]:
    """PPO on rewards that were fitted to comparisons in four rounds, or on the true one; then new games, greedily."""
    import numpy as np

    from heedful.control.comparing import by_return
    from heedful.control.games import load_game
    from heedful.control.players import played
    from heedful.control.segments import Compared, Learned, Optimiser, fit, play

    games = [load_game("cartpole") for _ in range(4 if quick else EPISODES)]
    rng, player = np.random.default_rng([seed, learned]), Learned(games[0].choices().shape[1], seed)
    optimiser, compared, curve = Optimiser(player), list[Compared](), list[float]()
    updates = ROUNDS if quick else ITERATIONS
    for number in range(updates):
        seeds = [int(s) for s in rng.integers(2**31, size=len(games))]
        games_played = play(player, games, seeds, rng)
        if learned and len(compared) < COMPARISONS * (number * ROUNDS // updates + 1) // ROUNDS:
            compared += by_return(games_played, COMPARISONS // ROUNDS, SEGMENT, ERRORS, rng)
            fit(player, compared, seed)
        curve.append(optimiser.step(games_played, rng, learned=learned)["return"])
    new = range(2 if quick else POLE_GAMES)
    steps = sum(played(games[0], player, 5_000_000 + 1000 * seed + k) for k in new) / len(new)
    found = {
        f"curve of {arm}": curve,
        f"{arm}: steps": steps,
        f"{arm}: of converged": steps / CONVERGED,
    }
    ties = sum(c.preferred == 0.5 for c in compared)
    return found | ({f"{arm}: comparisons": len(compared), f"{arm}: ties": ties} if learned else {})


def figure(seeds: Sequence[Result]) -> Figure:
    """Steps that the pole stands, by updates."""
    lines = {}
    for arm in ARMS.values():
        curves = [s[f"curve of {arm}"] for s in seeds]
        lines[arm] = [(k + 1.0, sum(c) / len(c)) for k, c in enumerate(zip(*curves, strict=True))]
    return Figure(
        "Cart-pole: steps of the policy as it is trained, of 500", "updates", "steps", lines
    )


REPRODUCTION = Reproduction(
    name="before-language",
    claim="People teach a player of a game without any reward of the game's: by pressing keys for good and bad while "
    "it plays, and by saying which of two short clips is better.",
    source="Knox & Stone 2009 (TAMER, Tetris); Christiano et al. 2017 (segments; Atari there, cart-pole here)",
    what=f"Tetris of {PIECES} pieces: a simulated trainer, who goes by Dellacherie's player, presses good or bad at "
    f"70 % of the moves, .2 to .8 s late, and slips at 10 % of the presses; after {PRESSES} presses the pupil plays "
    f"{TETRIS_GAMES} new games, and so does the teacher. Cart-pole: {COMPARISONS} comparisons, in {ROUNDS} rounds, of "
    f"segments of up to {SEGMENT} steps by somebody who sees their returns alone, calls equal ones a tie and errs at "
    f"{ERRORS:.0%} of the others; an ensemble of 3 rewards, PPO of {ITERATIONS} updates from {EPISODES} games each; "
    f"the same PPO on the true reward beside it. Converged is the most there is, {CONVERGED:g} steps. This is a second "
    "try, after a look at a first, in which one policy of four fell at once (.74 [.26, 1.0] of converged): rewards "
    "were scaled by their standard deviation, which makes one endless that calls all moves of a good player alike, and "
    "are now by their root mean square. That was seen on another seed; all else, and the criteria, are the same.",
    frozen="2026-11-30",
    criteria=(
        Criterion("lines after 600 presses, of the teacher's", "Tetris: share of its teacher's lines", "at least", 0.6),
        Criterion("steps after 100 comparisons, of converged", f"{ARMS[True]}: of converged", "at least", 0.8),
    ),
    run=run,
    minutes=5,
    figure=figure,
)  # fmt: skip
