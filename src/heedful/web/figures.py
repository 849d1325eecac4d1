"""What the lead's pages show of thousands of answers, counted in a process of its own.

It takes seconds of Python, and in the server's own process whoever rates would wait for the interpreter meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from heedful.errors import Unavailable, UserError
from heedful.remote.lines import Send, answer_lines
from heedful.store.database.db import Store, open_store
from heedful.store.project import projects
from heedful.web import alerts, alike, insight, probes
from heedful.web.tallies import Tallies
from heedful.web.worker import Worker

PATIENCE = 120.0  # seconds for one of them; the first includes the start
ENDED = "the process that counts has ended; open the page again"
NICE = 10  # raters' requests go first where processors are few


class Counting:
    """Each by its name, in this process."""

    def __init__(self, store: Store, tallies: Tallies):
        self._store = store
        self.reports: dict[str, Callable[..., Any]] = {
            "alerts": alerts.of_project,
            "agreement": insight.agreement,
            "rated-alike": alike.alike,
            "raters": partial(insight.raters, count=tallies),
            "disagreements": insight.disagreements,
            "labels": insight.labels,
            "win-rates": insight.win_rates,
            "probes": probes.broken,
        }

    def count(self, name: str, project: str, **asked: Any) -> Any:
        """The report of a project. `UserError` where there is no such project."""
        with self._store.read() as connection:
            projects.settings_of(connection, project)
            return self.reports[name](connection, project, **asked)


class Figures:
    """What a server asks: the process of a `workspace`, started with the first question; without one a thread."""

    def __init__(self, counting: Counting, workspace: Path | None = None):
        self._counting = counting
        command = (sys.executable, "-m", "heedful.web.figures", str(workspace))
        self._worker = workspace and Worker(command, ENDED)

    async def __call__(self, name: str, project: str, **asked: Any) -> Any:
        """As `Counting.count`. Raises `Unavailable` too where the database or the process is away."""
        if not self._worker:
            return await run_in_threadpool(self._counting.count, name, project, **asked)
        request = {"name": name, "project": project, "asked": asked}
        try:
            return _led(await self._worker.ask_one(request, PATIENCE))
        except TimeoutError:
            raise Unavailable(f"{name} were not counted within {PATIENCE:g} s") from None

    async def close(self) -> None:
        """End the process; the next question starts another."""
        if self._worker:
            await self._worker.close()


def _led(line: dict[str, Any]) -> Any:
    if "error" in line:
        raise UserError(line["error"])
    if "away" in line:
        raise Unavailable(line["away"])
    if "failed" in line:
        raise RuntimeError(f"the process that counts failed: {line['failed']}")
    return line["report"]


async def reply(counting: Counting, asked: dict[str, Any], send: Send) -> None:
    """Answer one request; what goes wrong is an answer too."""
    try:
        count = counting.count
        led = {
            "report": await asyncio.to_thread(
                count, asked["name"], asked["project"], **asked["asked"]
            )
        }
    except UserError as error:
        led = {"error": str(error)}
    except Unavailable as error:
        led = {"away": str(error)}
    except Exception as error:  # the server's log has it, as if it had counted itself
        led = {"failed": repr(error)}
    send({"id": asked["id"], **led})


def main(workspace: Path) -> None:
    os.nice(NICE)
    there = Counting(open_store(workspace), Tallies(workspace))
    asyncio.run(answer_lines(lambda asked, send: reply(there, asked, send)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
