"""Suggestions and critiques: what models say of a workspace's questions, kept beside them, and no judgment."""

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
from heedful.raters import criticised, suggested
from heedful.raters.panel import judge_all, judges
from heedful.recipes.score import score_rows
from heedful.recipes.suggest_critiques import Questions, critiques_of
from heedful.remote.journal import ANSWERS, recorded_until_done
from heedful.remote.sources import sources
from heedful.rewards import load_rewards
from heedful.run.settings import identity
from heedful.store.database.db import Store
from heedful.store.lead.reports import questions as texts_of
from heedful.store.project import critiques, projects, suggestions
from heedful.store.project.content import prompt_from_content
from heedful.transfer.workspace import opened, project_of
from heedful.types import without_gaps

log = logging.getLogger("heedful")

BATCH = 200  # in one write transaction


def run(config: Config) -> None:
    """Suggestions are kept, shown or not as it says; then prints what suggestions do to raters."""
    with opened(config.workspace) as store:
        project = store.in_read(lambda connection: project_of(connection, config.project))
        if config.asks:
            _suggest(config, store, project)
        read = {"suggestions": suggested.report, "critiques": criticised.report}
        reports = {k: store.in_read(lambda c, of=of: of(c, project)) for k, of in read.items()}
        if changed := _changed(config, {k: r["sources"] for k, r in reports.items()}):
            store.in_write(lambda c: projects.change(c, project, changed, actor=None))
        settings = store.in_read(lambda connection: projects.settings_of(connection, project))
    report, critics = reports.values()
    if not report["sources"] and not critics["sources"]:
        raise UserError(
            "nobody has suggested anything here; name a model by --judge, --reward or --critiques"
        )
    if report["sources"]:
        _print(report, settings)
    if critics["sources"]:
        _print_critics(critics, settings)


def version_of(config: Config) -> str:
    """Of what suggests: 12 digits of a digest of its files and of the user's code; empty for what only has a name."""
    about = identity(config, ("judge", "reward", "critiques"))
    told = {name: sorted(about[name].items()) for name in ("inputs", "sources")}
    if not any(told.values()):
        return ""
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def _suggest(config: Config, store: Store, project: str) -> None:
    source, version = config.source, version_of(config)
    assert source is not None

    def asked(connection: Connection) -> tuple[Questions, int]:
        if config.critiques:
            tasks, others = critiques.wanted(connection, project, source, version), 0
        else:
            tasks, others = suggestions.wanted(connection, project, source, version)
        return texts_of(connection, tasks), others

    questions, others = store.in_read(asked)
    new = 0
    if questions:
        path = config.workspace / f"suggestions-{project}.{ANSWERS}"
        with recorded_until_done(path, sources(config)):
            told = _told(config, questions)
            for begin in range(0, len(told), BATCH):
                part = dict(told[begin : begin + BATCH])
                add = critiques.add if config.critiques else suggestions.add
                store.in_write(lambda c, add=add, part=part: add(c, project, source, version, part))
                new += len(part)
    does = "criticises" if config.critiques else "suggests something about"
    print(f"{source}{f' {version}' if version else ''} {does} {new} questions")
    if silent := len(questions) - new:
        log.warning("about %d it says nothing", silent)
    if others:
        log.warning("%d questions do not ask which response is better", others)


def _told(config: Config, questions: Questions) -> list[tuple[str, Any]]:
    """(task, ranks or critiques of its responses) of the questions about which there is something to say."""
    if config.critiques:
        told = critiques_of(config, questions)
    else:
        told = _by_reward(config, questions) if config.reward else _by_judge(config, questions)
    return [(task, of) for task, of in told.items() if any(of)]


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


def _changed(config: Config, told: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What becomes of the project's settings. Where nothing is asked now, it is about both kinds, or about what the
    name stands for in `told`, the sources of each."""
    about = ["critiques"] if config.critiques else ["suggestions"] if config.asks else list(told)
    if config.name and not config.asks:
        there = [k for k in about if any(s["source"] == config.name for s in told[k])]
        about = there or ["suggestions"]
    changed: dict[str, Any] = {}
    for kind in about:
        if config.show is not None:
            changed[kind] = config.source if config.show == "yes" else ""
        if config.hidden is not None:
            changed[f"{kind}_hidden"] = config.hidden
    return changed


def _print(report: Mapping[str, Any], settings: projects.Settings) -> None:
    console = Console(highlight=False)
    _print_sources(console, report)
    share = f"{settings.suggestions_hidden:.0%} of the questions stay without"
    seen = f"raters see those of {settings.suggestions}; {share}" * bool(settings.suggestions)
    console.print(Text(seen or "raters see none: heedful suggest --name … --show yes"))
    for effect in report["effects"]:
        rows = [
            ("say what it suggests", _cells(effect["agrees"])),
            ("gold questions right", _cells(effect["gold_right"])),
            ("… where it is wrong", _cells(effect["misled"])),
            *((f"{row['rater']} says it", _cells(row)) for row in effect["raters"]),
        ]
        _print_effect(console, effect["source"], ("shown", "hidden", "difference"), rows)
    _print_basis(console, report)


def _print_critics(report: Mapping[str, Any], settings: projects.Settings) -> None:
    console = Console(highlight=False)
    _print_sources(console, report)
    share = f"on {settings.critiques_hidden:.0%} of the questions they cannot"
    seen = f"raters can ask what {settings.critiques} says; {share}" * bool(settings.critiques)
    console.print(Text(seen or "raters can ask for none: heedful suggest --critiques … --show yes"))
    for effect in report["effects"]:
        rows = [
            ("asked for one", [_share(effect["asked"]), "–", "–"]),
            ("agree with most of the others", _cells(effect["agrees"])),
            ("gold questions right", _cells(effect["gold_right"])),
            *((f"{r['rater']} asked", [_share(r["asked"]), "–", "–"]) for r in effect["raters"]),
        ]
        _print_effect(console, effect["source"], ("could ask", "could not", "difference"), rows)
    _print_basis(console, report)


def _print_sources(console: Console, report: Mapping[str, Any]) -> None:
    for s in report["sources"]:
        version = f", version {s['version']}" if s["version"] else ""
        console.print(Text(f"{s['source']}{version}: {s['questions']} questions"))


def _print_effect(
    console: Console, source: str, titles: Sequence[str], rows: Sequence[tuple[str, list[str]]]
) -> None:
    table = Table(title=Text(source), box=None, title_justify="left")
    table.add_column("", justify="left")
    for title in titles:
        table.add_column(title, justify="right")
    for words, cells in rows:
        table.add_row(Text(words), *cells)
    console.print(table)


def _print_basis(console: Console, report: Mapping[str, Any]) -> None:
    if report["effects"]:
        console.print(
            f"in brackets 95 % intervals; the newest {report['newest']} answers of people"
        )


def _share(s: Mapping[str, Any]) -> str:
    return f"{s['value']:.0%} of {s['n']}" if s["n"] else "–"


def _cells(effect: Mapping[str, Any]) -> list[str]:
    d = effect["difference"]
    difference = f"{d['value']:+.0%} [{d['low']:+.0%}, {d['high']:+.0%}]" if d else "–"
    return [_share(effect["shown"]), _share(effect["hidden"]), difference]
