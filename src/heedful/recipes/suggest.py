"""Suggestions: a judge or a reward says what is better on a workspace's questions, kept beside them and no judgment."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection

from heedful.configs.suggest import Config
from heedful.errors import UserError
from heedful.progress import Progress
from heedful.raters import suggested
from heedful.raters.panel import judge_all, judges
from heedful.recipes.score import score_rows
from heedful.remote.journal import ANSWERS, recorded_until_done
from heedful.remote.sources import sources
from heedful.rewards import load_rewards
from heedful.run.settings import identity
from heedful.store.database.db import Store
from heedful.store.lead import reports
from heedful.store.project import projects, suggestions
from heedful.store.project.content import prompt_from_content
from heedful.transfer.workspace import opened, project_of
from heedful.types import without_gaps

log = logging.getLogger("heedful")

BATCH = 200  # in one write transaction
Questions = Mapping[str, Mapping[str, Any]]  # by task, see `reports.questions`


def run(config: Config) -> None:
    """Suggestions are kept, shown or not as it says; then prints what suggestions do to raters."""
    with opened(config.workspace) as store:
        project = store.in_read(lambda connection: project_of(connection, config.project))
        if config.asks:
            _suggest(config, store, project)
        if changed := _changed(config):
            store.in_write(lambda c: projects.change(c, project, changed, actor=None))
        settings = store.in_read(lambda connection: projects.settings_of(connection, project))
        report = store.in_read(lambda connection: suggested.report(connection, project))
    if not report["sources"]:
        raise UserError("nobody has suggested anything here; name a model by --judge or --reward")
    _print(report, settings)


def version_of(config: Config) -> str:
    """Of what suggests: 12 digits of a digest of its files and of the user's code; empty for what only has a name."""
    about = identity(config, ("judge", "reward"))
    told = {name: sorted(about[name].items()) for name in ("inputs", "sources")}
    if not any(told.values()):
        return ""
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def _suggest(config: Config, store: Store, project: str) -> None:
    source, version = config.source, version_of(config)
    assert source is not None

    def asked(connection: Connection) -> tuple[Questions, int]:
        tasks, others = suggestions.wanted(connection, project, source, version)
        return reports.questions(connection, tasks), others

    questions, others = store.in_read(asked)
    new = 0
    if questions:
        path = config.workspace / f"suggestions-{project}.{ANSWERS}"
        with recorded_until_done(path, sources(config)):
            ranks = _by_reward(config, questions) if config.reward else _by_judge(config, questions)
            told = list({task: r for task, r in ranks.items() if any(r)}.items())
            for begin in range(0, len(told), BATCH):
                part = dict(told[begin : begin + BATCH])
                new += store.in_write(
                    lambda c, part=part: suggestions.add(c, project, source, version, part)
                )
    print(f"{source}{f' {version}' if version else ''} suggests something about {new} questions")
    if silent := len(questions) - new:
        log.warning("about %d it says nothing", silent)
    if others:
        log.warning("%d questions do not ask which response is better", others)


def _by_judge(config: Config, questions: Questions) -> dict[str, list[int | None]]:
    spec = str(config.judge)
    if Path(spec).is_dir():
        spec = f"llm:{spec}"
    raters = judges(spec, config.seed)
    items = [(prompt_from_content(q["prompt"]), q["responses"]) for q in questions.values()]
    with Progress("suggest", len(items), quiet=config.quiet) as bar:
        told = asyncio.run(judge_all(raters, items, [spec, config.seed], bar.update))
    return {task: list(c.ranking) for task, c in zip(questions, told, strict=True)}


def _by_reward(config: Config, questions: Questions) -> dict[str, list[int | None]]:
    """Ranks by score, equal scores as ties; what the reward says nothing about has none."""
    rewards = load_rewards(config.reward, device=config.device)
    rows = [
        {"prompt": q["prompt"], "completion": text}
        for q in questions.values()
        for text in q["responses"]
    ]
    columns = iter(asyncio.run(score_rows(rewards, rows, quiet=config.quiet)))
    return {
        task: ranked([next(columns).get("reward") for _ in q["responses"]])
        for task, q in questions.items()
    }


def ranked(scores: Sequence[float | None]) -> list[int | None]:
    """Ranks from scores, the highest first; equal ones tie, None stays None."""
    above = sorted({s for s in scores if s is not None}, reverse=True)
    return without_gaps([None if s is None else 1 + above.index(s) for s in scores])


def _changed(config: Config) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    if config.show is not None:
        changed["suggestions"] = config.source if config.show == "yes" else ""
    if config.hidden is not None:
        changed["suggestions_hidden"] = config.hidden
    return changed


def _print(report: Mapping[str, Any], settings: projects.Settings) -> None:
    console = Console(highlight=False)
    for s in report["sources"]:
        version = f", version {s['version']}" if s["version"] else ""
        console.print(Text(f"{s['source']}{version}: {s['questions']} questions"))
    share = f"{settings.suggestions_hidden:.0%} of the questions stay without"
    seen = f"raters see those of {settings.suggestions}; {share}" * bool(settings.suggestions)
    console.print(Text(seen or "raters see none: heedful suggest --name … --show yes"))
    for effect in report["effects"]:
        table = Table(title=Text(effect["source"]), box=None, title_justify="left")
        for title in ("", "shown", "hidden", "difference"):
            table.add_column(title, justify="right" if title else "left")
        for name, words in (
            ("agrees", "say what it suggests"),
            ("gold_right", "gold questions right"),
            ("misled", "… where it is wrong"),
        ):
            table.add_row(words, *_cells(effect[name]))
        for row in effect["raters"]:
            table.add_row(Text(f"{row['rater']} says it"), *_cells(row))
        console.print(table)
    if report["effects"]:
        console.print(
            f"in brackets 95 % intervals; the newest {report['newest']} answers of people"
        )


def _cells(effect: Mapping[str, Any]) -> list[str]:
    cells = [
        f"{s['value']:.0%} of {s['n']}" if s["n"] else "–"
        for s in (effect["shown"], effect["hidden"])
    ]
    d = effect["difference"]
    return [*cells, f"{d['value']:+.0%} [{d['low']:+.0%}, {d['high']:+.0%}]" if d else "–"]
