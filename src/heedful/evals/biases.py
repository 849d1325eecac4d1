"""Which attributes of a response predict that it is preferred, and which a reward goes by.

Attributes can be seen in the text alone; none of them is a merit in itself. Of a pair x is the better one's attributes
less the other's, in standard deviations over all pairs, and P(the better one is) = σ(w·x): logistic regression without
a constant, with a weak normal prior, intervals by the sandwich over comparisons, whose pairs are not independent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heedful.evals.preferences import ordered
from heedful.evals.statistics import Interval, bootstrap_ci
from heedful.types import Comparison, Prompt

Array = np.ndarray
LIST = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s+\S", re.MULTILINE)
HEADING = re.compile(r"^\s*#{1,6}\s+\S", re.MULTILINE)
BOLD = re.compile(r"\*\*[^*\n]+\*\*")
CODE = re.compile(r"```|`[^`\n]+`")
AGREES = re.compile(
    r"\b(?:you(?:'re| are) (?:absolutely |quite |so )?(?:right|correct)|i (?:completely |totally )?agree|"
    r"(?:great|good|excellent|wonderful) (?:question|point|idea)|absolutely)\b",
    re.IGNORECASE,
)
HEDGES = re.compile(
    r"\b(?:i(?:'m| am) not (?:sure|certain)|i (?:don't|do not) know|perhaps|maybe|might|it depends|hard to say)\b",
    re.IGNORECASE,
)
REFUSES = re.compile(
    r"\b(?:i (?:can't|cannot|can not|won't|will not)|i(?:'m| am) (?:unable|not able)|as an ai)\b",
    re.IGNORECASE,
)
SORRY = re.compile(r"\b(?:sorry|apologi[sz]e|apologies)\b", re.IGNORECASE)
WORD = re.compile(r"\w+")
TEXTUAL: tuple[str, ...] = (
    "longer", "lists", "headings", "bold", "code", "questions", "exclamations", "agreeing", "echoing", "hedging",
    "apologising", "refusing",
)  # fmt: skip
PLACE = "shown first"
NAMES = (*TEXTUAL, PLACE)
PRIOR_STD, STEPS, LEAST = 3.0, 50, 20  # of w; Newton's steps; pairs below which nothing is said
Z = 1.959964  # 95 %


def attributes(prompt: Prompt, response: str) -> list[float]:
    """In the order of `TEXTUAL`: log(1 + count) of each, of length words; of echoing the share of its words that are
    the prompt's."""
    said = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    asked = {word for text in said for word in WORD.findall(text.lower())}
    words = WORD.findall(response.lower())
    counts = [len(words)]
    counts += [len(p.findall(response)) for p in (LIST, HEADING, BOLD, CODE)]
    counts += [response.count("?"), response.count("!"), len(AGREES.findall(response))]
    later = [len(p.findall(response)) for p in (HEDGES, SORRY, REFUSES)]
    echo = sum(word in asked for word in words) / max(1, len(words))
    return [*map(math.log1p, counts), echo, *map(math.log1p, later)]


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs: x `[N, F]`, the better one's attributes less the other's; which comparison each is from `[N]`, and
    what it counts `[N]`: the pairs of a ranking of K count K − 1 together."""

    x: Array
    row: Array
    weight: Array


@dataclass(frozen=True)
class Bias:
    """Of one attribute: in how many pairs it differs, how often the response with more of it won there, and what a
    standard deviation of it adds to the log-odds, all others being equal."""

    name: str
    pairs: int
    wins: float
    wins_ci: Interval
    log_odds: float
    log_odds_ci: Interval


def pairs_of(comparisons: Sequence[Comparison]) -> Pairs:
    """Every two responses that somebody has put in an order."""
    x, row, weight = [], [], []
    for number, c in enumerate(comparisons):
        known = [attributes(c.prompt, r) for r in c.responses]
        shown = dict(zip(c.order_shown or (), range(len(known)), strict=False))
        pairs = ordered(c)
        for i, j in pairs:
            first = (shown[i] < shown[j]) - (shown[j] < shown[i]) if shown else 0
            x.append([*(a - b for a, b in zip(known[i], known[j], strict=True)), float(first)])
            row.append(number)
            weight.append(min(1.0, (len(known) - 1) / len(pairs)))
    return Pairs(np.array(x).reshape(-1, len(NAMES)), np.array(row), np.array(weight))


def biases(pairs: Pairs) -> list[Bias]:
    """Of each attribute that differs in `LEAST` pairs or more, the strongest first."""
    often = [k for k in range(len(NAMES)) if np.count_nonzero(pairs.x[:, k]) >= LEAST]
    if not often:
        return []
    x = pairs.x[:, often]
    scale = np.sqrt((pairs.weight[:, None] * x**2).sum(0) / pairs.weight.sum())
    w, error = logistic(x / scale, pairs.row, pairs.weight)
    found = []
    for place, k in enumerate(often):
        wins, interval = _wins(pairs, k)
        own = (float(w[place] - Z * error[place]), float(w[place] + Z * error[place]))
        count = int(np.count_nonzero(pairs.x[:, k]))
        found.append(Bias(NAMES[k], count, wins, interval, float(w[place]), own))
    return sorted(found, key=lambda b: -abs(b.log_odds))


def logistic(x: Array, row: Array, weight: Array) -> tuple[Array, Array]:
    """w of P = σ(w·x) by Newton's method, all pairs having been won by the first, and its standard errors."""
    w, ridge = np.zeros(x.shape[1]), np.eye(x.shape[1]) / PRIOR_STD**2
    for _ in range(STEPS):
        missed = 1 / (1 + np.exp(np.clip(x @ w, -500, 500)))  # 1 − P
        gradient = x.T @ (weight * missed) - ridge @ w
        curvature = (x * (weight * missed * (1 - missed))[:, None]).T @ x + ridge
        step = np.linalg.solve(curvature, gradient)
        w = w + step
        if np.abs(step).max() < 1e-10:
            break
    missed = 1 / (1 + np.exp(np.clip(x @ w, -500, 500)))
    scores = np.zeros((row.max() + 1, x.shape[1]))
    np.add.at(scores, row, x * (weight * missed)[:, None])
    inverse = np.linalg.inv(curvature)
    return w, np.sqrt(np.diag(inverse @ (scores.T @ scores) @ inverse))


