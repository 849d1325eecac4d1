"""Into a workspace: prompts, demonstrations, comparisons and samples from files of ours and of other tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from sqlalchemy import func, select

from heedful.data import foreign
from heedful.data.columns import prompt_from_json, prompt_of
from heedful.data.files import Row
from heedful.data.sources import demonstrations_of, sample_of
from heedful.data.tables import read_manifest, read_table
from heedful.errors import UserError
from heedful.progress import Progress
from heedful.recipes.workspace import opened, project_of
from heedful.store import imported, ingest, projects, schema
from heedful.store.db import Store
from heedful.store.kinds import KINDS, check_options
from heedful.store.snapshot import unescaped
from heedful.types import Prompt

What = Literal["prompts", "demonstrations", "comparisons", "samples"]
Form = Literal["auto", "plain", "argilla", "label-studio"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Put a file's rows into a workspace; importing the same again adds nothing."""

    what: Annotated[What, tyro.conf.Positional]
    """comparisons may also be TRL's unpaired form; samples are responses, several of each prompt."""
    source: Annotated[str, tyro.conf.Positional]
    """JSONL, JSON, CSV, Parquet, hf:NAME[:SPLIT]; exports of Argilla and Label Studio too, for comparisons."""
    workspace: Path = Path(".")
    """The workspace's folder."""
    project: str | None = None
    """The project, made if there is none of this name. Default: the only one there is, or a new one named main."""
    form: Form = "auto"
    """Which tool wrote the comparisons; plain are the columns of heedful, TRL and HH-RLHF."""
    ask: (
        Literal["pair", "rank", "rate", "thumbs", "rules", "critique", "edit", "write", "chat"]
        | None
    ) = None
    """What raters are asked: of samples pair (every pair), rank, rate …; of prompts write or chat."""
    overlap: int = 1
    """How many raters answer each question."""
    options: str | None = None
    """The options of the questions as JSON: '{"axes": [{"name": "helpful", "low": 1, "high": 7}]}' for rate,
    '{"rules": [{"code": "polite", "text": "It is polite."}]}' for rules, '{"max_turns": 8}' for chat."""
    gold: bool = False
    """The comparisons are gold questions: raters are asked them, and the answer is known."""
    model: str | None = None
    """Who wrote the samples, where the rows do not say."""
    licence: str | None = None
    """The licence of the prompts."""
    language: str | None = None
    """The language of the prompts, such as en."""
    skip_bad: bool = False
    """Leave out comparisons that do not fit, and say how many."""
    quiet: bool = False
    """Plain lines in place of a progress bar."""


def run(config: Config) -> dict[str, int]:
    """Returns what was added. The whole file is read before anything is written."""
    work = load(config)
    with opened(config.workspace) as store:
        with store.write() as connection:
            number = connection.execute(select(func.count()).select_from(schema.project)).scalar()
            if config.project is None and number:
                project = project_of(connection, None)
            else:
                project = projects.ensure(connection, config.project or "main")
        return work(store, project)


def load(config: Config, *, name: str | None = None) -> Callable[[Store, str], dict[str, int]]:
    """Read and check the source; what comes back writes it into a project.

    `name` is what prompts remember as their source, by default the file's name.
    """
    _sensible(config)
    rows = _rows(config.source)
    origin = ingest.Origin(
        source=name
        or (config.source if config.source.startswith("hf:") else Path(config.source).name),
        licence=config.licence,
        language=config.language,
    )
    ask = ingest.Ask(config.ask, config.overlap, _options(config.options))
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
    kept = list(rows)
    if foreign.is_vote(kept[0][1]) and config.form in ("auto", "plain"):
        if config.gold:
            raise UserError("gold questions are comparisons, and these rows have one response each")
        votes = [imported.Vote(*vote) for vote in foreign.votes(kept)]
        return _with_bar(config, len(votes), imported.votes, votes, origin=origin)
    compared = foreign.comparisons(kept, config.form, skip_bad=config.skip_bad)
    return _with_bar(
        config, len(compared), imported.comparisons, compared, origin=origin, gold=config.gold
    )


def _sensible(config: Config) -> None:
    """Options that would do nothing are errors."""
    given = {
        "--form": config.form != "auto",
        "--gold": config.gold,
        "--skip-bad": config.skip_bad,
        "--ask": config.ask is not None,
        "--overlap": config.overlap != 1,
        "--options": config.options is not None,
        "--model": config.model is not None,
    }
    asking = {"--ask", "--overlap", "--options"}
    useful = {
        "comparisons": {"--form", "--gold", "--skip-bad"},
        "prompts": asking,
        "samples": asking | {"--model"},
        "demonstrations": set(),
    }[config.what]
    for flag, there in given.items():
        if there and flag not in useful:
            raise UserError(f"{flag} means nothing for {config.what}")
    if config.ask is not None:
        shown = config.what == "samples"  # prompts have no responses to show
        kinds = [name for name, kind in KINDS.items() if (kind.responses != (0, 0)) == shown]
        if config.ask not in kinds:
            raise UserError(
                f"of {config.what} raters can be asked {', '.join(kinds)}, not {config.ask}"
            )
        check_options(config.ask, _options(config.options) or {})
    if config.ask is None and (config.overlap != 1 or config.options is not None):
        raise UserError("--overlap and --options are about questions; say which with --ask")


def _rows(source: str) -> Iterator[Row]:
    """Rows as they were; those of our own exports without what files cannot hold as it is."""
    exported = read_manifest(source) is not None
    for where, row in read_table(source):
        yield where, unescaped(row) if exported else row


def _options(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--options is not JSON: {error}") from None
    if not isinstance(options, dict):
        raise UserError('--options must be a JSON object, such as {"axes": [{"name": "helpful"}]}')
    return options


def _origin(row: dict[str, Any], otherwise: ingest.Origin) -> ingest.Origin:
    """Where a prompt is from: what its row says, or what holds for the file."""
    names = ("source", "licence", "language")
    said = {n: row[n] for n in names if isinstance(row.get(n), str) and row[n].strip()}
    return replace(otherwise, **said)


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
