"""Do cues tell what people thought of a conversation? python docs/results/cue_weights.py DATASET

DATASET is dataset.json of the package chitchat-dataset (MIT): conversations of people, many of which one of the two
has rated from 0 to 10 as witty, upbeat and interesting; who spoke first counts as the user. Prints as JSON what
`heedful cues --fit` finds for the mean of the three: by all cues and by sentiment alone, of all ratings, and of those
that are not the form's default of 5 thrice. Conversations in which one of the two said nothing are left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

from heedful.envs import cues
from heedful.evals.cue_weights import fitted
from heedful.recipes.cues import exchanges
from heedful.types import Message

CUES = ("sentiment", "words", "laughs", "leaves", "questions")
DEFAULT = 5.0


def main() -> None:
    heeded = cues.read(" ".join(CUES))
    means, ratings = [], []
    for talk in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")).values():
        said, rating = messages(talk), talk.get("ratings")
        if said and rating:
            given = [cues.worth(heeded, one) for _, one in exchanges(said, with_ends=True)]
            means.append([fmean(one[name] for one in given) for name in CUES])
            ratings.append(fmean(rating.values()))
    print(json.dumps({
        f"{which}, {', '.join(CUES[:number])}": fit(
            [row[:number] for row, use in zip(means, used, strict=True) if use],
            [y for y, use in zip(ratings, used, strict=True) if use],
        )
        for which, used in {
            "all ratings": [True] * len(ratings),
            "without the default": [y != DEFAULT for y in ratings],
        }.items()
        for number in (1, len(CUES))
    }, indent=1))  # fmt: skip


def messages(talk: dict) -> tuple[Message, ...]:
    sides = [
        (turn[0]["sender"], " ".join(m["text"] for m in turn)) for turn in talk["messages"] if turn
    ]
    if len({who for who, _ in sides}) != 2:
        return ()
    return tuple(
        Message("user" if who == sides[0][0] else "assistant", text) for who, text in sides
    )


def fit(x: list[list[float]], y: list[float]) -> dict:
    found = fitted(x, y)
    each = zip(CUES, found.weights, found.intervals, strict=False)
    return {
        "rated": found.rated,
        "held_out_spearman": round(found.correlation, 3),
        "weights": {name: [round(w, 3), [round(end, 3) for end in ends]] for name, w, ends in each},
    }


if __name__ == "__main__":
    main()
