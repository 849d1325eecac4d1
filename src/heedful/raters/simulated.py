"""Simulated raters: they feel as a scorer does, with noise, a love of length or of the first, or spite."""

from __future__ import annotations

import hashlib
import inspect
import math
import random
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.types import Comparison, Prompt, Scorer
from heedful.waiting import all_of


@dataclass(frozen=True)
class SimulatedRater:
    """`types.Rater`. Ranks by u_k = score_k/temperature + length_bias·words_k + position_bias·[shown first] + Gumbel.

    With Gumbel noise the ranking is exactly Plackett–Luce, and Bradley–Terry for two: P(i ≻ j) =
    σ((score_i − score_j)/temperature + …). `noise` is the chance of a random answer; a troll turns its
    ranking round. Equal texts tie. The same rater gives the same question the same answer.
    """

    scorer: Scorer
    name: str
    temperature: float = 0.3
    noise: float = 0.0
    length_bias: float = 0.0
    position_bias: float = 0.0
    troll: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(
                f"rater {self.name}: temperature must be above 0, not {self.temperature}"
            )
        if not 0 <= self.noise <= 1:
            raise UserError(f"rater {self.name}: noise is a probability, not {self.noise}")

    def judge(self, prompt: Prompt, responses: Sequence[str]) -> Comparison | Awaitable[Comparison]:
        """A ranking of the responses, shown in random order; labels stay with the responses, not with places.

        A scorer that is awaited makes a judgment that is awaited.
        """
        worth = {response: self.scorer(prompt, response) for response in responses}
        if any(inspect.isawaitable(value) for value in worth.values()):
            return self._awaited(prompt, responses, worth)
        return self._ranked(prompt, responses, worth)

    async def _awaited(
        self, prompt: Prompt, responses: Sequence[str], worth: Mapping[str, Any]
    ) -> Comparison:
        values = await all_of(worth.values())
        return self._ranked(prompt, responses, dict(zip(worth, values, strict=True)))

    def _ranked(
        self, prompt: Prompt, responses: Sequence[str], worth: Mapping[str, float]
    ) -> Comparison:
        text = "\x1f".join((self.name, str(self.seed), prompt_text(prompt), *responses))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        rng = random.Random(digest)
        order = list(range(len(responses)))
        rng.shuffle(order)
        guessing = rng.random() < self.noise
        felt: dict[str, float] = {}
        for place, k in enumerate(order):
            response = responses[k]
            if response in felt:
                continue
            utility = -math.log(-math.log(rng.random() or 5e-324))  # Gumbel
            if not guessing:
                utility += worth[response] / self.temperature
                utility += self.length_bias * len(response.split())
                utility += self.position_bias if place == 0 else 0.0
            felt[response] = -utility if self.troll else utility
        best_first = sorted(felt, key=lambda r: felt[r], reverse=True)
        rank = {response: place for place, response in enumerate(best_first, start=1)}
        words = sum(len(r.split()) for r in responses)
        return Comparison(
            prompt=prompt,
            responses=tuple(responses),
            ranking=tuple(rank[r] for r in responses),
            rater=self.name,
            order_shown=tuple(order),
            seconds=round(2.0 + 0.25 * words * rng.lognormvariate(0.0, 0.4), 1),
        )


def panel(scorer: Scorer, seed: int, *, troll: bool = False) -> list[SimulatedRater]:
    """Eight people: most are careful, one is hasty, one likes long answers, one the first answer; a troll if asked."""
    rater = partial(SimulatedRater, scorer, seed=seed)
    people = [
        rater("Ada the attentive", temperature=0.15),
        rater("Bao the brisk", temperature=0.5),
        rater("Chidi the careful", temperature=0.1),
        rater("Dolores the distracted", temperature=0.3, noise=0.1),
        rater("Ewa the eloquent", temperature=0.3, length_bias=0.03),
        rater("Farid the first-comer", temperature=0.3, position_bias=0.5),
        rater("Gudrun the grumpy", temperature=0.4),
        rater("Hana the honest", temperature=0.2),
    ]
    return [*people, rater("Grendel under the bridge", troll=True)] if troll else people
