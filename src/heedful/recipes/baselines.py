"""What a reward model must beat: "the shorter wins", "the longer wins", and logistic regression on n-grams.

On the very prompts that `heedful train reward` holds back with the same `--held-out`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from heedful.configs.baselines import Config
from heedful.data.reading import named
from heedful.data.sources import prompt_text, read_comparisons, split_by_prompt
from heedful.errors import UserError
from heedful.evals.preferences import ordered
from heedful.evals.statistics import bootstrap_ci, wins
from heedful.transfer.sources import materialise
from heedful.types import Comparison


def run(config: Config) -> dict[str, Any]:
    """Accuracy with its 95 % bootstrap interval over prompts, for each baseline; a draw counts ½."""
    data = materialise(config.data, "rankings")
    comparisons = read_comparisons(
        data, skip_bad=config.on_bad_row == "drop", columns=config.columns
    )
    train, held = split_by_prompt(comparisons, lambda c: c.prompt, config.held_out)
    if not train or not held:
        raise UserError(
            f"{named(config.data)}: --held-out {config.held_out} leaves one side without prompts; "
            "of few comparisons a larger share is needed, such as --held-out 0.3"
        )
    return {
        "pairs": sum(len(ordered(c)) for c in held),
        "shorter wins": _accuracy(lambda c: [-float(len(r)) for r in c.responses], held),
        "longer wins": _accuracy(lambda c: [float(len(r)) for r in c.responses], held),
        "n-grams": _accuracy(ngram_scorer(train), held),
    }


def ngram_scorer(train: Sequence[Comparison]) -> Callable[[Comparison], list[float]]:
    """Bradley–Terry on tf-idf of words and word pairs: logistic regression on differences of responses."""
    try:
        from scipy.sparse import vstack
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise UserError(
            "the n-gram baseline needs scikit-learn: pip install 'heedful[baselines]'"
        ) from None
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    vectorizer.fit(f"{prompt_text(c.prompt)} {r}" for c in train for r in c.responses)
    differences = [
        vectorizer.transform([c.responses[i]]) - vectorizer.transform([c.responses[j]])
        for c in train
        for i, j in ordered(c)
    ]
    # Both signs, so that neither class nor intercept can say anything.
    x = vstack([*differences, *(-d for d in differences)])
    y = [1] * len(differences) + [0] * len(differences)
    model = LogisticRegression(fit_intercept=False, max_iter=1000).fit(x, y)
    return lambda c: model.decision_function(vectorizer.transform(c.responses)).tolist()


def _accuracy(
    scores_of: Callable[[Comparison], list[float]], held: Sequence[Comparison]
) -> dict[str, Any]:
    shares: list[float] = []
    weights: list[float] = []
    for c in held:
        scores, pairs = scores_of(c), ordered(c)
        if pairs:
            right = wins([scores[i] for i, _ in pairs], [scores[j] for _, j in pairs])
            shares.append(sum(right) / len(pairs))
            weights.append(float(len(pairs)))
    mean = sum(s * w for s, w in zip(shares, weights, strict=True)) / sum(weights)
    return {"accuracy": mean, "accuracy_ci": bootstrap_ci(shares, weights)}
