"""What people find alike is learned from triplets; of what is sampled, the best of each kind is kept."""

from __future__ import annotations

import random

import pytest
import torch

from heedful.evals.similarity import Similarity, elites

TOPICS = {
    "sea": ("wave", "ship", "salt"),
    "sky": ("cloud", "wind", "star"),
    "soil": ("root", "worm", "stone"),
}
NOISE = [f"word{k}" for k in range(12)]


def triplets(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Closer is what is of the same topic, whatever else the texts share."""
    rng = random.Random(seed)

    def text(topic: str) -> str:
        words = [rng.choice(TOPICS[topic]), *rng.sample(NOISE, 5)]
        rng.shuffle(words)
        return " ".join(words)

    found = []
    for _ in range(count):
        same, other = rng.sample(list(TOPICS), 2)
        found.append((text(same), text(same), text(other)))
    return found


def test_similarity_is_learned():
    """Mutation caught: near and far exchanged; a map that is never moved; accuracy on what was learned from."""
    held = triplets(200, 1)
    plain = Similarity().right(held)
    learned = Similarity().fit(triplets(300, 0)).right(held)
    assert plain < 140 and learned > 190, (plain, learned)


def test_elites_are_the_best_of_their_kind():
    """Mutation caught: the first of a cell, the best of all, as many as were asked where there are fewer kinds."""
    places = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0]])
    assert elites(places, [1, 2, 4, 3, 0], 3) == [1, 2, 4]
    assert elites(places, [1, 2, 4, 3, 0], 2) in ([1, 2], [1, 4], [0, 2])
    assert elites(torch.zeros(4, 1), [0, 3, 1, 2], 3) == [1]
    assert elites(places, [0.0] * 5, 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("text", ["", "ä", "\ud800"])
def test_any_text_has_a_place(text: str):
    assert Similarity().places([text, "a b"]).isfinite().all()
