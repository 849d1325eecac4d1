"""Who is meant by `--judge`: simulated people with a taste, or a registered judge; and asking them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

from heedful import registry
from heedful.raters.endpoint import EndpointJudge
from heedful.raters.simulated import panel
from heedful.remote.endpoint import Endpoint, is_endpoint
from heedful.types import Comparison, Prompt, Rater
from heedful.waiting import all_of
from heedful.worlds import scorer


def judges(spec: str, seed: int) -> list[Rater]:
    """Eight simulated people with the taste of a world or a function, a registered one such as llm:MODEL, a server."""
    if is_endpoint(spec):
        return [EndpointJudge(Endpoint.of(spec, "--judge"))]
    name, colon, rest = spec.partition(":")
    if colon and name in registry.entries("judge"):
        return registry.load("judge", name)(rest, seed)
    return list(panel(scorer(spec), seed))


async def judged(rater: Rater, prompt: Prompt, responses: Sequence[str]) -> Comparison:
    """What a rater says, awaited where it takes its time."""
    comparison = rater.judge(prompt, responses)
    return await comparison if inspect.isawaitable(comparison) else comparison


async def judge_all(
    raters: Sequence[Rater], items: Sequence[tuple[Prompt, Sequence[str]]]
) -> list[Comparison]:
    """Every item judged once, the raters taking turns. What judges over the network have spent is told."""
    comparisons = await all_of(
        judged(raters[i % len(raters)], *item) for i, item in enumerate(items)
    )
    for rater in raters:
        if isinstance(rater, EndpointJudge) and rater.endpoint.calls:
            print(rater.summary(), file=sys.stderr)
    return comparisons
