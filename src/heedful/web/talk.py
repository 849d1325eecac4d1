"""Replies of models in conversations, from a separate process that is started with the first message."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from heedful.errors import UserError
from heedful.web.models import Models
from heedful.web.worker import Worker

PATIENCE = 180.0  # seconds without a line from the process; the first includes loading
ENDED = "the models' process has ended; say it again"
WORKER = (sys.executable, "-m", "heedful.engine.talk")


def _without_paths(text: str, paths: Sequence[str], models: Sequence[str]) -> str:
    """Where the server keeps a model is nobody's business."""
    for path, model in zip(paths, models, strict=True):
        text = text.replace(path, model)
    return text


class Talk:
    """See the head of this file."""

    def __init__(self, models: Models, command: Sequence[str] = WORKER):
        self._models, self._worker = models, Worker(command, ENDED)

    async def replies(
        self,
        models: Sequence[str],
        messages: Sequence[dict[str, str]],
        *,
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> AsyncIterator[int | list[dict[str, Any]]]:
        """Yield the number of tokens of all replies so far, now and then; at last the list of replies.

        A reply is {text, tokens, logprobs, finish_reason}. Raises `UserError` with what a model could not do.
        """
        paths = [self._models.path(model) for model in models]
        how = {"messages": [*messages], "max_tokens": max_tokens, "temperature": temperature}
        asked = [
            {"model": path, "seed": seed, **how} for path, seed in zip(paths, seeds, strict=True)
        ]
        counts: dict[int, int] = {}
        replies: dict[int, dict[str, Any]] = {}
        async with aclosing(self._worker.ask(asked, PATIENCE)) as lines:
            try:
                async for place, line in lines:
                    if "error" in line:
                        raise UserError(_without_paths(line["error"], paths, models))
                    if "heard" in line:
                        counts[place] = line["heard"]
                        yield sum(counts.values())
                        continue
                    replies[place] = {k: v for k, v in line.items() if k != "id"}
                    if len(replies) == len(asked):
                        break
            except TimeoutError:
                raise UserError("the model did not reply in time; say it again") from None
        yield [replies[place] for place in range(len(asked))]

    async def close(self) -> None:
        """End the process; the next message starts another."""
        await self._worker.close()
