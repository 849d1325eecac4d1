"""What to ask next: as good a reward from fewer labels, by asking where the reward is least sure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

if TYPE_CHECKING:
    from torch import Tensor

QUESTIONS, TESTED, SIZE, POOLS = 300, 200, 64, 6  # asked about, tried on; features; pools a seed
EACH = 4  # responses to each
FIRST, BATCH, LABELS = 20, 10, 320
RIDGE, SMOOTH = 1.0, 3  # looks that a point of a curve is the mean of
ARMS = ("random", "disagreement", "bald", "double Thompson")
RATERS, SPAMMERS = 12, 4  # of the panel that is chosen from, too
FEW = 64  # draws where whom to ask is chosen, too: each is tried with each rater
CROWD = ("random pair and rater", "Crowd-BT's pair and rater")


@dataclass(frozen=True)
class Pool:
    """Responses to questions of `capitals`: features `[N, F]`, gold `[N]`; candidate pairs `[P, 2]`, of one question
    each, and the pairs of other questions, by which a reward is measured."""

    features: Tensor
    gold: Tensor
    pairs: Tensor
    tested: Tensor
    texts: Sequence[tuple[str, str]]


def run(seed: int, folder: Path, quick: bool) -> Result:
    """The accuracy of each arm by labels, and which share of random's labels it needs for random's accuracy."""
    curves: dict[str, list[list[float]]] = {}
    for k in range(1 if quick else POOLS):
        pool = made(seed * POOLS + k)
        most = FIRST + 3 * BATCH if quick else LABELS
        for arm in ARMS:
            curves.setdefault(arm, []).append(learned(pool, arm, seed * POOLS + k, most))
        for arm in CROWD:
            curves.setdefault(arm, []).append(crowd(pool, arm == CROWD[1], seed * POOLS + k, most))
    found: dict[str, Any] = {}
    for arm, of_pools in curves.items():
        mean = smooth([sum(values) / len(values) for values in zip(*of_pools, strict=True)])
        found |= {f"curve of {arm}": mean, f"{arm}: accuracy at the end": mean[-1]}
        beside = CROWD[0] if arm in CROWD else ARMS[0]
        if arm != beside:
            found[f"{arm}: share of labels"] = share(mean, found[f"curve of {beside}"])
    return found


def made(seed: int) -> Pool:
    """Questions are answered in the voices of demonstrators; features are the main directions of hashed words."""
    import torch

    from heedful.raters.reliability import hashed
    from heedful.worlds.capitals import DEMONSTRATED_VOICES, gold
    from heedful.worlds.capitals.questions import as_chat, questions
    from heedful.worlds.capitals.voices import pick, speak

    rng = random.Random(f"active/{seed}")
    asked = rng.sample(questions("train"), QUESTIONS) + rng.sample(questions("held_out"), TESTED)
    texts = [
        (q.text, speak(q, pick(DEMONSTRATED_VOICES, rng), rng)) for q in asked for _ in range(EACH)
    ]
    worth = [
        gold(as_chat(q), text)
        for q, (_, text) in zip((q for q in asked for _ in range(EACH)), texts, strict=True)
    ]
    words = hashed([response for _, response in texts]).double()
    words = words - words.mean(0)
    _, _, directions = torch.linalg.svd(words, full_matrices=False)
    features = words @ directions[:SIZE].T
    features = features / features.square().mean().sqrt()
    pairs = [
        (i * EACH + a, i * EACH + b)
        for i in range(len(asked))
        for a in range(EACH)
        for b in range(a)
    ]
    every, scores = torch.tensor(pairs), torch.tensor(worth, dtype=torch.float64)
    different = scores[every[:, 0]] != scores[every[:, 1]]
    apart = every[:, 0] >= QUESTIONS * EACH
    return Pool(features, scores, every[~apart], every[apart & different], texts)


def learned(pool: Pool, arm: str, seed: int, most: int) -> list[float]:
    """Rounds of asking people and refitting, from the same first questions: the accuracy after each."""
    import torch

    from heedful.raters.choosing import STRATEGIES, belief, chosen, in_turn
    from heedful.raters.simulated import panel

    people = panel(lambda prompt, response: worth_of[response], seed)
    worth_of = {text: float(g) for (_, text), g in zip(pool.texts, pool.gold, strict=True)}
    rng = random.Random(f"{seed}/{arm}")
    left = list(range(len(pool.pairs)))
    random.Random(seed).shuffle(left)
    asked, left = left[:FIRST], left[FIRST:]
    differences: list[Tensor] = []
    curve = []
    while True:
        for number in asked:
            i, j = pool.pairs[number].tolist()
            person = people[len(differences) % len(people)]
            first, second = person.judge(
                pool.texts[i][0], (pool.texts[i][1], pool.texts[j][1])
            ).places  # type: ignore[union-attr]
            better, worse = (i, j) if first < second else (j, i)
            differences.append(pool.features[better] - pool.features[worse])
        draws = belief(torch.stack(differences), ridge=RIDGE, seed=len(differences))
        curve.append(accuracy(pool, draws))
        if len(differences) >= most:
            return curve
        if arm == "random":
            asked = rng.sample(left, BATCH)
        elif arm == "double Thompson":
            asked = thompson(pool, draws, left, rng)
        else:
            d = pool.features[pool.pairs[left, 0]] - pool.features[pool.pairs[left, 1]]
            values = in_turn(draws @ d.T, BATCH, STRATEGIES[arm]).tolist()
            asked = [left[a.number] for a in chosen(values, BATCH, seed=len(differences))]
        left = [number for number in left if number not in set(asked)]


def thompson(pool: Pool, draws: Tensor, left: Sequence[int], rng: random.Random) -> list[int]:
    """Questions by chance, of each the two responses that double Thompson sampling takes, if not asked about before."""
    from heedful.raters.choosing import double_thompson

    numbers = {tuple(sorted(pool.pairs[n].tolist())): n for n in left}
    found: dict[int, None] = {}
    for _ in range(50 * BATCH):
        begin = rng.randrange(QUESTIONS) * EACH
        scores = draws @ pool.features[begin : begin + EACH].T
        one, other = sorted(begin + k for k in double_thompson(scores, rng))
        if (one, other) in numbers:
            found[numbers[one, other]] = None
        if len(found) == BATCH:
            break
    rest = [n for n in left if n not in found]
    return [*found, *rng.sample(rest, BATCH - len(found))]


def crowd(pool: Pool, active: bool, seed: int, most: int) -> list[float]:
    """Raters of whom some guess: whom to ask is chosen as well. What each says counts 2η − 1, η being the mean of a
    Beta by how often they said what the reward expects."""
    import numpy as np
    import torch

    from heedful.raters.choosing import UNIFORM, belief, pair_and_rater

    rng, draw = random.Random(f"{seed}/crowd"), np.random.default_rng(seed)
    left = list(range(len(pool.pairs)))
    rng.shuffle(left)
    turns = [(number, k % RATERS) for k, number in enumerate(left[:FIRST])]
    said: list[tuple[int, int, int]] = []
    curve = []
    while True:
        for number, rater in turns:
            i, j = pool.pairs[number].tolist()
            first = (
                rng.random() < 0.5
                if rater < SPAMMERS
                else bool(pool.gold[i] - pool.gold[j] + rng.gauss(0, 0.3) > 0)
            )
            said.append((i, j, rater) if first else (j, i, rater))
        better, worse, who = torch.tensor(said).unbind(1)
        d = pool.features[better] - pool.features[worse]
        eta = torch.full((RATERS,), 0.8, dtype=torch.float64)
        counts, right = torch.bincount(who, minlength=RATERS).double(), torch.zeros_like(eta)
        for _ in range(3):
            draws = belief(
                d, ridge=RIDGE, draws=FEW, seed=len(said), weight=(2 * eta - 1).clamp(min=0.05)[who]
            )
            agrees = (draws @ d.T).sigmoid().mean(0)
            right = torch.zeros(RATERS, dtype=torch.float64).index_add(0, who, agrees)
            eta = (4 + right) / (5 + counts)
        curve.append(accuracy(pool, draws))
        if len(said) >= most:
            return curve
        left = [number for number in left if number not in {n for n, _ in turns}]
        turns = [(number, rng.randrange(RATERS)) for number in rng.sample(left, BATCH)]
        if active:
            pairs = pool.pairs[left]
            margin = draws @ (pool.features[pairs[:, 0]] - pool.features[pairs[:, 1]]).T
            agreed, not_agreed = 4 + right.numpy(), 1 + (counts - right).numpy()
            reliability = torch.from_numpy(draw.beta(agreed, not_agreed, (32, RATERS)))
            value = pair_and_rater(margin, reliability)
            best, person = value.max(1)
            turns = turns[: round(UNIFORM * BATCH)]
            drawn = {number for number, _ in turns}
            order = (n for n in best.argsort(descending=True).tolist() if left[n] not in drawn)
            turns += [(left[n], int(person[n])) for n in islice(order, BATCH - len(turns))]


def accuracy(pool: Pool, draws: Tensor) -> float:
    """The share of new questions' pairs that the middle of the belief orders as gold does."""
    scores = pool.features @ draws.mean(0)
    one, other = pool.tested.unbind(1)
    right = (scores[one] > scores[other]) == (pool.gold[one] > pool.gold[other])
    return float(right.double().mean())


