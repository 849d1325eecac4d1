"""What can be said of texts without asking anybody: likeness to people's, variety, wins at equal length.

ROUGE is rouge-score's (Lin 2004; stems, the better of several references by F1) and BLEU sacrebleu's (Papineni et al.
2002; Post 2018). Neither is written again here: their tokenisers are what makes numbers comparable.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from heedful.errors import UserError
from heedful.evals.statistics import Interval, bootstrap_ci

ROUGE = ("rouge1", "rouge2", "rougeL")
MOST = 200  # texts that self-BLEU compares with each other: it is quadratic
RIDGE = 0.01  # keeps the regression finite where one length always wins


def package(name: str) -> Any:
    """`rouge_score.rouge_scorer` or `sacrebleu`; UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f'{name.partition(".")[0]} is not installed: pip install "heedful[texts]"'
        ) from None


def overlap(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """ROUGE-1, -2 and -L as F1 from 0 to 1, means over texts with intervals; BLEU of all together, from 0 to 100.

    `references[k]`: one or more texts that people wrote in the place of `texts[k]`.
    """
    scorer = package("rouge_score.rouge_scorer").RougeScorer(ROUGE, use_stemmer=True)
    scored = [
        scorer.score_multi([*others], text) for text, others in zip(texts, references, strict=True)
    ]
    found: dict[str, Any] = {}
    for name in ROUGE:
        values = [s[name].fmeasure for s in scored]
        found |= {name: fmean(values), f"{name}_ci": bootstrap_ci(values)}
    columns = [
        [others[k] if k < len(others) else None for others in references]
        for k in range(max(map(len, references)))
    ]
    return found | {"bleu": package("sacrebleu").corpus_bleu([*texts], columns).score}


def distinct(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words as a share of all, over all texts together (Li et al. 2016). It falls as texts grow
    in number and length: compare equal numbers only. nan where no text has n words."""
    grams = [
        tuple(words[k : k + n])
        for words in (text.split() for text in texts)
        for k in range(len(words) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else math.nan


def variety(texts: Sequence[str], *, seed: int = 0) -> dict[str, float | None]:
    """Distinct-1, -2 and -3, and self-BLEU: how far each text can be put together from the others, from 0 to 100 (Zhu
    et al. 2018), over at most `MOST` texts, drawn by the seed. Of a single text there is none."""
    found: dict[str, float | None] = {}
    for n in (1, 2, 3):
        share = distinct(texts, n)
        found[f"distinct_{n}"] = None if math.isnan(share) else share
    bleu = package("sacrebleu").sentence_bleu
    some = [*texts]
    if len(some) > MOST:
        kept = np.random.default_rng(seed).choice(len(some), MOST, replace=False)
        some = [some[k] for k in sorted(kept)]
    others = ([*some[:k], *some[k + 1 :]] for k in range(len(some)))
    scores = [bleu(t, o).score for t, o in zip(some, others, strict=True)] if some[1:] else []
    return found | {"self_bleu": fmean(scores) if scores else None}


def length_controlled(
    won: Sequence[float], longer: Sequence[float], *, draws: int = 1000, seed: int = 0
) -> tuple[float, Interval]:
    """The win rate that equal lengths would give, and its 95 % bootstrap interval.

    `won[k]` is 1, ½ or 0, `longer[k]` how many characters the response is longer than the baseline's. A logistic
    regression on tanh(longer / its standard deviation) is read where that is 0: AlpacaEval 2's estimator (Dubois et al.
    2024) without its terms for how hard prompts are, which come from other models. Where all differences are the same,
    nothing tells length from quality, and it is the win rate itself.
    """
    y, x = np.asarray(won, dtype=float), np.asarray(longer, dtype=float)
    spread = float(x.std(ddof=1)) if len(x) > 1 else 0.0
    x = np.tanh(x / spread) if spread > 0 else np.zeros_like(x)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=draws).astype(float)
    rates = _at_zero(y, x, np.concatenate([np.ones((1, len(y))), weights]))
    low, high = np.quantile(rates[1:], [0.025, 0.975])
    return float(rates[0]), (float(low), float(high))


def _at_zero(y: Any, x: Any, weights: Any) -> Any:
    """σ(a) of y ≈ σ(a + b x) for each row of weights `[R, N]`, by Newton's method. Only b is kept small, so that
    without lengths it is the mean."""
    design = np.stack([np.ones_like(x), x], 1)
    # a without wins or losses is infinite; what is that sure differs from 0 or 1 by nothing that is shown.
    coefficients = np.zeros((len(weights), 2))
    for _ in range(30):
        p = 1 / (1 + np.exp(-coefficients @ design.T))
        gradient = (weights * (y - p)) @ design - coefficients * [0, RIDGE]
        curve = np.einsum("rn,ni,nj->rij", weights * p * (1 - p), design, design, optimize=True)
        curve += np.diag([1e-9, RIDGE])
        step = np.linalg.solve(curve, gradient[..., None])[..., 0]
        coefficients = np.clip(coefficients + np.clip(step, -2, 2), -30, 30)
    return 1 / (1 + np.exp(-coefficients[:, 0]))
