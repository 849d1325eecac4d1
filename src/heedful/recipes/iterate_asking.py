"""A round's questions: put to whoever answers them, judges asked at once, people waited for.

`asked.json` in the round's folder has the tasks, and who is to answer them. What a judge has said is on the disk before
it is a judgment, and a judgment is never asked for again, whoever gave it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from heedful.configs.iterate import PEOPLE, Config
from heedful.data.files import write_json
from heedful.errors import UserError
from heedful.progress import Progress
from heedful.raters.panel import judged, judges, name_of, spent
from heedful.remote.journal import ANSWERS, recorded_until_done
from heedful.store.database.db import Store
from heedful.store.lead import reports, rounds
from heedful.store.membership import people
from heedful.store.project import content
from heedful.types import Comparison, Rater
from heedful.waiting import all_of

BATCH = 50  # rows in one write transaction: raters wait no longer than that takes
ASKED = "asked.json"
Panel = Sequence[Rater] | None  # judges; None: people
Turn = tuple[str, int, Rater]  # a task, the number of one of its answers, and who gives it


@dataclass(frozen=True)
class Share:
    """Questions of one entry of `raters`."""

    rater: str
    tasks: Sequence[str]


def run(config: Config, store: Store, folder: Path, r: int, panels: Sequence[Panel]) -> bool:
    """Let the judges answer their questions, then wait for the people; False where that is not waited for."""
    shares = dealt(config, folder, r)
    for share, panel in zip(shares, panels, strict=True):
        if panel is not None:
            _judged(config, store, folder, share, panel, r)
    theirs = [t for s, panel in zip(shares, panels, strict=True) if panel is None for t in s.tasks]
    others = sum(len(s.tasks) for s in shares) - len(theirs)
    return not theirs or _waited(config, store, theirs, others * config.overlap, r)


def loaded(config: Config) -> list[Panel]:
    """Of each entry of `raters` its judges."""
    panels: list[Panel] = [
        None if name == PEOPLE else judges(name, config.seed) for name in config.raters
    ]
    for name, panel in zip(config.raters, panels, strict=True):
        if panel is not None and len({name_of(judge) for judge in panel}) < config.overlap:
            raise UserError(
                f"overlap {config.overlap}: {name} is {len(panel)} judge(s), and none answers the same question twice"
            )
    return panels


def tasks_of(folder: Path) -> list[str]:
    """All tasks of a round."""
    return [task for share in _read(folder) for task in share.tasks]


def write(folder: Path, shares: Sequence[Share]) -> None:
    """The questions are asked."""
    rows = [{"rater": share.rater, "tasks": list(share.tasks)} for share in shares]
    write_json(folder / ASKED, rows)


def _read(folder: Path) -> list[Share]:
    rows = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    # An earlier release wrote down the tasks alone.
    return [Share(r["rater"], r["tasks"]) if isinstance(r, dict) else Share("", r) for r in rows]


def dealt(config: Config, folder: Path, r: int) -> list[Share]:
    """A round's questions, a share for each entry of `raters`; dealt anew where these are others than before."""
    shares = _read(folder)
    before = [share.rater for share in shares]
    if before == list(config.raters) or (len(shares) == len(config.raters) and not any(before)):
        return [Share(n, s.tasks) for n, s in zip(config.raters, shares, strict=True)]
    tasks, count = tasks_of(folder), len(config.raters)
    shares = [Share(name, tasks[i::count]) for i, name in enumerate(config.raters)]
    write(folder, shares)
    say(
        f"round {r} was put to {_names(before)}: the answers that are there count, all others are now asked of "
        f"{_names(config.raters)}"
    )
    return shares


def _names(raters: Sequence[str]) -> str:
    return " and ".join(name for name in raters if name) or "others"


def _judged(
    config: Config, store: Store, folder: Path, share: Share, panel: Sequence[Rater], r: int
) -> None:
    """Judges take turns over the answers that are missing; each bears the name of who gave it."""

    def missing(connection: Connection) -> tuple[dict[str, list[int]], dict[str, Any]]:
        wanted = rounds.missing(connection, share.tasks, key_of)
        return wanted, reports.questions(connection, list(wanted))

    wanted, questions = store.in_read(missing)
    turns: list[Turn] = [
        (task, k, panel[(n + k) % len(panel)])
        for n, task in enumerate(share.tasks)
        for k in wanted.get(task, ())
    ]
    with recorded_until_done(folder / ANSWERS, {}):
        told = asyncio.run(_asked(turns, questions, [share.rater, config.seed, r]))
        spent(panel)
        for begin in range(0, len(turns), BATCH):
            part = slice(begin, begin + BATCH)
            store.in_write(lambda c, part=part: _written(c, turns[part], told[part]))


async def _asked(turns: Sequence[Turn], questions: dict[str, Any], of: Any) -> list[Comparison]:
    def question(task: str) -> tuple[Any, Any]:
        return content.prompt_from_content(questions[task]["prompt"]), questions[task]["responses"]

    return await all_of(judged(judge, *question(task), of) for task, _, judge in turns)


def _written(
    connection: Connection, turns: Sequence[Turn], comparisons: Sequence[Comparison]
) -> None:
    """Answers become judgments; those that are there already stay as they are."""
    for (task, k, judge), comparison in zip(turns, comparisons, strict=True):
        who = people.ensure_judge(connection, name_of(judge))
        rounds.judge(connection, task, who, comparison.places, key=key_of(task, k))


def key_of(task: str, k: int) -> str:
    """The idempotency key of a task's answer number k by a judge."""
    return f"iterate-{task}-{k}"[:64]


def _waited(config: Config, store: Store, theirs: Sequence[str], others: int, r: int) -> bool:
    """For people, until there are as many answers as are wanted; `others` are given by judges."""

    def state() -> rounds.Waiting:
        return store.in_read(lambda connection: rounds.waiting(connection, theirs))

    now = state()
    wanted = min(max(config.answers - others, 1), now.expected) if config.answers else now.expected
    with Progress(f"round {r} answers", wanted, quiet=config.quiet) as bar:
        while not now.over and now.done < wanted:
            parked = f", {now.parked} set aside for the lead" if now.parked else ""
            if not config.wait:
                say(
                    f"round {r} waits for people: {now.done} of {wanted} answers{parked}. "
                    f"`heedful serve {config.workspace}` asks them; the same command goes on later"
                )
                return False
            bar.update(now.done)
            time.sleep(config.poll_seconds)
            now = state()
        bar.update(min(now.done, wanted))
    return True


def say(sentence: str) -> None:
    """A line of `heedful iterate`."""
    print(f"iterate: {sentence}", file=sys.stderr, flush=True)