def smooth(curve: Sequence[float]) -> list[float]:
    """Each point the mean of the last few."""
    return [
        sum(part) / len(part)
        for i in range(len(curve))
        if (part := curve[max(0, i - SMOOTH + 1) : i + 1])
    ]


def share(curve: Sequence[float], random_curve: Sequence[float]) -> float:
    """Labels until a curve reaches the end of random's, by random's labels; 1.5 where it never does."""
    goal = random_curve[-1]
    labels = [FIRST + i * BATCH for i in range(len(curve))]
    return next((n / labels[-1] for n, a in zip(labels, curve, strict=True) if a >= goal), 1.5)


def figure(seeds: Sequence[Result]) -> Figure:
    """Accuracy by labels."""

    def line(arm: str) -> list[tuple[float, float]]:
        means = [sum(v) / len(v) for v in zip(*(s[f"curve of {arm}"] for s in seeds), strict=True)]
        return [(FIRST + i * BATCH, mean) for i, mean in enumerate(means)]

    return Figure(
        title="capitals, noisy raters: pairs of new questions in the right order",
        x="labels",
        y="accuracy",
        lines={arm: line(arm) for arm in (*ARMS, *CROWD)},
    )


REPRODUCTION = Reproduction(
    name="active-choice",
    claim="A reward that asks about what it is least sure of learns as much from fewer labels as from pairs by "
    "chance.",
    source="Houlsby et al. 2011 (BALD), Christiano et al. 2017 (disagreement), Chen et al. 2013 (Crowd-BT), "
    "Dwaracherla et al. 2024 (double Thompson sampling)",
    what=f"`capitals`: {QUESTIONS} questions, each answered {EACH} times in the voices that demonstrators have; pairs "
    f"of these are put to the eight noisy people of the panel, {BATCH} at a time, {LABELS} in all, 15 % of them by "
    "chance in every arm but double Thompson sampling, which takes questions by chance; a reward linear in "
    f"{SIZE} directions of hashed words, with Laplace's belief; accuracy on pairs of {TESTED} questions in other "
    f"wordings, by gold. Whom to ask is chosen, too, in another panel, {SPAMMERS} of whose {RATERS} guess. The share "
    f"of labels: until the accuracy, a mean of {SMOOTH} looks, is what random pairs reach at the end; 1.5 where it "
    "never is. All that was piloted on other seeds: with a pool in which every pair is of two voices no arm beat "
    "chance, since then no question is wasted. This is a second try after a look at the first, whose BALD needed .70 "
    "of random's labels: it had asked the ten most telling pairs at a time, often the same question over again, by 64 "
    "draws. Now each is chosen as if those before it had been answered, by 256 draws (both tried on other seeds), and "
    "a seed has twice as many pools.",
    frozen="2026-11-30",
    criteria=(
        Criterion("BALD: share of random's labels", "bald: share of labels", "at most", 0.6),
    ),
    run=run,
    minutes=4,
    figure=figure,
)  # fmt: skip
