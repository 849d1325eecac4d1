"""Critique and revision by principles: samples → demonstrations of the better answer (constitutional fine-tuning).

A model says where each response goes against a principle, then writes it anew; `train sft` learns what it wrote. Every
answer is on disk before it is used, so that the same command goes on where it stopped and asks nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from heedful.configs.revise import Config
from heedful.data.columns import prompt_to_json
from heedful.data.reading import named
from heedful.data.sources import prompt_columns, prompt_of, read_samples, write_rows
from heedful.data.tokens import decode_response, encode_prompt, no_room, stop_tokens
from heedful.engine import load_engine
from heedful.errors import UserError
from heedful.models.load import load_policy, load_tokenizer
from heedful.progress import Progress
from heedful.raters.asking import read_principles
from heedful.raters.revising import Revised, Writer, chosen, revised
from heedful.remote.endpoint import Endpoint, is_endpoint
from heedful.remote.journal import beside, recorded_until_done
from heedful.remote.limits import Limits
from heedful.remote.sources import sources
from heedful.transfer.sources import materialise
from heedful.types import Message, Prompt, Sampling
from heedful.waiting import all_of

AT_ONCE = 64  # responses that a model of this machine works on at the same time
log = logging.getLogger("heedful")


def run(config: Config) -> Path:
    """Returns the path of the revised responses."""
    principles = read_principles("--principles", config.principles)
    source = materialise(config.data, "samples", split="all")
    rows = [r for r in read_samples(source, config.columns) if r["completion"].strip()]
    if not rows:
        raise UserError(f"{named(config.data)}: every response is empty")
    asked = [(prompt_of(named(config.data), row), row["completion"]) for row in rows]
    write = writer(config, config.by, "--by")
    with recorded_until_done(beside(config.out), sources(config)):
        made = asyncio.run(all_revised(config, write, asked, principles))
        write_rows(config.out, map(as_row, made))
    kept = sum(one.completion == one.original for one in made)
    if kept:
        log.warning("%d of %d responses came back as they were", kept, len(made))
    return config.out


async def all_revised(
    config: Config, write: Writer, asked: Sequence[tuple[Prompt, str]], principles: Sequence[str]
) -> list[Revised]:
    """Every response by its own principles, all at the same time."""
    with Progress("revise", len(asked), quiet=config.quiet) as bar:
        return await all_of(
            (
                revised(write, prompt, response, chosen(principles, prompt, config.rounds, config.seed))
                for prompt, response in asked
            ),
            bar.update,
        )  # fmt: skip


def as_row(one: Revised) -> dict[str, Any]:
    """As `train sft` reads it, with all that led there."""
    beside_it = {"original": one.original, "revisions": [asdict(r) for r in one.revisions]}
    return prompt_columns(one.prompt) | {"completion": one.completion} | beside_it


class Asking(Protocol):
    """What a config says of how a writer is asked."""

    @property
    def max_tokens(self) -> int: ...

    @property
    def device(self) -> str: ...

    @property
    def seed(self) -> int: ...


def writer(config: Asking, by: str, flag: str) -> Writer:
    """Who is asked, as `flag` named them, as by a user where there is a chat template; the likeliest words, at
    temperature 0."""
    write, chats = asked_as_is(config, by, flag)
    return lambda text: write((Message("user", text),) if chats else text)


def asked_as_is(
    config: Asking, by: str, flag: str
) -> tuple[Callable[[Prompt], Awaitable[str]], bool]:
    """A text goes on, a conversation goes through the chat template; and whether there is one. A server is asked for
    the last message, whichever it is."""
    if is_endpoint(by):
        endpoint = Endpoint.of(by, flag)
        longest = max(config.max_tokens, endpoint.options.answer_tokens)
        endpoint.options = replace(endpoint.options, answer_tokens=longest, logprobs=False)

        async def served(prompt: Prompt) -> str:
            text = prompt if isinstance(prompt, str) else prompt[-1].content
            return (await endpoint.ask(text, ())).text

        return served, True
    if not by.startswith("llm:"):
        raise UserError(f"{flag} {by}: expected llm:MODEL or http://HOST:PORT/v1#NAME")
    return local(config, by.removeprefix("llm:"), flag)


def local(config: Asking, name: str, flag: str) -> tuple[Callable[[Prompt], Awaitable[str]], bool]:
    """A model of this machine, and whether it has a chat template."""
    tokenizer = load_tokenizer(name)
    engine = load_engine(load_policy(name, device=config.device))
    limits, where = Limits(concurrency=AT_ONCE), f"{flag} llm:{name}"
    who = [str(Path(name).resolve()), config.max_tokens]

    async def said(prompt: Prompt) -> dict[str, str]:
        tokens = encode_prompt(tokenizer, prompt)
        if reason := no_room(prompt, len(tokens), config.max_tokens, engine.window):
            raise UserError(f"{where}: {reason}; a smaller --max-tokens may help")
        (answer,) = await engine.generate(
            tokens,
            n=1,
            max_tokens=config.max_tokens,
            sampling=Sampling(temperature=0.0),
            stop=stop_tokens(tokenizer, prompt),
            seed=config.seed,
        )
        return {"text": decode_response(tokenizer, answer.tokens)}

    async def write(prompt: Prompt) -> str:
        asked = [*who, prompt_to_json(prompt)]
        return (await limits.awaited(lambda: said(prompt), asked, where))["text"]

    return write, bool(tokenizer.chat_template)
