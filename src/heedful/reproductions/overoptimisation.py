"""A reward fitted to few labels is a poor thing to maximise: best-of-n on film reviews, for every n up to 1,024."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result
from heedful.reproductions.review_rewards import SIZES, bags, fitted, worth

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = (30, 100, 300, 1000, 3000)
PROMPTS, SAMPLES = 60, 1024


def run(seed: int, folder: Path, quick: bool) -> Result:
    """In each cell one reward is the proxy and one, fitted to as many other labels, is watched in the place of gold."""
    import numpy as np

    from heedful.evals import overoptimisation as over
    from heedful.worlds.reviews import gold as score

    prompts, samples, labels = (4, 16, LABELS[:2]) if quick else (PROMPTS, SAMPLES, LABELS)
    pool, halves = drawn(folder, seed, prompts, samples, labels[-1])
    ns = over.sizes(samples)
    gold = np.array([[score(prompt, text) for text in texts] for prompt, texts in pool])
    every = [text for _, texts in pool for text in texts]
    rang: dict[int, list[bool]] = {count: [] for count in labels}
    found: dict[str, Any] = {
        "ns": ns,
        "gold by gold": over_prompts(gold, gold, ns).mean(0).tolist(),
    }
    rises, early, peaks = [], [], {}
    for size in SIZES:
        of_pool = bags(every, size != "words")
        for count in labels:
            rewards = [fitted(size, half[:count], seed + k) for k, half in enumerate(halves)]
            proxies, watched = (
                worth(r, of_pool).double().numpy().reshape(gold.shape) for r in rewards
            )
            proxy, true, stand_in = (
                over_prompts(proxies, of, ns) for of in (proxies, gold, watched)
            )
            curve, where = over.curve(true), over.alarm(stand_in)
            cell = f"{size}, {count} labels"
            peaks[size, count] = curve.peak
            rises.append(float(np.diff(proxy.mean(0)).min() / proxies.std()))
            early.append(float(where is not None and where < curve.peak))
            rang[count].append(where is not None)
            d = [over.bound(n) ** 0.5 for n in ns]
            found |= {
                f"{cell}: gold": curve.mean,
                f"{cell}: watched": stand_in.mean(0).tolist(),
                f"{cell}: peak n": ns[curve.peak],
                f"{cell}: lost": curve.lost,
                f"{cell}: R² of d(α − βd)": over.fit_best_of_n(
                    d, [m - curve.mean[0] for m in curve.mean]
                ).r2,
                f"{cell}: alarm n": ns[where] if where is not None else None,
            }
    return found | {
        "smallest rise of the proxy": min(rises),
        "share of alarms before the peak": fmean(early),
        "share of cells with an alarm, fewest labels": fmean(rang[labels[0]]),
        "share of cells with an alarm, most labels": fmean(rang[labels[-1]]),
        "Spearman of labels and peak": fmean(
            rank_correlation(labels, peaks, size) for size in SIZES
        ),
        "lost with 30 labels": fmean(found[f"{size}, 30 labels: lost"] for size in SIZES),
        "lost with the most labels": fmean(
            found[f"{size}, {labels[-1]} labels: lost"] for size in SIZES
        ),
    }


def over_prompts(proxies: NDArray[Any], scores: NDArray[Any], ns: Sequence[int]) -> NDArray[Any]:
    """`[prompts, len(ns)]`: the expected score of best-of-n by the proxy, both `[prompts, samples]`."""
    import numpy as np

    from heedful.evals.overoptimisation import best_scores

    return np.stack([best_scores(p, s, ns) for p, s in zip(proxies, scores, strict=True)])


def rank_correlation(labels: Sequence[int], peaks: dict[tuple[str, int], int], size: str) -> float:
    """Spearman's, peaks at the same n sharing a rank; 0 where all are the same."""
    import numpy as np

    at = np.array([peaks[size, count] for count in labels], dtype=float)
    ranks = np.array([(at < a).sum() + ((at == a).sum() - 1) / 2 for a in at])
    return float(np.corrcoef(np.arange(len(at)), ranks)[0, 1]) if ranks.std() > 0 else 0.0


