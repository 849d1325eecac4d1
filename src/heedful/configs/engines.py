"""Where a policy that is trained on its own samples draws them: in this process, or on servers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from heedful import registry
from heedful.configs.common import Sampled
from heedful.errors import UserError
from heedful.fields import Range
from heedful.tagged import ReadWith

URL = re.compile(r"https?://[^\s/,@#?]+")
Correct = Literal["token", "sequence", "mask", "none"]


@dataclass(frozen=True, kw_only=True)
class Engined(Sampled):
    """How tokens are drawn, and by what."""

    engine: str | None = None
    """Servers that sample in place of this process: vllm:http://HOST:8000, several with commas: docs/scaling.md."""


@dataclass(frozen=True, kw_only=True)
class Corrected(Engined):
    """What is done about an engine whose log-probs are not exactly the policy's."""

    correct: Annotated[Correct, ReadWith("engine")] = "token"
    """Weigh what the engine drew by the policy's probability over the engine's: of each token, or of the whole
    response, at most --correct-cap; mask: of the response, and none that has more; or not at all."""
    correct_cap: Annotated[float, Range(1), ReadWith("engine")] = 2.0
    """The largest of these weights."""


def servers_of(spec: str) -> tuple[str, tuple[str, ...]]:
    """`vllm:http://a:8000,http://b:8000` → vllm and the addresses; what names no addresses is a name alone."""
    name, _, place = spec.partition(":")
    if not place.startswith("http"):
        return spec, ()
    urls = tuple(url.strip().rstrip("/") for url in place.split(","))
    if wrong := [url for url in urls if not URL.fullmatch(url)]:
        raise UserError(
            f"--engine {spec}: '{wrong[0]}' is no server; expected vllm:http://HOST:PORT[,http://HOST:PORT]"
        )
    if len(set(urls)) < len(urls):
        raise UserError(f"--engine {spec}: a server is named twice")
    return name, urls


def refuse_engine(config: Engined) -> None:
    """UserError for an engine that nobody knows, or that has no addresses."""
    if config.engine is None:
        return
    name, urls = servers_of(config.engine)
    if name == "vllm" and not urls:
        raise UserError(
            f"--engine {config.engine}: say where its servers are: vllm:http://HOST:8000"
        )
    if ":" not in name:
        registry.entry("engine", name, "--engine")
