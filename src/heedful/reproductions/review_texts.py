"""Film reviews from a model of word trigrams, and what noisy raters say of them: many responses in seconds."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.reproductions.review_rewards import READS, Reward, bags, worth

if TYPE_CHECKING:
    from numpy.typing import NDArray

Judged = list[tuple[str, str]]  # better and worse responses


class Trigrams:
    """The next word is one that followed the last two words somewhere, or, three times in ten, the last one."""

    MOST = 40  # words of a response
    END = "</s>"

    def __init__(self, texts: Iterable[str]) -> None:
        self.after: dict[tuple[str, ...], list[str]] = {}
        for text in texts:
            words = [*text.split(), self.END]
            for k, word in enumerate(words[1:], start=1):
                for context in {(words[k - 1],), tuple(words[max(0, k - 2) : k])}:
                    self.after.setdefault(context, []).append(word)

    def respond(self, prompt: str, rng: random.Random) -> str:
        """A response, with a space before each word."""
        words = prompt.split()
        begun = len(words)
        while len(words) - begun < self.MOST:
            known = self.after.get(tuple(words[-2:])) if rng.random() < 0.7 else None
            known = known or self.after.get((words[-1],))
            word = rng.choice(known) if known else self.END
            if word == self.END:
                break
            words.append(word)
        return "".join(f" {word}" for word in words[begun:])


def judged(
    policy: Trigrams, prompts: Sequence[str], name: str, seed: int, rng: random.Random
) -> Judged:
    """A pair of responses to each prompt as a noisy rater orders them."""
    pairs = ((p, (policy.respond(p, rng), policy.respond(p, rng))) for p in prompts)
    return preferred(pairs, name, seed)


def preferred(pairs: Iterable[tuple[str, tuple[str, str]]], name: str, seed: int) -> Judged:
    """Pairs of responses to prompts as a noisy rater orders them; of equal ones nothing is learned."""
    from heedful.raters.simulated import SimulatedRater
    from heedful.types import Comparison
    from heedful.worlds.reviews import gold

    rater, found = SimulatedRater(gold, name, temperature=0.3, seed=seed), []
    for prompt, pair in pairs:
        comparison = rater.judge(prompt, pair)
        assert isinstance(comparison, Comparison)  # gold is not awaited
        a, b = comparison.places
        if a != b:
            found.append(pair if a < b else pair[::-1])
    return found


@dataclass(frozen=True)
class World:
    """A policy of word trigrams, its responses to held-out prompts with their gold scores `[prompts, samples]`, and
    sets of judgments: those that rewards are fitted to, and a second rater's about other prompts, which only watch."""

    policy: Trigrams
    prompts: list[str]
    texts: list[str]
    bagged: Mapping[
        tuple[bool, bool], Any
    ]  # the texts as `bags` has them, in each way that a reward reads
    gold: NDArray[Any]
    ours: list[Judged]
    others: list[Judged]
    rng: random.Random

    def scores(self, reward: Reward) -> NDArray[Any]:
        """`[prompts, samples]`, mean 0 and standard deviation 1."""
        found = worth(reward, self.bagged[reward.reads]).double().numpy()
        return ((found - found.mean()) / (found.std() or 1.0)).reshape(self.gold.shape)


def drawn(
    files: Mapping[str, Path],
    seed: int,
    prompts: int,
    samples: int,
    rewards: int,
    watching: int,
    labels: int,
) -> World:
    """Responses to held-out prompts, and `rewards` and `watching` sets of `labels` pairs of responses to training
    prompts, judged by two raters who are asked about different prompts."""
    import numpy as np

    from heedful.data.sources import read_rows
    from heedful.worlds.reviews import gold

    rows = {name: [row for _, row in read_rows(file)] for name, file in files.items()}
    rng = random.Random(f"overoptimisation/{seed}")
    policy = Trigrams(row["text"] for row in rows["text"])
    held = rng.sample([row["prompt"] for row in rows["held_out"]], prompts)
    pool = [(prompt, [policy.respond(prompt, rng) for _ in range(samples)]) for prompt in held]
    train = [row["prompt"] for row in rows["prompts"]]
    rng.shuffle(train)
    halves = train[::2], train[1::2]
    ours, others = (
        [
            judged(policy, rng.sample(half, min(labels, len(half))), f"rater {k}", seed, rng)
            for _ in range(number)
        ]
        for k, (half, number) in enumerate(zip(halves, (rewards, watching), strict=True))
    )
    every = [text for _, texts in pool for text in texts]
    return World(
        policy,
        halves[0],
        every,
        {reads: bags(every, *reads) for reads in READS},
        np.array([[gold(prompt, text) for text in texts] for prompt, texts in pool]),
        ours,
        others,
        rng,
    )
