"""A reward fitted to few labels is a poor thing to maximise: best-of-n on film reviews, for every n up to 1,024."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result
from heedful.reproductions.review_rewards import SIZES, fitted, worth

LABELS = (30, 100, 300, 1000, 3000)
PROMPTS, SAMPLES, TOKENS = 60, 1024, 40
SOURCE = "hf:cornell-movie-review-data/rotten_tomatoes"
MODEL = {
    "hidden_size": 96,
    "layers": 2,
    "heads": 4,
    "vocab_size": 2048,
    "batch_size": 16,
    "learning_rate": 3e-3,
}


def run(seed: int, folder: Path, quick: bool) -> Result:
    """One policy and one pool of its responses serve all seeds, which differ in who was asked about which pairs, with
    which noise, and in the rewards' initial weights. In each cell one reward is the proxy and one, fitted to as many
    other labels, is watched in the place of gold."""
    from heedful.evals import overoptimisation as over

    pool = made_pool(folder.parent / "pool", quick)
    ns = over.sizes(len(pool["texts"][0]))
    gold = over_prompts(pool["gold"], pool["gold"], ns)
    found: dict[str, Any] = {"ns": ns, "gold by gold": gold.mean(0).tolist()}
    rises, early, peaks = [], [], {}
    labels = LABELS[:2] if quick else LABELS
    for size in SIZES:
        for count in labels:
            proxies, watched = (
                [worth(fitted(size, pairs, seed), texts) for texts in pool["texts"]]
                for pairs in drawn_pairs(pool, count, seed)
            )
            proxy, true, stand_in = (
                over_prompts(proxies, scores, ns) for scores in (proxies, pool["gold"], watched)
            )
            curve, where = over.curve(true), over.alarm(stand_in)
            cell = f"{size}, {count} labels"
            peaks[size, count] = curve.peak
            rises.append(float((proxy.mean(0)[1:] - proxy.mean(0)[:-1]).min() / proxy.std()))
            early.append(float(where is not None and where < curve.peak))
            d = [over.bound(n) ** 0.5 for n in ns]
            gain = [m - curve.mean[0] for m in curve.mean]
            found |= {
                f"{cell}: gold": curve.mean,
                f"{cell}: watched": stand_in.mean(0).tolist(),
                f"{cell}: peak n": ns[curve.peak],
                f"{cell}: lost": curve.lost,
                f"{cell}: R² of d(α − βd)": over.fit_best_of_n(d, gain).r2,
                f"{cell}: alarm n": ns[where] if where is not None else None,
            }
    return found | {
        "smallest rise of the proxy": min(rises),
        "share of alarms before the peak": fmean(early),
        "Spearman of labels and peak": fmean(
            rank_correlation(labels, peaks, size) for size in SIZES
        ),
        "lost with 30 labels": fmean(found[f"{size}, 30 labels: lost"] for size in SIZES),
        "lost with the most labels": fmean(
            found[f"{size}, {labels[-1]} labels: lost"] for size in SIZES
        ),
    }


def over_prompts(proxies: Sequence[Any], scores: Sequence[Any], ns: Sequence[int]) -> Any:
    """`[prompts, len(ns)]`: the expected score of best-of-n by the proxy."""
    import numpy as np

    from heedful.evals.overoptimisation import best_scores

    rows = [
        best_scores(np.asarray(p), np.asarray(s), ns) for p, s in zip(proxies, scores, strict=True)
    ]
    return np.stack(rows)


def rank_correlation(labels: Sequence[int], peaks: dict[tuple[str, int], int], size: str) -> float:
    """Spearman's, peaks at the same n sharing a rank; 0 where all are the same."""
    import numpy as np

    at = np.array([peaks[size, count] for count in labels], dtype=float)
    ranks = np.array([(at < a).sum() + ((at == a).sum() - 1) / 2 for a in at])
    return float(np.corrcoef(np.arange(len(at)), ranks)[0, 1]) if ranks.std() > 0 else 0.0


def drawn_pairs(pool: dict[str, Any], count: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Twice `count` judgments (better, worse) of pairs of responses, each to a prompt of its own; no one is asked
    for both."""
    import random

    from heedful.raters.simulated import SimulatedRater
    from heedful.types import Comparison
    from heedful.worlds.reviews import gold

    rows = random.Random(f"pairs/{seed}").sample(pool["pairs"], len(pool["pairs"]))
    halves = []
    for half in range(2):
        rater = SimulatedRater(gold, f"rater {half}", temperature=0.3, seed=seed)
        part = rows[half * (len(rows) // 2) :][:count]
        judged = [(texts, rater.judge(prompt, texts)) for prompt, texts in part]
        better = [
            texts if c.places[0] < c.places[1] else texts[::-1]
            for texts, c in judged
            if isinstance(c, Comparison) and c.places[0] != c.places[1]
        ]
        halves.append(better)
    return halves[0], halves[1]


def made_pool(folder: Path, quick: bool) -> dict[str, Any]:
    """Policy, responses and their gold scores; what an earlier call has made is not made again."""
    kept = folder / "pool.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    from heedful.data.files import write_json
    from heedful.worlds.reviews import gold

    data, policy = trained(folder, quick)
    prompts, samples, pairs = (4, 16, 40) if quick else (PROMPTS, SAMPLES, 2 * LABELS[-1])
    held = sampled(policy, data / "held_out.jsonl", prompts, samples, folder / "responses.jsonl")
    train = sampled(policy, data / "prompts.jsonl", pairs, 2, folder / "pairs.jsonl")
    pool = {
        "texts": list(held.values()),
        "gold": [[gold(prompt, text) for text in texts] for prompt, texts in held.items()],
        "pairs": list(train.items()),
    }
    write_json(kept, pool)
    return pool


def trained(folder: Path, quick: bool) -> tuple[Path, Path]:
    """The world's files and a small language model of its text."""
    from heedful.api import run as heedful
    from heedful.run import finished

    data, policy = folder / "data", folder / "policy"
    if not (data / "held_out.jsonl").exists():
        source = os.environ.get("HEEDFUL_REVIEWS", SOURCE)
        heedful("world", name="reviews", source=source, out=data)
    if not finished(policy):
        settings = MODEL | {"steps": 10 if quick else 1000, "report_to": "none", "quiet": True}
        heedful("train pretrain", data=str(data / "text.jsonl"), out=policy, **settings)
    return data, policy


def sampled(policy: Path, data: Path, prompts: int, n: int, out: Path) -> dict[str, list[str]]:
    """Prompt → n responses."""
    from heedful.api import run as heedful
    from heedful.data.sources import read_rows

    if not out.exists():
        heedful(
            "sample", model=str(policy), data=str(data), limit=prompts, n=n, max_tokens=TOKENS,
            out=out, quiet=True,
        )  # fmt: skip
    found: dict[str, list[str]] = {}
    for _, row in read_rows(out):
        found.setdefault(row["prompt"], []).append(row["completion"])
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
    what=f"Film reviews with VADER's sentiment as gold; a small language model of them gives {SAMPLES} responses to "
    f"each of {PROMPTS} held-out prompts; three rewards (words, word pairs, a network on both) fitted to "
    f"{', '.join(map(str, LABELS))} judgments of a noisy simulated rater; best-of-n for every n by order statistics. "
    "Not run: PPO, rewards of transformers, a second round of labels. The data are hf:cornell-movie-review-data/"
    "rotten_tomatoes, or the file of texts that HEEDFUL_REVIEWS names.",
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
    minutes=20,
    figure=figure,
)  # fmt: skip
