"""Statements that people agree with or not: users are signs over a few axes, as in collections of persona statements.

A statement takes one side of an axis, by a phrase and a subject; combinations of the two are held out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal

SUBJECTS = {  # of each axis what one half of the people like, and what the other half
    "company": (("parties", "crowds", "guests", "clubs"), ("silence", "solitude", "reading", "hermits")),
    "novelty": (("far places", "odd music", "new food", "strange books"), ("home", "old songs", "bread", "habits")),
    "order": (("lists", "plans", "tidy desks", "rules"), ("chaos", "whims", "messy rooms", "surprises")),
    "risk": (("gambling", "cliffs", "rapids", "bold bets"), ("savings", "helmets", "shallows", "insurance")),
}  # fmt: skip
PHRASES = ("I love {}.", "I seek {}.", "Give me {}!", "I enjoy {}.")
ASKED = "Which is more like you?"


def statement(
    axis: str, side: bool, split: Literal["train", "held_out"], rng: random.Random
) -> str:
    """One of a split: every fourth combination of phrase and subject is held out."""
    subjects = SUBJECTS[axis][side]
    chosen = [
        (p, s) for p in range(len(PHRASES)) for s in range(len(subjects))
        if ((p + s) % len(PHRASES) == 0) == (split == "held_out")
    ]  # fmt: skip
    phrase, subject = rng.choice(chosen)
    return PHRASES[phrase].format(subjects[subject])


def rows(
    split: Literal["train", "held_out"], users: int, each: int, axes: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Comparisons by `users` people of `each`: of two statements on one axis they take the one that they agree with."""
    names = sorted(SUBJECTS)[:axes]
    for user in range(users):
        rng = random.Random(f"personas/{split}/{seed}/{user}")
        signs = {axis: rng.random() < 0.5 for axis in names}
        for _ in range(each):
            axis = rng.choice(names)
            chosen, rejected = (
                statement(axis, side, split, rng) for side in (signs[axis], not signs[axis])
            )
            yield {
                "prompt": ASKED,
                "chosen": chosen,
                "rejected": rejected,
                "rater": f"{split} {user}",
            }
