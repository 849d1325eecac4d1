"""What a critique is worth: whether a judge who has read it decides rightly (Saunders et al. 2022).

--reward 'heedful.raters.critics:helps(judge=llm:runs/judge)'      of rows that `heedful critique` writes
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from heedful.data.critiques import criticised, shown
from heedful.data.sources import prompt_from_json
from heedful.errors import UserError
from heedful.raters.panel import judged, judges
from heedful.types import Facts, Prompt, Rater, places
from heedful.waiting import all_of


async def helps(prompt: Prompt, response: str, facts: Facts, *, judge: str, seed: int = 0) -> float:
    """A reward: the share of pairs with the criticised response that a judge orders rightly who has read the critique,
    ties ½; of several judges the mean."""
    index, answers, truth = criticised("a critic's question", facts)
    texts = [shown(a, response) if k == index else a for k, a in enumerate(answers)]
    about = prompt_from_json(facts["about"])
    of = await all_of(
        decided(rater, about, texts, truth, index, [judge, seed]) for rater in _judges(judge, seed)
    )
    return fmean(of)


def _check(prompt: Prompt, facts: Facts) -> None:
    """What `helps` would refuse of a row."""
    index, _, truth = criticised("a critic's question", facts)
    if "about" not in facts:
        raise UserError("a critic's question: expected a column `about`, the prompt of the answers")
    if not any(p != truth[index] for p in truth):
        raise UserError("a critic's question: the criticised answer ties with all others")


helps.check = _check  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=4)
def _judges(spec: str, seed: int) -> tuple[Rater, ...]:
    return tuple(judges(spec, seed))


async def decided(
    rater: Rater,
    prompt: Prompt,
    texts: Sequence[str],
    truth: Sequence[int],
    index: int | None = None,
    of: Any = None,
) -> float:
    """The share of pairs (of those with response `index`, or of all) that a rater orders as `truth`, the places, does.
    Ties in the truth count for nothing, those of the rater ½."""
    said = places((await judged(rater, prompt, texts, of)).ranking)
    right = [
        0.5 * (1 + (said[i] < said[j]) - (said[i] > said[j]))
        for i, mine in enumerate(truth)
        for j, theirs in enumerate(truth)
        if mine < theirs and index in (None, i, j)
    ]
    return fmean(right)


def with_critiques(answers: Sequence[str], critiques: Mapping[int, str]) -> list[str]:
    """All responses as a judge sees them who reads every critique."""
    return [shown(text, critiques.get(k, "")) for k, text in enumerate(answers)]
