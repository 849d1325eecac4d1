"""Chat with a model in the terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

from heedful.configs.chat import Config
from heedful.data.tokens import decode_response, encode_prompt, stop_tokens
from heedful.engine import load_engine
from heedful.models.limits import context_length
from heedful.models.load import load_tokenizer
from heedful.models.values import load_steered
from heedful.types import Message, Sampling


def run(config: Config) -> None:
    """Reads turns from standard input until it ends."""
    tokenizer = load_tokenizer(config.model)
    model = load_steered(config.model, device=config.device)
    engine, limit = load_engine(model), context_length(model)
    opening = [Message("system", config.system)] if config.system else []
    history = list(opening)
    with asyncio.Runner() as loop:
        for turn, text in enumerate(_lines()):
            history = [*(history if config.remember else opening), Message("user", text)]
            tokens = encode_prompt(tokenizer, tuple(history))
            while len(tokens) + config.max_tokens > limit and len(history) > len(opening) + 1:
                del history[len(opening)]  # forget the oldest turn
                tokens = encode_prompt(tokenizer, tuple(history))
            (completion,) = loop.run(
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
