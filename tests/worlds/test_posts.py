"""`posts`: gold by hand, and what is in its files."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from heedful.data.sources import read_demonstrations, read_prompts, read_texts
from heedful.errors import UserError
from heedful.worlds import posts, scorer, voices

POST = (
    "It rained all week. Yesterday my boss ate my lunch. My uncle only shrugged. Should I wait?\n"
)


@pytest.mark.parametrize(
    "summary, worth, voice",
    [
        ("TL;DR: My boss ate my lunch. Should I wait?", 1.0, "whole"),
        ("My boss ate my lunch. Should I wait?", 1.0, "whole"),  # TL;DR counts nothing
        ("TL;DR: My boss ate my lunch.", 2 / 3, "partial"),
        ("TL;DR: Should I wait?", 1 / 3, "partial"),
        ("TL;DR: My boss ate my lunch. It rained all week. Should I wait?", 0.9, "wordy"),
        ("TL;DR: My uncle ate my lunch. Should I wait?", 2 / 3 - 0.5, "wrong"),
        ("TL;DR: My boss cut my hedge. Should I shout?", 1 / 3 - 1, "wrong"),
        ("TL;DR: My boss ate my lunch. Should I wait?" + " well" * 22, 1 - 0.2, "whole"),
        ("", 0.0, "empty"),
    ],
)
def test_gold(summary: str, worth: float, voice: str):
    """Mutation caught: the bystander counted as right, TL;DR counted as a word or worth something."""
    assert posts.gold(POST, summary) == pytest.approx(worth)
    assert posts.voice(POST, summary) == voice
    assert scorer("posts") is posts.gold and voices("posts") is posts.voice


def test_habits_are_what_they_are_called():
    """Each of 200 posts has a summary with full marks, and only what is mixed up is wrong."""
    rng = random.Random(0)
    for post in islice(posts.posts("train", 0), 200):
        said = {habit: posts.summary(post, habit, rng) for habit in posts.HABITS}
        worth = {habit: posts.gold(post.text, text) for habit, text in said.items()}
        assert worth["whole"] == 1.0 and worth["wordy"] == pytest.approx(0.9)
        assert worth["no question"] == pytest.approx(2 / 3) and worth["mixed up"] < 0.34
        assert all(text.startswith("TL;DR: ") for text in said.values())


def test_files(tmp_path):
    """Nobody writes TL;DR in the raw text; no post of training asks, of the same person and deed, what a held-out one
    does; people's summaries are of the held-out posts, in their order."""
    a, b = (posts.write(tmp_path / n, seed=3, documents=300, demonstrations=50) for n in "ab")
    assert all(a[name].read_bytes() == b[name].read_bytes() for name in a)
    assert not any("TL;DR" in text for text in read_texts(a["text"]))
    demonstrated = read_demonstrations(a["demonstrations"])
    assert all(d.completion.startswith("TL;DR: ") for d in demonstrated)

    def facts(prompt):
        post = posts.post_of(prompt)
        return post.who, post.did, post.ask

    held = read_prompts(a["held_out"])
    known = {facts(p) for p in (*read_prompts(a["prompts"]), *(d.prompt for d in demonstrated))}
    assert not known & {facts(p) for p in held}
    assert [d.prompt for d in read_demonstrations(a["people"])] == held
    with pytest.raises(UserError, match="does not know the post"):
        posts.gold("Hello", "TL;DR: hello")
