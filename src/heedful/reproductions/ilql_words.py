"""Offline value learning against cloning the same logged games: what somebody thinks of, by questions and guesses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from heedful.reproductions import Figure, Reproduction, Result, offline
from heedful.reproductions.offline import BEST, CRITERIA, MODEL, VALUES, Logs, Stage, cloning

WIDTH, BATCH = 64, 32  # of the model; episodes in a step
THINGS, QUESTIONS = 8, 6  # of which one is thought; turns until a game is lost
GAMES, EPISODES = 8000, 96  # logged games; episodes of each thing in an evaluation
TEMPERATURES, BETAS, RETURNS = (1.0, 0.5, 0.25), (4.0, 8.0, 16.0), (-1.0, -2.0, -3.0)
LEARNED = {
    **VALUES,
    "q_weight": 0.5,
    "v_weight": 0.5,
    "cql_weight": 0.005,
    "expectile": 0.7,
    "learning_rate": 3e-3,
    "epochs": 11,
    "gamma": 1.0,
    "batch_size": BATCH,
}
PLAYED = {"learning_rate": 3e-3, "epochs": 2, "batch_size": BATCH}
ONLINE = {"learning_rate": 1e-3, "steps": 120, "batch_size": 128, "group_size": 16, "beta": 0.0}
STAGES = {
    "BC": cloning("model", "all", 4e-3, 8, TEMPERATURES, BATCH),
    "filtered BC": cloning("BC", "best", 1e-3, 4, TEMPERATURES, BATCH),
    "ILQL": Stage("train ilql", "BC", "all", LEARNED, "value_weight", BETAS),
    "return-conditioned": Stage("train decision", "BC", "all", PLAYED, "target_return", RETURNS),
    "online RL": Stage("train rloo", "filtered BC", "", ONLINE, "temperature", TEMPERATURES),
}


def logs(seed: int) -> Logs:
    """Games by players who guess before they know, and mostly say again what was wrong."""
    options = (f"count={THINGS}", f"questions={QUESTIONS}", "told=0")
    return Logs(
        {"env": "twenty_questions", "env_options": options},
        "stubborn",
        GAMES,
        QUESTIONS,
        width=WIDTH,
        vocabulary=512,
        context=256,
        longest=8,
        repeats=EPISODES,
        stages=STAGES,
    )


def run(seed: int, folder: Path, quick: bool) -> Result:
    """Each way's mean return, and that of the best there is."""
    return offline.compared(logs(seed), seed, folder, quick) | {"best play": best_play()}


def best_play() -> float:
    """The mean return of the best play, exactly: what may be thought of is what is left, and each answer parts it."""
    from heedful.envs.twenty_questions import QUESTIONS as ASKED
    from heedful.envs.twenty_questions import THINGS as ALL
    from heedful.envs.twenty_questions import answer

    things = frozenset(list(ALL)[:THINGS])
    alike = [frozenset(thing for thing in things if answer(q, thing)) for q in ASKED]

    @cache
    def cost(left: frozenset[str], number: int) -> int:
        """Of all that is left together."""
        if not left or not number:
            return 0
        guesses = [len(left) - 1 + cost(left - {thing}, number - 1) for thing in left]
        parts = [(left & yes, left - yes) for yes in alike if left & yes and left - yes]
        asks = [len(left) + cost(yes, number - 1) + cost(no, number - 1) for yes, no in parts]
        return min(guesses + asks)

    return -cost(things, QUESTIONS) / THINGS


def figure(seeds: Sequence[Result]) -> Figure:
    """Each way's return, over the seeds."""
    title = f"Mean return in a game of {THINGS} things, each at its best arm"
    return offline.drawn(seeds, title, "a question or a wrong guess costs 1", "best play")


REPRODUCTION = Reproduction(
    name="ilql-words",
    claim="From the same logged games of mixed quality, implicit language Q-learning finds out what somebody thinks of "
    "in fewer turns than a clone of the best of them, and that in fewer than a clone of all, each at its best "
    "temperature.",
    source="Snell et al. 2022, section 6 (Wordle, and a visual dialogue of questions); twenty questions as in Abdulhai "
    "et al. 2023",
    what=f"`twenty_questions`: one of {THINGS} things is to be found in at most {QUESTIONS} turns, and nothing is told "
    f"before the first. {GAMES} games by players who rather guess, anything that it may still be, than that they ask "
    "what parts it best, and who say again a guess that was just wrong, in three, six or nine tenths of such turns by "
    f"the game. A Llama of {MODEL['layers']} layers and width {WIDTH} from random weights clones them (BC), and goes "
    f"on from there to clone the best {BEST:.0%} (filtered BC), to learn values (ILQL), to play for a return, or to "
    f"play and be rewarded itself, which logs do without (RLOO, {ONLINE['steps']} rounds of {ONLINE['batch_size']} "
    f"games; no criterion). Cloners and RLOO at temperatures of {', '.join(map(str, TEMPERATURES))}, ILQL at β of "
    f"{', '.join(map(str, BETAS))}, returns of {', '.join(f'{r:g}' for r in RETURNS)}; {EPISODES} games of each thing, "
    "each way at its best. The best play is exact. Where slips are of all kinds, a clone at a low temperature leaves "
    "them out by itself and nothing is left to win (a pilot with another game); here it falls into the habit. Sizes, "
    "weights of losses and steps are from two pilots on other seeds.",
    frozen="2026-11-30",
    criteria=CRITERIA,
    run=run,
    minutes=20,
    figure=figure,
)  # fmt: skip
