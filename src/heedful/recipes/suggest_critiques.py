"""Critiques of a workspace's responses: out of a file, or written by a model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.configs.suggest import Config
from heedful.data.critiques import question
from heedful.data.reading import named
from heedful.data.sources import prompt_of, read_samples
from heedful.errors import UserError
from heedful.progress import Progress
from heedful.recipes.revise import asked_as_is
from heedful.store.project.content import digest, prompt_content, prompt_from_content
from heedful.waiting import all_of

log = logging.getLogger("heedful")

Questions = Mapping[str, Mapping[str, Any]]  # by task, see `store.lead.reports.questions`
Written = dict[str, list[str | None]]  # by task, in the order of its responses


def critiques_of(config: Config, questions: Questions) -> Written:
    """What is said against each response of each question, None where nothing is."""
    assert config.critiques is not None
    path = Path(config.critiques)
    return _from_file(path, questions) if path.is_file() else _by_model(config, questions)


def _from_file(path: Path, questions: Questions) -> Written:
    """Rows of prompt, completion and critique; several of one response stand one below the other."""
    said: dict[tuple[str, str], list[str]] = {}
    for line, row in enumerate(read_samples(path), 1):
        text = row.get("critique")
        if not isinstance(text, str):
            raise UserError(f"{named(path)}: row {line} has no text `critique`")
        if text.strip():
            asked = prompt_content(prompt_of(named(path), row))
            said.setdefault((digest(asked), row["completion"]), []).append(text)
    keys = {
        task: [(digest(q["prompt"]), text) for text in q["responses"]]
        for task, q in questions.items()
    }
    if unused := said.keys() - {key for of in keys.values() for key in of}:
        log.warning(
            "%d of %d criticised responses stand in no question that still asks and has none by it",
            len(unused),
            len(said),
        )
    return {task: ["\n\n".join(said.get(k, ())) or None for k in of] for task, of in keys.items()}


def _by_model(config: Config, questions: Questions) -> Written:
    by = str(config.critiques)
    write, _ = asked_as_is(config, f"llm:{by}" if Path(by).is_dir() else by, "--critiques")
    asked = {
        (digest(q["prompt"]), text): question(prompt_from_content(q["prompt"]), text)
        for q in questions.values()
        for text in q["responses"]
    }

    async def all_written() -> list[str]:
        with Progress("criticise", len(asked), quiet=config.quiet) as bar:
            return await all_of(map(write, asked.values()), bar.update)

    said = dict(zip(asked, asyncio.run(all_written()), strict=True))
    return {
        task: [said[digest(q["prompt"]), text].strip() or None for text in q["responses"]]
        for task, q in questions.items()
    }
