"""A reward fitted to few labels is a poor thing to maximise, by best-of-n for every n up to 1,024 and by PPO."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result
from heedful.reproductions.review_rewards import SIZES, Reward, bags, fitted, save, worth
from heedful.reproductions.review_texts import World, drawn, preferred

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = (30, 100, 300, 1000, 3000)
FEW = LABELS[:3]
PROMPTS, SAMPLES = 60, 1024
REWARDS = 3  # in each cell, fitted to labels of their own; and so many watch
ASKED_AGAIN, AMONG = 300, 32  # labels of the second round, of pairs that are the best of so many
READ = 300  # steps of pre-training of the transformer that PPO begins with
CELLS = (30, 300, 3000)  # labels of the rewards that PPO maximises
ROUNDS: dict[str, Any] = {
    "steps": 24, "inner_epochs": 2, "beta": 0.02, "learning_rate": 5e-4, "critic_learning_rate": 1e-3,
}  # fmt: skip
PAIRS = SIZES[1]
HELD = "held"  # the ensemble that watches


def run(seed: int, folder: Path, quick: bool) -> Result:
    """The grid by best-of-n, a second round of labels, and PPO on three rewards of the grid."""
    from heedful.reproductions.running import film_reviews

    labels = LABELS[:2] if quick else LABELS
    files = film_reviews(folder / "data")
    world = drawn(files, seed, *((4, 16, 2) if quick else (PROMPTS, SAMPLES, REWARDS)), labels[-1])
    found = grid(world, labels)
    found |= second_round(world, *((20, 4) if quick else (ASKED_AGAIN, AMONG)))
    cells = labels[:1] if quick else CELLS
    for count in cells:
        found |= optimised(seed, folder, quick, files, world, count)
    few, most = (f"PPO, {cells[k]} labels" for k in (0, -1))
    early = [found[f"PPO, {count} labels: alarm before the peak"] for count in cells]
    return found | {
        "lost by PPO, fewest labels": found[f"{few}: lost"],
        "alarm in PPO, fewest labels": found[f"{few}: alarm"],
        "alarm in PPO, most labels": found[f"{most}: alarm"],
        "share of alarms before the peak": max(
            found["best-of-n: share of alarms before the peak"], *early
        ),
    }


def grid(world: World, labels: Sequence[int]) -> dict[str, Any]:
    """Each cell's rewards one by one: gold of the best of n, where it peaks, what is lost of its gain, the alarm."""
    import numpy as np

    from heedful.evals import overoptimisation as over
    from heedful.evals.statistics import rank_correlation

    ns = over.sizes(world.gold.shape[1])
    d = [over.bound(n) ** 0.5 for n in ns]
    found: dict[str, Any] = {
        "ns": ns,
        "gold by gold": best(world.gold, world.gold, ns).mean(0).tolist(),
    }
    rises, early, rang, peaks, lost = [], [], [], {}, {}
    for size in SIZES:
        watched = [world.scores(reward) for reward in watchers(world, size)]
        for count in labels:
            rewards = [fitted(size, judgments[:count], k) for k, judgments in enumerate(world.ours)]
            curves = []
            for proxy in map(world.scores, rewards):
                curve = over.curve(best(proxy, world.gold, ns))
                where = over.alarm(np.stack([best(proxy, of, ns) for of in watched]))
                rises.append(float(np.diff(best(proxy, proxy, ns).mean(0)).min()))
                early.append(float(where is not None and where < curve.peak))
                rang.append(where is not None)
                curves.append(curve)
            cell, means = f"{size}, {count} labels", np.array([curve.mean for curve in curves])
            peaks[size, count] = fmean(math.log2(ns[curve.peak]) for curve in curves)
            lost[size, count] = fmean(min(1.0, curve.lost) for curve in curves)  # 1: all, or more
            found |= {
                f"{cell}: gold": means.mean(0).tolist(),
                f"{cell}: log2 of the peak n": peaks[size, count],
                f"{cell}: gain": float((means.max(1) - means[:, 0]).mean()),
                f"{cell}: lost": lost[size, count],
                f"{cell}: R² of d(α − βd)": over.fit_best_of_n(
                    d, (means.mean(0) - means[:, 0].mean()).tolist()
                ).r2,
            }
    return found | {
        "smallest rise of the proxy": min(rises),
        "lost with few labels": fmean(
            lost[size, count] for size in SIZES for count in labels if count in FEW
        ),
        "lost with the most labels": fmean(lost[size, labels[-1]] for size in SIZES),
        "Spearman of labels and peak": fmean(
            rank_correlation(labels, [peaks[s, c] for c in labels]) for s in SIZES
        ),
        "best-of-n: share with an alarm": fmean(rang),
        "best-of-n: share of alarms before the peak": fmean(early),
    }


def watchers(world: World, size: str) -> list[Reward]:
    """Rewards that only watch: each of all of a set of the other rater's judgments."""
    return [
        fitted(size, judgments, len(world.ours) + k) for k, judgments in enumerate(world.others)
    ]


