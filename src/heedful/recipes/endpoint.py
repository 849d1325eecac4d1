"""Serve a model over the OpenAI API, so that other programs reach it: harnesses, judges, agents."""

from __future__ import annotations

import asyncio
import os
import sys

from heedful.configs.endpoint import Config, refuse_nonsense
from heedful.endpoint.app import create_app
from heedful.endpoint.server import listen, serving
from heedful.engine import load_engine
from heedful.errors import UserError
from heedful.models.load import load_tokenizer
from heedful.models.values import load_steered
from heedful.serving import EngineSpeaker, Episodes


def run(config: Config) -> None:
    """Until interrupted."""
    refuse_nonsense(config)
    key = _key(config.api_key)
    listener = listen(config.host, config.port)  # before a model is loaded for nothing
    try:
        engine = load_engine(load_steered(config.model, device=config.device))
        tokenizer = load_tokenizer(config.model)
        speaker = EngineSpeaker(engine, tokenizer, config.sampling, config.max_tokens)
        desk = Episodes(speaker, (config.name or config.model,), key=key, anybody=True)
        app = create_app(desk, *desk.routes())

        async def serve() -> None:
            async with serving(app, listener) as url:
                print(f"{desk.models[0]} answers at {url}", flush=True)
                print("Ctrl-C stops it.", file=sys.stderr, flush=True)
                await asyncio.Event().wait()

        asyncio.run(serve())
    finally:
        listener.close()


def _key(given: str | None) -> str | None:
    """The key itself, or that of an environment variable."""
    if given is None or not given.startswith("env:"):
        return given
    if not (key := os.environ.get(given[4:])):
        raise UserError(f"--api-key {given}: there is no such environment variable")
    return key
