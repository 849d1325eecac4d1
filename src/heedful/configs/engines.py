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
OWN = re.compile(r"vllm(?::([^/]*))?")
MEMORY = 0.3  # of a GPU, as TRL has it
Correct = Literal["token", "sequence", "mask", "none"]


@dataclass(frozen=True, kw_only=True)
class Engined(Sampled):
    """How tokens are drawn, and by what."""

    engine: str | None = None
    """vLLM in place of heedful's own engine, docs/scaling.md: vllm, in this process, with .3 of the GPU's memory
    (vllm:0.5: half of it), or on servers, vllm:http://HOST:8000, several with commas."""


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


def memory_of(spec: str) -> float | None:
    """The share of its GPU that vLLM in this process takes, by `vllm` or `vllm:0.5`; None for another engine."""
    if not (found := OWN.fullmatch(spec)):
        return None
    try:
        share = MEMORY if found[1] is None else float(found[1])
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UserError(
            f"--engine {spec}: expected vllm, vllm:0.5 (the share of a GPU's memory, above 0, at most 1) or "
            "vllm:http://HOST:8000"
        )
    return share


def has_own_weights(spec: str) -> bool:
    """Whether an engine has a copy of the weights, which may be another one."""
    return bool(servers_of(spec)[1]) or memory_of(spec) is not None


def refuse_engine(config: Engined) -> None:
    """UserError for an engine that nobody knows."""
    if config.engine is None:
        return
    name, _ = servers_of(config.engine)
    if memory_of(config.engine) is None and ":" not in name:
        registry.entry("engine", name, "--engine")