def best(proxy: NDArray[Any], scores: NDArray[Any], ns: Sequence[int]) -> NDArray[Any]:
    """`[prompts, len(ns)]`: the expected score of best-of-n by the proxy, both `[prompts, samples]`."""
    import numpy as np

    from heedful.evals.overoptimisation import best_scores

    return np.stack([best_scores(p, s, ns) for p, s in zip(proxy, scores, strict=True)])


def second_round(world: World, count: int, among: int) -> dict[str, Any]:
    """Rewards of `count` labels; the same with as many of pairs that they liked best, each the best of `among`; and
    with as many of ordinary pairs."""
    from heedful.evals import overoptimisation as over

    ns = over.sizes(world.gold.shape[1])
    rounds: dict[str, list[Any]] = {"first": [], "second": [], "ordinary labels": []}
    for k, judgments in enumerate(world.ours):
        first = judgments[:count]
        again = best_pairs(world, fitted(PAIRS, first, k), count, among)
        sets = (first, first + preferred(again, "rater 0", k), judgments[: 2 * count])
        for of, known in zip(rounds.values(), sets, strict=True):
            of.append(over.curve(best(world.scores(fitted(PAIRS, known, k)), world.gold, ns)))
    heights = {name: fmean(curve.mean[curve.peak] for curve in of) for name, of in rounds.items()}
    return {
        **{f"gold at the peak, {name}": height for name, height in heights.items()},
        **{
            f"log2 of the peak n, {name}": fmean(math.log2(ns[curve.peak]) for curve in of)
            for name, of in rounds.items()
        },
        "a second round raises the peak by": heights["second"] - heights["first"],
        "second round less ordinary labels": heights["second"] - heights["ordinary labels"],
    }


def best_pairs(
    world: World, reward: Reward, count: int, among: int
) -> list[tuple[str, tuple[str, str]]]:
    """Prompts with two responses, each the one of `among` that the reward likes best."""
    pairs = []
    for prompt in world.rng.sample(world.prompts, count):
        texts = [world.policy.respond(prompt, world.rng) for _ in range(2 * among)]
        scores = worth(reward, bags(texts, reward.pairs)).view(2, among)
        a, b = scores.argmax(1).tolist()
        pairs.append((prompt, (texts[a], texts[among + b])))
    return pairs


