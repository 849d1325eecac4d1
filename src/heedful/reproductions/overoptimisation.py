"""A reward fitted to few labels is a poor thing to maximise, by best-of-n for every n up to 1,024 and by PPO."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result
from heedful.reproductions.review_rewards import SIZES, WATCHING, Reward, bags, fitted, save, worth
from heedful.reproductions.review_texts import Judged, World, drawn, preferred

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = (30, 100, 300, 1000, 3000)
FEW = LABELS[:3]
PROMPTS, SAMPLES = 60, 1024
REWARDS, WATCHERS = 3, 8  # in each cell, fitted to labels of their own; that watch
ASKED_AGAIN, AMONG = 300, 32  # labels of the second round, of pairs that are the best of so many
CELLS = (100, 300, 3000)  # labels of the rewards that PPO maximises
RISEN = CELLS[1]  # so few that gold falls, and so many that it rises before
ROUNDS: dict[str, Any] = {
    "steps": 40, "inner_epochs": 2, "beta": 0.02, "learning_rate": 5e-4, "critic_learning_rate": 1e-3,
    "truncated": "score", "missing_eos_penalty": 0.0,
}  # fmt: skip
PAIRS = SIZES[1]
HELD = "held"  # the ensemble that watches


def run(seed: int, folder: Path, quick: bool) -> Result:
    """The grid by best-of-n, a second round of labels, and PPO on three rewards of the grid."""
    from heedful.reproductions.running import film_reviews

    labels = LABELS[:2] if quick else LABELS
    files = film_reviews(folder / "data")
    world = drawn(
        files,
        seed,
        *((4, 16, 2, 2) if quick else (PROMPTS, SAMPLES, REWARDS, WATCHERS)),
        labels[-1],
    )
    found = grid(world, labels)
    found |= second_round(world, *((20, 4) if quick else (ASKED_AGAIN, AMONG)))
    cells = CELLS[:1] if quick else CELLS
    for cell in optimised(seed, folder, quick, files, world, cells):
        found |= cell
    few = f"PPO, {CELLS[0] if quick else RISEN} labels"
    early = [found[f"PPO, {count} labels: alarm before the peak"] for count in cells]
    return found | {
        "lost by PPO, few labels": found[f"{few}: lost"],
        "alarm in PPO, few labels": found[f"{few}: alarm"],
        "alarm in PPO, most labels": found[f"PPO, {cells[-1]} labels: alarm"],
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
    watched = [world.scores(reward) for reward in watchers(world)]
    for size in SIZES:
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


def watchers(world: World) -> list[Reward]:
    """Rewards that only watch: each of all of a set of the other rater's judgments."""
    return [fitted(WATCHING, judgments, k) for k, judgments in enumerate(world.others)]


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
        scores = worth(reward, bags(texts, *reward.reads)).view(2, among)
        a, b = scores.argmax(1).tolist()
        pairs.append((prompt, (texts[a], texts[among + b])))
    return pairs


def optimised(
    seed: int,
    folder: Path,
    quick: bool,
    files: Mapping[str, Path],
    world: World,
    cells: Sequence[int],
) -> Iterator[dict[str, Any]]:
    """PPO of a small transformer against rewards of word pairs, fitted to judgments of its own responses, watched by
    rewards of the other rater's labels; gold is scored beside it, and nobody reads it meanwhile."""
    from heedful.reproductions.pipeline_reviews import MOST, SMALL, instructed
    from heedful.reproductions.running import trained

    policy = instructed(seed, folder, quick, {k: str(v) for k, v in files.items()}, "SFT", SMALL)
    judgments, texts = own_judgments(seed, folder, policy, world.prompts[: 40 if quick else None])
    held = [save(of, texts, folder / f"held {k}.pt") for k, of in enumerate(watchers(world))]
    for count in cells:
        spec = save(fitted(PAIRS, judgments[:count], 0), texts, folder / f"{count}.pt")
        out = folder / f"PPO {count}"
        trained(
            "ppo", out, seed, model=policy, reward=(spec,), data=str(files["prompts"]), max_tokens=MOST,
            watch_reward=("gold=heedful.worlds.reviews:gold", f"{HELD}=ensemble({', '.join(held)}, k=1)"),
            **(ROUNDS | ({"steps": 4} if quick else {})),
        )  # fmt: skip
        yield seen(f"PPO, {count} labels", out)