Pool = list[tuple[str, list[str]]]  # prompts with their responses
Judged = list[tuple[str, str]]  # better and worse responses


def drawn(
    folder: Path, seed: int, prompts: int, samples: int, labels: int
) -> tuple[Pool, list[Judged]]:
    """Responses of a word-trigram policy to held-out prompts; and twice `labels` pairs of its responses to training
    prompts, judged by two raters who are asked about different prompts."""
    from heedful.data.sources import read_rows
    from heedful.reproductions.running import film_reviews

    files = film_reviews(folder / "data")
    rows = {name: [row for _, row in read_rows(file)] for name, file in files.items()}
    rng = random.Random(f"overoptimisation/{seed}")
    policy = Trigrams(row["text"] for row in rows["text"])
    held = rng.sample([row["prompt"] for row in rows["held_out"]], prompts)
    pool = [(prompt, [policy.respond(prompt, rng) for _ in range(samples)]) for prompt in held]
    train = rng.sample([row["prompt"] for row in rows["prompts"]], 2 * labels)
    halves = [judged(policy, train[half::2], f"rater {half}", seed, rng) for half in range(2)]
    return pool, halves


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
    """A pair of responses to each prompt as a noisy rater orders them; of equal ones nothing is learned."""
    from heedful.raters.simulated import SimulatedRater
    from heedful.types import Comparison
    from heedful.worlds.reviews import gold

    rater, found = SimulatedRater(gold, name, temperature=0.3, seed=seed), []
    for prompt in prompts:
        pair = (policy.respond(prompt, rng), policy.respond(prompt, rng))
        comparison = rater.judge(prompt, pair)
        assert isinstance(comparison, Comparison)  # gold is not awaited
        a, b = comparison.places
        if a != b:
            found.append(pair if a < b else pair[::-1])
    return found


def figure(seeds: Sequence[Result]) -> Figure:
    """Gold against n for the rewards of words and pairs of words, means over seeds."""
    import math

    ns = seeds[0]["ns"]
    names = [name for name in seeds[0] if name.startswith("word pairs") and name.endswith(": gold")]
    lines = {
        name.removeprefix("word pairs, ").removesuffix(": gold"): [
            (math.log2(n), fmean(s[name][k] for s in seeds)) for k, n in enumerate(ns)
        ]
        for name in names
    }
    best = [(math.log2(n), seeds[0]["gold by gold"][k]) for k, n in enumerate(ns)]
    return Figure(
        title="Gold score of best-of-n by a reward of words and word pairs",
        x="log₂ n",
        y="mean gold score (VADER)",
        lines=lines
        if len(lines) < 2
        else {**lines, "by gold itself": [p for p in best if p[1] < 0.75]},
    )


REPRODUCTION = Reproduction(
    name="overoptimisation",
    claim="Maximising a proxy reward raises the true one only for a while: it peaks and falls, the later the more "
    "labels the proxy was fitted to.",
    source="Gao, Schulman and Hilton 2023, figures 1 and 4; Stiennon et al. 2020, figure 5",
    what="Film reviews with VADER's sentiment as gold, hf:cornell-movie-review-data/rotten_tomatoes or the file of "
    f"texts that HEEDFUL_REVIEWS names; a trigram model of their words gives {SAMPLES} responses to each of {PROMPTS} "
    f"held-out prompts; three rewards (words, word pairs, a network on both) fitted to {', '.join(map(str, LABELS))} "
    "judgments of a noisy simulated rater; best-of-n for every n by order statistics. Prompts, responses, judgments "
    "and initial weights by the seed. Not run: PPO, rewards of transformers, a second round of labels.",
    frozen="2026-11-29",
    criteria=(
        Criterion("the proxy rises throughout", "smallest rise of the proxy", "at least", 0.0, "every seed"),
        Criterion("of gold's gain is lost with 30 labels", "lost with 30 labels", "at least", 0.10),
        Criterion(
            "the peak moves right with labels", "Spearman of labels and peak", "at least", 0.0, "interval"
        ),
        Criterion(
            "the alarm without gold never before the peak",
            "share of alarms before the peak",
            "at most",
            0.0,
            "every seed",
        ),
    ),
    run=run,
    minutes=5,
    figure=figure,
)  # fmt: skip
