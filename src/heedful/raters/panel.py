"""Who is meant by `--judge`: simulated people with a taste, or a registered judge; and asking them."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from heedful import registry
from heedful.errors import UserError, did_you_mean
from heedful.raters.endpoint import EndpointJudge, JudgeOptions
from heedful.raters.simulated import panel
from heedful.remote.endpoint import Endpoint, is_endpoint
from heedful.remote.journal import MISSING, Recording, recording
from heedful.remote.limits import SLOW, plain
from heedful.types import Comparison, Prompt, Rater
from heedful.waiting import all_of
from heedful.worlds import scorer


def judges(spec: str, seed: int) -> list[Rater]:
    """Eight simulated people with the taste of a world or a function, a registered one such as llm:MODEL, a server."""
    if is_endpoint(spec):
        return [EndpointJudge(Endpoint.of(spec, "--judge", JudgeOptions))]
    name, colon, rest = spec.partition(":")
    if colon and name in registry.entries("judge"):
        return registry.load("judge", name)(rest, seed)
    worlds = registry.entries("world")
    if not colon and spec not in worlds:
        raise UserError(
            f"there is no judge '{spec}'{did_you_mean(spec, worlds)}: expected llm:MODEL, http://HOST:PORT/v1#NAME, "
            f"package.module:function, or a world: {', '.join(worlds)}"
        )
    return list(panel(scorer(spec), seed))


async def judged(
    rater: Rater, prompt: Prompt, responses: Sequence[str], of: Any = None
) -> Comparison:
    """What a rater says, awaited where it takes its time.

    Within `journal.recorded` it is on the disk before anybody sees it, and one that was said to an earlier start is
    not asked for again. `of` says, beside the name, who they are: such as their spec and seed.
    """
    past = recording()
    if past is None:
        return await _asked(rater, prompt, responses)
    key = past.key(["judge", of, name_of(rater), prompt, list(responses)])
    if (said := past.find(key)) is not MISSING:
        return Comparison(prompt, **{name: _tuple(value) for name, value in said.items()})
    # When another judgment fails, this one is cancelled: what is on its way by then is paid for, and kept.
    telling = asyncio.ensure_future(_told(past, key, rater, prompt, responses))
    try:
        return await asyncio.shield(telling)
    except asyncio.CancelledError:
        await asyncio.gather(telling, return_exceptions=True)
        raise


async def _told(
    past: Recording, key: str, rater: Rater, prompt: Prompt, responses: Sequence[str]
) -> Comparison:
    """What a rater says, written down."""
    began = time.monotonic()
    comparison = await _asked(rater, prompt, responses)
    said = plain({f.name: getattr(comparison, f.name) for f in fields(comparison)[1:]})
    if said is not MISSING:
        past.write(key, said, sync=time.monotonic() - began >= SLOW)
    return comparison


async def _asked(rater: Rater, prompt: Prompt, responses: Sequence[str]) -> Comparison:
    comparison = rater.judge(prompt, responses)
    return await comparison if inspect.isawaitable(comparison) else comparison


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def name_of(rater: Rater) -> str:
    """Under which a rater's answers are kept."""
    return str(getattr(rater, "name", type(rater).__name__))


async def judge_all(
    raters: Sequence[Rater],
    items: Sequence[tuple[Prompt, Sequence[str]]],
    of: Any = None,
    tick: Callable[[int], None] | None = None,
) -> list[Comparison]:
    """Every item judged once, the raters taking turns; `of` as in `judged`, `tick` as in `all_of`. What judges over the
    network have spent is told."""
    comparisons = await all_of(
        (judged(raters[i % len(raters)], *item, of) for i, item in enumerate(items)), tick
    )
    spent(raters)
    return comparisons


def spent(raters: Sequence[Rater]) -> None:
    """Tell what models as judges have cost, and how far their letters can be used."""
    for rater in raters:
        if (summary := getattr(rater, "summary", None)) and (told := summary()):
            print(told, file=sys.stderr)
