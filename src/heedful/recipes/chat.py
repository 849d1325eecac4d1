"""Chat with a model in the terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from heedful.data.tokens import decode_response, encode_prompt, stop_tokens
from heedful.engine.torch import TorchEngine
from heedful.models.load import context_length, load_policy, load_tokenizer
from heedful.recipes.config import alias
from heedful.types import Message, Sampling


@dataclass(frozen=True, kw_only=True)
class Config:
    """Talk to a language model; an empty line or Ctrl-D ends the conversation."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The language model."""
    system: str | None = None
    """A system message to begin with."""
    remember: bool = True
    """Keep earlier turns in the conversation; models trained on single questions do better without."""
    max_tokens: int = 128
    """Longest response in tokens."""
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens with this mass."""
    seed: int = 0
    """Seed of the sampling."""
    device: str = "cpu"
    """Torch device."""


def run(config: Config) -> None:
    """Reads turns from standard input until it ends."""
    tokenizer = load_tokenizer(config.model)
    engine = TorchEngine(load_policy(config.model, device=config.device))
    limit = context_length(engine.model)
    opening = [Message("system", config.system)] if config.system else []
    history = list(opening)
    for turn, text in enumerate(_lines()):
        history = [*(history if config.remember else opening), Message("user", text)]
        tokens = encode_prompt(tokenizer, tuple(history))
        while len(tokens) + config.max_tokens > limit and len(history) > len(opening) + 1:
            del history[len(opening)]  # forget the oldest turn
            tokens = encode_prompt(tokenizer, tuple(history))
        (completion,) = asyncio.run(
            engine.generate(
                tokens,
                n=1,
                max_tokens=config.max_tokens,
                sampling=Sampling(config.temperature, config.top_p),
                stop=stop_tokens(tokenizer, tuple(history)),
                seed=config.seed + turn,
            )
        )
        answer = decode_response(tokenizer, list(completion.tokens))
        history.append(Message("assistant", answer))
        print(answer, flush=True)


def _lines() -> Iterator[str]:
    interactive = sys.stdin.isatty()
    while True:
        if interactive:
            print("you> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line.strip():
            return
        yield line.strip()
