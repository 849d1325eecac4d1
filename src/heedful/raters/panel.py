"""Who is meant by `--judge`: simulated people with a taste, or a registered judge."""

from __future__ import annotations

from heedful import registry
from heedful.raters.simulated import panel
from heedful.types import Rater
from heedful.worlds import scorer


def judges(spec: str, seed: int) -> list[Rater]:
    """Eight simulated people with the taste of a world or a function, or a registered judge such as llm:MODEL."""
    name, colon, rest = spec.partition(":")
    if colon and name in registry.entries("judge"):
        return registry.load("judge", name)(rest, seed)
    return list(panel(scorer(spec), seed))
