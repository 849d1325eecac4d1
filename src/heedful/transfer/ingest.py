"""Files of ours and of other tools → prompts, demonstrations, comparisons and samples of a workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedful.configs.ingest import Config, options_of, refuse_nonsense
from heedful.data import foreign
from heedful.data.columns import prompt_from_json, prompt_of
from heedful.data.files import Row
from heedful.data.sources import demonstrations_of, sample_of
from heedful.data.tables import read_manifest, read_table
from heedful.errors import UserError
from heedful.progress import Progress
from heedful.store import imported, ingest
from heedful.store.db import Store
from heedful.store.snapshot import unescaped
from heedful.types import Prompt


def load(config: Config, *, name: str | None = None) -> Callable[[Store, str], dict[str, int]]:
    """Read and check the source; what comes back writes it into a project.

    `name` is what prompts remember as their source, by default the file's name.
    """
    refuse_nonsense(config)
    rows = _rows(config.source)
    origin = ingest.Origin(
        source=name
        or (config.source if config.source.startswith("hf:") else Path(config.source).name),
        licence=config.licence,
        language=config.language,
    )
    ask = ingest.Ask(config.ask, config.overlap, options_of(config.options))
    if config.what == "prompts":
        prompts = [(prompt_of(where, row), _origin(row, origin)) for where, row in rows]
        return _with_bar(config, len(prompts), ingest.prompts, prompts, ask=ask)
    if config.what == "demonstrations":
        shown = [d for where, row in rows for d in demonstrations_of(where, row)]
        return _with_bar(config, len(shown), ingest.demonstrations, shown, origin=origin)
    if config.what == "samples":
        samples = [_sample(where, row, config.model) for where, row in rows]
        groups = len({prompt for prompt, _, _ in samples})
        return _with_bar(config, groups, ingest.samples, samples, origin=origin, ask=ask)
    row_list = list(rows)
    if foreign.is_vote(row_list[0][1]) and config.form in ("auto", "plain"):
        if config.gold:
            raise UserError("gold questions are comparisons, and these rows have one response each")
        votes = [imported.Vote(*vote) for vote in foreign.votes(row_list)]
        return _with_bar(config, len(votes), imported.votes, votes, origin=origin)
    compared = foreign.comparisons(row_list, config.form, skip_bad=config.skip_bad)
    return _with_bar(
        config, len(compared), imported.comparisons, compared, origin=origin, gold=config.gold
    )


def _rows(source: str) -> Iterator[Row]:
    """Rows as they were; those of our own exports without what files cannot hold as it is."""
    exported = read_manifest(source) is not None
    for where, row in read_table(source):
        yield where, unescaped(row) if exported else row


def _origin(row: dict[str, Any], otherwise: ingest.Origin) -> ingest.Origin:
    """Where a prompt is from: what its row says, or what holds for the file."""
    names = ("source", "licence", "language")
    given = {n: row[n] for n in names if isinstance(row.get(n), str) and row[n].strip()}
    return replace(otherwise, **given)


def _sample(
    where: str, row: dict[str, Any], model: str | None
) -> tuple[Prompt, str, dict[str, Any]]:
    """A sample, and of its origin what is known in a form that can be kept."""
    sample_of(where, row)
    wanted = {
        "model": ("model", str),
        "seed": ("seed", int),
        "finish_reason": ("stop_reason", str),
        "engine": ("engine", str),
        "sampling": ("sampling", dict),
        "token_ids": ("tokens", list),
        "logprobs": ("logprobs", list),
    }
    fields: dict[str, Any] = {} if model is None else {"model": model}
    for field, (name, kind) in wanted.items():
        value = row.get(name)
        if kind is int and isinstance(value, str) and value.isdigit():  # as CSV has it
            value = int(value)
        if value is None or value == "":
            continue
        if type(value) is not kind:
            raise UserError(f"{where}: `{name}` must be of the type {kind.__name__}")
        fields[field] = value
    return prompt_from_json(row["prompt"]), row["completion"], fields


def _with_bar(
    config: Config, total: int, write: Callable[..., dict[str, int]], items: Any, **options: Any
) -> Callable[[Store, str], dict[str, int]]:
    def work(store: Store, project: str) -> dict[str, int]:
        with Progress(f"import {config.what}", total, quiet=config.quiet) as bar:
            return write(store, project, items, tick=bar.update, **options)

    return work
