"""From the probabilities that one response is better than another to a ranking; the question that judges are asked."""

from __future__ import annotations

from collections.abc import Sequence

from heedful.types import Comparison, Prompt

TIE = 0.05  # probabilities this near to ½ say nothing


def pairs(responses: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs that have to be asked: those of different texts."""
    n = len(responses)
    return [(i, j) for i in range(n) for j in range(i + 1, n) if responses[i] != responses[j]]


def ranked(
    prompt: Prompt,
    responses: Sequence[str],
    probabilities: dict[tuple[int, int], float],
    rater: str,
    seconds: float,
) -> Comparison:
    """A ranking by the sum of the probabilities to win. Equal texts tie, and so do those that nobody can tell apart.

    `probabilities[i, j]` is that response i is better than j.
    """
    wins = [0.0] * len(responses)
    for i in range(len(responses)):
        for j in range(i + 1, len(responses)):
            p = probabilities.get((i, j), 0.5)
            p = 0.5 if abs(p - 0.5) < TIE else p
            wins[i] += p
            wins[j] += 1 - p
    levels = sorted({round(w, 6) for w in wins}, reverse=True)
    return Comparison(
        prompt=prompt,
        responses=tuple(responses),
        ranking=tuple(levels.index(round(w, 6)) + 1 for w in wins),
        rater=rater,
        seconds=seconds,
    )