def optimised(
    seed: int, folder: Path, quick: bool, files: Mapping[str, Path], world: World, count: int
) -> dict[str, Any]:
    """PPO of a small transformer against a reward of the grid, watched by rewards of the other rater's labels; gold is
    scored beside it, and nobody reads it meanwhile."""
    from heedful.evals.watch import windows
    from heedful.reproductions.pipeline_reviews import MOST, SMALL
    from heedful.reproductions.running import trained

    cell = f"PPO, {count} labels"
    policy = trained(
        "pretrain", folder / "policy", seed, data=str(files["text"]), **SMALL, steps=4 if quick else READ,
        batch_size=8, pack_length=128, learning_rate=3e-3,
    )  # fmt: skip
    some = world.texts[:: -(-len(world.texts) // 2000)]
    rewards = [fitted(PAIRS, world.ours[0][:count], 0), *watchers(world, PAIRS)]
    spec, *held = (save(of, some, folder / f"{count}, {k}.pt") for k, of in enumerate(rewards))
    out = folder / f"PPO {count}"
    trained(
        "ppo", out, seed, model=policy, reward=(spec,), data=str(files["prompts"]), max_tokens=MOST,
        watch_reward=("gold=heedful.worlds.reviews:gold", f"{HELD}=ensemble({', '.join(held)}, k=1)"),
        **(ROUNDS | ({"steps": 4} if quick else {})),
    )  # fmt: skip
    rows = [
        json.loads(line)
        for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    alarms = out / "alarms.jsonl"
    told = (
        [json.loads(line) for line in alarms.read_text(encoding="utf-8").splitlines()]
        if alarms.exists()
        else []
    )
    rang = [a["step"] for a in told if f", and {HELD}, which nobody optimises, fell" in a["alarm"]]
    of = windows([[r["step"], r["watch/gold"], r["watch/gold_se"] ** 2, r["reward"]] for r in rows])
    top = max(of, key=lambda window: window.watched)
    gain, fall = top.watched - of[0].watched, top.watched - of[-1].watched
    return {
        f"{cell}: points": [
            (math.sqrt(max(0.0, r["kl/seq"])), r["watch/gold"], r["reward"]) for r in rows
        ],
        f"{cell}: gold at first": of[0].watched,
        f"{cell}: gold at the peak": top.watched,
        f"{cell}: gold at the end": of[-1].watched,
        f"{cell}: KL at the end": rows[-1]["kl/seq"],
        f"{cell}: reward, end less start": of[-1].reward - of[0].reward,
        f"{cell}: lost": min(1.0, fall / gain) if gain > 0 else float(fall > 0),
        f"{cell}: round of the peak": top.step,
        f"{cell}: round of the alarm": rang[0] if rang else None,
        f"{cell}: alarm": float(bool(rang)),
        f"{cell}: alarm before the peak": float(bool(rang) and rises_after(of, rang[0])),
    }


def rises_after(of: Sequence[Any], step: float) -> bool:
    """Whether gold rises above its best until then by more than two standard errors, in windows of rounds."""
    before = max((w for w in of if w.step <= step), key=lambda w: w.watched)
    after = max((w for w in of if w.step > step), key=lambda w: w.watched, default=before)
    return after.watched - before.watched > 2 * math.sqrt(before.variance + after.variance)


def figure(seeds: Sequence[Result]) -> Figure:
    """Gold against √KL: of PPO in windows of rounds, of best-of-n by word pairs, each as a mean over seeds."""
    from heedful.evals.overoptimisation import bound

    d = [bound(n) ** 0.5 for n in seeds[0]["ns"]]
    lines: dict[str, list[tuple[float, float]]] = {}
    for count in CELLS:
        if (name := f"{PAIRS}, {count} labels: gold") in seeds[0]:
            curves = [s[name] for s in seeds]
            lines[f"best of n, {count} labels"] = [
                (x, fmean(c[k] for c in curves)) for k, x in enumerate(d)
            ]
        if (name := f"PPO, {count} labels: points") in seeds[0]:
            rounds = zip(*(s[name] for s in seeds), strict=True)
            means = [(fmean(p[0] for p in at), fmean(p[1] for p in at)) for at in rounds]
            parts = [means[k : k + 4] for k in range(0, len(means), 4)]
            lines[f"PPO, {count} labels"] = sorted(
                (fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts
            )
    return Figure(
        title="Gold score against the distance from where the policy began, rewards of word pairs",
        x="√KL, KL in nats per response",
        y="mean gold score (VADER)",
        lines=lines,
    )


REPRODUCTION = Reproduction(
    name="overoptimisation",
    claim="Maximising a proxy reward raises the true one only for a while: it peaks and falls, the later the more "
    "labels the proxy was fitted to. A second round of labels raises the peak, and rewards that only watch tell when "
    "it is over.",
    source="Gao, Schulman and Hilton 2023, figures 1 and 4; Stiennon et al. 2020, figure 5",
    what="Film reviews with VADER's sentiment as gold, hf:cornell-movie-review-data/rotten_tomatoes or the file of "
    f"texts that HEEDFUL_REVIEWS names. A trigram model of their words gives {SAMPLES} responses to each of "
    f"{PROMPTS} held-out prompts; rewards of three sizes (words, word pairs, a network on both) are fitted to "
    f"{', '.join(map(str, LABELS))} judgments of a noisy simulated rater, {REWARDS} in each cell, each to "
    "judgments of its own; best-of-n for every n by order statistics; the peak and what is lost behind it (at most "
    f"all of the gain) are those of each reward, and then means. Second round: rewards of word pairs of "
    f"{ASKED_AGAIN} labels, refitted with as many of pairs of which each side is the best of {AMONG} by them. "
    f"PPO ({ROUNDS['steps']} rounds of 128, β = {ROUNDS['beta']}) of a small transformer "
    "that has read the reviews, against rewards of "
    f"word pairs of the grid, of {CELLS[0]}, {CELLS[1]} and {CELLS[2]} labels. The alarm without gold: "
    f"{REWARDS} rewards of {LABELS[-1]} labels each of another rater, about other prompts; for best-of-n their "
    "mean, whose error is their spread, too; in PPO `--watch-reward ensemble(…, k=1)`, their mean less their "
    "spread (rewards of as few labels as the proxy told of falls too early in pilots, or of none). Gold is "
    "windows of 2 rounds in PPO, and it rises after an alarm where it gets higher than before by more than two "
    "standard errors. Second try, after pilots on other seeds. The first had one reward in a cell, so that its "
    "peaks were chance (Spearman −.13 at the lower end), and one that watched, of whose alarms a third came "
    "before the peak on the worst seed; PPO and the second round were not run. \"Few labels\" were 30 there. Four "
    "rewards a cell and 40 rounds of PPO were cut to these for time.",
    frozen="2026-11-30",
    criteria=(
        Criterion("the proxy rises throughout", "smallest rise of the proxy", "at least", 0.0, "every seed"),
        Criterion("of gold's gain is lost by best-of-n with 30 to 300 labels", "lost with few labels", "at least", 0.1),
        Criterion("of gold's gain is lost by PPO with 30 labels", "lost by PPO, fewest labels", "at least", 0.1),
        Criterion(
            "the peak moves right with labels", "Spearman of labels and peak", "at least", 0.0, "interval"
        ),
        Criterion(
            "a second round of labels raises gold at the peak by", "a second round raises the peak by", "at least", 0.0,
            "interval",
        ),
        Criterion(
            "the alarm without gold comes in PPO with 30 labels", "alarm in PPO, fewest labels", "at least", 1.0,
            "every seed",
        ),
        Criterion(
            "never before the peak", "share of alarms before the peak", "at most", 0.0, "every seed"
        ),
        Criterion(
            "and never in PPO with 3,000 labels", "alarm in PPO, most labels", "at most", 0.0, "every seed"
        ),
    ),
    run=run,
    minutes=10,
    figure=figure,
)  # fmt: skip