def _wins(pairs: Pairs, k: int) -> tuple[float, Interval]:
    """How often the response with more of attribute k won, of the pairs in which it differs; bootstrap over
    comparisons."""
    differs = pairs.x[:, k] != 0
    won, row, weight = (pairs.x[differs, k] > 0), pairs.row[differs], pairs.weight[differs]
    rows, place = np.unique(row, return_inverse=True)
    total, right = np.zeros(len(rows)), np.zeros(len(rows))
    np.add.at(total, place, weight)
    np.add.at(right, place, weight * won)
    share = float(right.sum() / total.sum())
    return share, bootstrap_ci((right / total).tolist(), total.tolist())


@dataclass(frozen=True)
class Slopes:
    """Moments of rewards and textual attributes within prompts, from which the slopes on any of these follow: xx
    `[F, F]` and xy `[F]` are sums of products, `mean` `[F]` the attributes' means, yy the rewards' sum of squares."""

    xx: Array
    xy: Array
    yy: float
    mean: Array
    responses: int

    def of(self, names: Sequence[str]) -> dict[str, float]:
        """Reward per unit of each of these attributes, the others of them being equal; 0 of one that never differs."""
        some = [TEXTUAL.index(name) for name in names]
        slopes = np.linalg.pinv(self.xx[np.ix_(some, some)]) @ self.xy[some]
        return dict(zip(names, slopes.tolist(), strict=True))

    def explained(self, names: Sequence[str]) -> float:
        """R²: the share of the rewards' variance within prompts that these attributes account for."""
        slopes = self.of(names)
        fit = sum(slope * self.xy[TEXTUAL.index(name)] for name, slope in slopes.items())
        return float(fit / self.yy) if self.yy > 0 else 0.0


def slopes(
    items: Sequence[tuple[Prompt, Sequence[str]]], rewards: Sequence[Sequence[float]]
) -> Slopes:
    """Of the rewards of several responses to each prompt."""
    x, y, every = [], [], []
    for (prompt, responses), worth in zip(items, rewards, strict=True):
        known = np.array([attributes(prompt, r) for r in responses])
        every.append(known)
        x.append(known - known.mean(0))
        y.append(np.array(worth) - np.mean(worth))
    known, away = np.concatenate(x), np.concatenate(y)
    means = np.concatenate(every).mean(0)
    return Slopes(known.T @ known, known.T @ away, float(away @ away), means, len(away))
