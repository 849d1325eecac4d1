"""Environments that people play in the browser, in a separate process that is started when the first is asked for.

Which there are is said by whoever runs the server (`heedful serve --envs`), since an environment is code.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from heedful.errors import UserError, did_you_mean
from heedful.web.worker import Worker

PATIENCE = 60.0  # seconds for a turn; the first includes loading
ENDED = "the environments' process has ended; try it again"
WORKER = (sys.executable, "-m", "heedful.envs.host")


class Plays:
    """What may be played here, and the process in which it is."""

    def __init__(self, names: Sequence[str] = (), command: Sequence[str] = WORKER):
        self.names = tuple(names)
        self._worker = Worker((*command, *self.names), ENDED)

    async def ask(self, env: str, **request: Any) -> dict[str, Any]:
        """The answer to a request of `envs.host`. `UserError` with what could not be done."""
        if env not in self.names:
            there = f"there are {', '.join(self.names)}" if self.names else "there are none"
            raise UserError(
                f"'{env}' is none of the environments to play{did_you_mean(env, self.names)}: {there}; "
                "who runs the server names them, heedful serve --envs NAME"
            )
        try:
            line = await self._worker.ask_one({"env": env, **request}, PATIENCE)
        except TimeoutError:
            raise UserError("the environment did not answer in time; try it again") from None
        if "error" in line:
            raise UserError(line["error"])
        return line

    async def close(self) -> None:
        """End the process; the next question starts another."""
        await self._worker.close()


def check(names: Sequence[str]) -> None:
    """`UserError` for the first name that is no environment, by a process that ends again."""

    async def each() -> None:
        plays = Plays(names)
        try:
            for name in plays.names:
                await plays.ask(name, check=True)
        finally:
            await plays.close()

    if names:
        asyncio.run(each())