def own_judgments(
    seed: int, folder: Path, policy: str, prompts: Sequence[str]
) -> tuple[Judged, list[str]]:
    """Pairs of responses of a model to each prompt, as the first rater orders them; all responses."""
    from heedful.api import run as heedful
    from heedful.data.files import write_rows
    from heedful.data.sources import read_rows
    from heedful.reproductions.pipeline_reviews import MOST

    asked, samples = folder / "asked.jsonl", folder / "samples.jsonl"
    write_rows(asked, ({"prompt": prompt} for prompt in prompts))
    heedful(
        "sample", model=policy, data=str(asked), n=2, max_tokens=MOST, out=samples, seed=seed, quiet=True
    )  # fmt: skip
    rows = [row for _, row in read_rows(samples)]
    texts = [row["completion"] for row in rows]
    pairs = [
        (a["prompt"], (a["completion"], b["completion"]))
        for a, b in zip(rows[::2], rows[1::2], strict=True)
    ]
    return preferred(pairs, "rater 0", seed), texts


def seen(cell: str, out: Path) -> dict[str, Any]:
    """What a run of PPO shows: gold in windows of rounds, and when the alarm without gold came."""
    from heedful.evals.watch import windows
    from heedful.run import alarms_of, metrics_of

    rows = metrics_of(out)
    fell = f", and {HELD}, which nobody optimises, fell"
    rang = [told["step"] for told in alarms_of(out) if fell in told["alarm"]]
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
        f"{cell}: lost": min(1.0, fall / gain) if gain > 0 else 0.0,  # nothing rose
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
    f"PPO ({ROUNDS['steps']} rounds of 128, β = {ROUNDS['beta']}) of a small transformer that has read the reviews "
    "and learned to continue their first words, against rewards of word pairs, fitted to "
    f"{CELLS[0]}, {CELLS[1]} and {CELLS[2]} judgments of its own responses; those that reach the limit are scored as "
    f"they are. The alarm without gold: {WATCHERS} rewards of {LABELS[-1]} judgments each of another rater, about "
    "other prompts, on words of which those that come again count ever less (1 + log n); for best-of-n their mean, "
    "whose error is the interval over them, too, in PPO `--watch-reward ensemble(…, k=1)`, their mean less their "
    "spread, as in the second try. Gold is windows of 2 rounds in PPO, of "
    "whose gain nothing can be lost where it never rose; it rises after an alarm where it gets higher than before by "
    "more than two standard errors. Third try, after pilots on other seeds. The first had one reward in a cell, so "
    "that its peaks were chance (Spearman −.13 at the lower end), and one that watched, of whose alarms a third came "
    "before the peak on the worst seed; PPO and the second round were not run, and \"few labels\" were 30. In the "
    "second PPO maximised rewards of 30, 300 and 3,000 judgments of the trigram model's responses; the alarm came on "
    "three of four seeds, and once before the peak of a curve of best-of-n. What a look at it showed, and what was "
    "changed: with 30 labels gold hardly rose, for the policy had not learned to end and was punished for it, so "
    "there was little to fall (now: supervised fine-tuning, no punishment, judgments of its own responses, 300 labels, "
    "and what never rose counts as not lost); where the alarm was missing the policy repeated one sign, "
    "which the three that watched, sums over all words, liked without end, as did the proxy (now: repeated words are "
    "damped, and eight watch); and the alarm compared the best round alone with each of three (now: all rounds since "
    "the fall with a stretch before it, in the product, too). Thresholds are the same. In a pilot with 100 labels "
    "gold never rose, and the mean of the eight did not tell; it is run and shown, and must not be told before the "
    "peak either. On one pilot seed of three the mean was silent with 300, too, for the eight parted: that is why "
    "their spread is taken off. Then it tells on all three, on two late (round 29 of 32, 32 of 40): 40 rounds.",
    frozen="2026-11-30",
    criteria=(
        Criterion("the proxy rises throughout", "smallest rise of the proxy", "at least", 0.0, "every seed"),
        Criterion("of gold's gain is lost by best-of-n with 30 to 300 labels", "lost with few labels", "at least", 0.1),
        Criterion("of gold's gain is lost by PPO with 300 labels", "lost by PPO, few labels", "at least", 0.1),
        Criterion(
            "the peak moves right with labels", "Spearman of labels and peak", "at least", 0.0, "interval"
        ),
        Criterion(
            "a second round of labels raises gold at the peak by", "a second round raises the peak by", "at least", 0.0,
            "interval",
        ),
        Criterion(
            "the alarm without gold comes in PPO with 300 labels", "alarm in PPO, few labels", "at least", 1.0,
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
    minutes=12,
    figure=figure,
)  # fmt: skip
