"""What people find alike is learned from triplets; of what is sampled, the best of each kind is kept."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch

import tiny
from heedful.evals.similarity import Similarity, elites
from heedful.models.pooled import mean_states

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


def test_the_mean_of_a_models_states():
    """Each text by itself gives the same, as `transformers` calls the model. Mutations caught: padding in the mean,
    texts in another order, the last state, a special token that is put before."""
    tokenizer = tiny.tokenizer()
    model, texts = tiny.policy(tokenizer), ["Eight.", "", tiny.TEXT[0], "2 + 2 = 4", "Lima " * 200]
    found = mean_states(model, tokenizer, texts)
    for k, text in enumerate(texts):
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].long()
        if not text:
            assert not found[k].any()
            continue
        with torch.no_grad():
            states = model.model(ids[:, :128]).last_hidden_state[0]
        expected = torch.nn.functional.normalize(states.mean(0), dim=0)
        torch.testing.assert_close(found[k], expected, atol=1e-5, rtol=1e-4)


def test_similarity_of_states_is_learned():
    """Of a model that nobody has trained. Mutation caught: a map of words, whatever is asked for."""
    tokenizer = tiny.tokenizer()
    by_states = partial(mean_states, tiny.policy(tokenizer), tokenizer)
    held = triplets(100, 1)
    learned = Similarity(by_states, 32).fit(triplets(200, 0))
    right = learned.right(held)
    assert learned.places(["a"]).shape == (1, 8) and right > 70, right


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
