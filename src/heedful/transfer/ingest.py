"""Files of ours and of other tools → prompts, demonstrations, comparisons and samples of a workspace."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Column

from heedful import exact
from heedful.configs.ingest import Config, options_of, refuse_nonsense
from heedful.data import clips, foreign
from heedful.data.columns import name_in, prompt_to_json
from heedful.data.comparisons import prompts_once, tell_repeats
from heedful.data.episodes import played_of
from heedful.data.files import Row
from heedful.data.reading import read_items, read_table
from heedful.data.sources import demonstrations, prompt_of, samples_of
from heedful.data.tables import is_export, read_manifest
from heedful.errors import UserError
from heedful.progress import Progress
from heedful.store.database.bulk import rarely_collecting
from heedful.store.database.db import Store
from heedful.store.intake import imported, ingest, known, recorded
from heedful.store.kinds.checks import MAX_NUMBER, is_number
from heedful.store.project import screens
from heedful.store.project.projects import settings_of
from heedful.store.tables.columns import Checked, unescaped
from heedful.store.tables.schema import completion, prompt
from heedful.store.tables.schema import rater as account
from heedful.transfer.records import study
from heedful.types import Comparison, Prompt

log = logging.getLogger("heedful")
PSEUDONYM = account.c.pseudonym
FLAGS = {"model": completion.c.model, "licence": prompt.c.licence, "language": prompt.c.language}
SAMPLED = {  # columns of a file → of the table
    "model": completion.c.model,
    "seed": completion.c.seed,
    "stop_reason": completion.c.finish_reason,
    "engine": completion.c.engine,
    "sampling": completion.c.sampling,
    "tokens": completion.c.token_ids,
    "logprobs": completion.c.logprobs,
}
FIRST = 3  # items that a look at a source shows
_Read = tuple[dict[str, int], list[dict[str, Any]], Callable[[Store, str], dict[str, int]]]
DIGITS = re.compile("-?[0-9]{1,30}")  # a whole number in a cell; Python reads no endless ones


@dataclass(frozen=True)
class Loaded:
    """What a source holds, read and checked; nothing of it is written yet."""

    counts: dict[str, int]  # comparisons, prompts, ties, duplicates, …
    first: list[dict[str, Any]]  # a few of what it holds, in heedful's form
    columns: list[str]  # of its rows, as far as they were read
    write: Callable[[Store, str], dict[str, int]]  # into a project; returns what was added


@rarely_collecting()
def load(config: Config, *, name: str | None = None) -> Loaded:
    """Read and check the source.

    `name` is what prompts remember as their source, by default the file's name.
    """
    refuse_nonsense(config)
    for flag, column in FLAGS.items():
        keepable(f"--{flag}", column, getattr(config, flag))
    columns: dict[str, None] = {}
    rows = _rows(config, columns)
    origin = ingest.Origin(
        source=name
        or (config.source if config.source.startswith("hf:") else Path(config.source).name),
        licence=config.licence,
        language=config.language,
    )
    counts, first, write = READERS[config.what](config, rows, origin)
    return Loaded(counts, [_shown(item) for item in first], list(columns), write)


def columns_of(config: Config) -> list[str]:
    """The names of a source's columns, where the rows themselves could not be read."""
    columns: dict[str, None] = {}
    with suppress(UserError):
        for _ in islice(_rows(config, columns), FIRST):
            pass
    return list(columns)


def _prompts(config: Config, rows: Iterator[Row], origin: ingest.Origin) -> _Read:
    tasks = _tasks(config)
    ingest.refuse_responses(tasks)
    items = [(prompt_of(where, row), _origin(where, row, origin)) for where, row in rows]
    write = _with_bar(config, len(items), ingest.prompts, items, tasks=tasks)
    counts = {"rows": len(items), "prompts": len({prompt for prompt, _ in items})}
    return counts, [{"prompt": prompt} for prompt, _ in items[:FIRST]], write


def _demonstrations(config: Config, rows: Iterator[Row], origin: ingest.Origin) -> _Read:
    every = demonstrations(rows, config.source)
    items = [d for d in every if not d.tool_calls]
    if left_out := len(every) - len(items):
        log.warning(
            "%s: %d answers call tools and are left out, as a workspace keeps texts",
            config.source,
            left_out,
        )
    write = _with_bar(config, len(items), ingest.demonstrations, items, origin=origin)
    first = [{"prompt": d.prompt, "completion": d.completion} for d in items[:FIRST]]
    counts = {"demonstrations": len(items), "prompts": len({d.prompt for d in items})}
    return counts | {"left_out": left_out}, first, write


def _all_samples(config: Config, rows: Iterator[Row], origin: ingest.Origin) -> _Read:
    items = [*read_items(config.source, rows, lambda at, row: _samples(at, row, config))]
    tell_repeats(config.source, [(p, text) for p, text, _ in items])
    texts: dict[Prompt, list[str]] = {}
    for one, text, _ in items:
        texts.setdefault(one, []).append(text)
    if config.ask == "presses" and (most := max(map(len, map(set, texts.values())), default=0)) > 1:
        raise UserError(
            f"{config.source}: a prompt has {most} clips, and keys are pressed at one; give each clip a prompt of "
            "its own, as heedful clips does without --pairs, or --ask pair"
        )
    tasks = _tasks(config)
    ingest.refuse_unasked(tasks, texts.values())
    write = _with_bar(config, len(texts), ingest.samples, items, origin=origin, tasks=tasks)
    first = [{"prompt": p, "responses": texts[p]} for p in islice(texts, FIRST)]
    counts = {"responses": len(items), "prompts": len(texts)}
    return counts | {"empty": sum(not text.strip() for _, text, _ in items)}, first, write


def _comparisons(config: Config, rows: Iterator[Row], origin: ingest.Origin) -> _Read:
    row_list = list(rows)
    first_row = next((row for _, row in row_list if row), {})
    if foreign.is_vote(first_row) and config.form in ("auto", "plain"):
        return _votes(config, row_list, origin)
    waiting = foreign.unanswered(row_list, config.form)
    found = list(
        foreign.comparisons(
            row_list,
            config.form,
            skip_bad=config.on_bad_row == "drop",
            source=config.source,
            need_one=not waiting,
            check=_comparison,
        )
    )
    compared = list(prompts_once(config.source, found, lambda: found))
    if config.gold:
        for where, row in row_list:
            why = row.get("explanation")
            exact.refuse(f"{where}: `explanation`", "" if why is None else exact.text(why), why)
    else:  # what only gold questions have does not tell two answers apart
        compared = [c if c.explanation is None else replace(c, explanation=None) for c in compared]
    once = list(dict.fromkeys(compared))  # a row that stands there again says nothing new
    judged = _with_bar(
        config, len(once), imported.comparisons, once, origin=origin, gold=config.gold
    )
    asked = [(w.prompt, text, {}) for w in waiting for text in w.responses]
    tasks = ingest.TaskSpec("pair" if all(len(w.responses) == 2 for w in waiting) else "rank")
    ingest.refuse_unasked(tasks, (w.responses for w in waiting))
    duplicates = len(compared) - len(once)

    def write(store: Store, project: str) -> dict[str, int]:
        added = judged(store, project)
        if asked:
            questions = store.in_read(lambda connection: settings_of(connection, project)).questions
            most = max(len(w.responses) for w in waiting)
            kind, options = screens.comparing(questions, most)
            spec = ingest.TaskSpec(kind, options=options)
            more = ingest.samples(store, project, asked, origin=origin, tasks=spec)
            added = {name: number + more[name] for name, number in added.items()}
        return added | ({"duplicates": duplicates} if duplicates else {})

    first = [
        {"prompt": c.prompt, "responses": c.responses, "ranking": c.ranking, "rater": c.rater}
        | {"explanation": c.explanation}
        for c in once[:FIRST]
    ]
    first += [{"prompt": w.prompt, "responses": w.responses} for w in waiting[: FIRST - len(first)]]
    counts = {
        "comparisons": len(once),
        "prompts": len({item.prompt for item in (*once, *waiting)}),
        "ties": sum(len(set(c.ranking)) == 1 for c in once),
        "duplicates": duplicates,
        **({"explained": sum(c.explanation is not None for c in once)} if config.gold else {}),
        "questions_without_an_answer": len(waiting),
    }
    return counts, first, write


def _votes(config: Config, rows: list[Row], origin: ingest.Origin) -> _Read:
    if config.gold:
        raise UserError(
            "these rows have one response each: heedful import gold takes questions of any kind"
        )
    skip_bad = config.on_bad_row == "drop"
    found = foreign.votes(rows, check=_rater, skip_bad=skip_bad, source=config.source)
    votes = [imported.Vote(*vote) for vote in found]
    first = [
        {"prompt": v.prompt, "completion": v.completion, "label": v.good} for v in votes[:FIRST]
    ]
    counts = {"thumbs": len(votes), "prompts": len({v.prompt for v in votes})}
    return counts, first, _with_bar(config, len(votes), imported.votes, votes, origin=origin)


def _gold(config: Config, rows: Iterator[Row], origin: ingest.Origin) -> _Read:
    items = [_known(where, row) for where, row in rows]
    tasks = _tasks(config)
    known.refuse_unfit(tasks, items)
    write = _with_bar(config, len(items), known.questions, items, origin=origin, tasks=tasks)
    first = [
        {"prompt": g.prompt, "responses": g.texts, "answer": g.answer}
        | {"within": g.within or None, "explanation": g.explanation}
        for g in items[:FIRST]
    ]
    explained = sum(g.explanation is not None for g in items)
    return {"gold": len(items), "explained": explained}, first, write


def _known(where: str, row: dict[str, Any]) -> known.Gold:
    """A row of prompt, responses (or one completion), answer, and perhaps within and explanation."""
    row = row | {name: _of_cell(row.get(name)) for name in ("responses", "answer", "within")}
    texts = row["responses"] or ([row["completion"]] if "completion" in row else None)
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise UserError(f"{where}: `responses` must be a list of texts, or `completion` one text")
    answer, within = row["answer"], row["within"] or 0.0
    if not isinstance(answer, dict):
        what = "must be an object, as raters would give it"
        raise UserError(f"{where}: `answer` {what}, not {exact.shown(answer)}")
    if not is_number(within) or not 0 <= within <= MAX_NUMBER:
        raise UserError(f"{where}: `within` must be a number from 0, not {exact.shown(within)}")
    why = row.get("explanation") or None
    exact.refuse(f"{where}: `explanation`", "" if why is None else exact.text(why), why)
    return known.Gold(where, prompt_of(where, row), tuple(texts), answer, float(within), why)


def _of_cell(value: Any) -> Any:
    """A value out of a cell of a table, where JSON stands in it."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _records(config: Config, rows: Iterator[Row], origin: ingest.Origin) -> _Read:
    found = study(config.source, rows)
    for item in found.items:
        for given in item.given:
            _rater(config.source, given.rater)
    how = {"questions": found.questions, "origin": origin}
    write = _with_bar(config, len(found.items), recorded.screens, found.items, **how)
    first = [
        {"prompt": item.prompt, "responses": item.responses}
        | {
            "answers": {
                given.rater: {n: body(item.responses) for n, body in given.said.items()}
                for given in item.given
            }
        }
        for item in found.items[:FIRST]
    ]
    return found.counts, first, write


READERS = {
    "prompts": _prompts,
    "demonstrations": _demonstrations,
    "samples": _all_samples,
    "comparisons": _comparisons,
    "gold": _gold,
    "records": _records,
}


def _tasks(config: Config) -> ingest.TaskSpec:
    return ingest.TaskSpec(config.ask, config.overlap, options_of(config.options), config.together)


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    """As a line of heedful's own files would have it."""
    shown = {name: value for name, value in item.items() if value is not None}
    return shown | {"prompt": prompt_to_json(item["prompt"])}


def _rows(config: Config, columns: dict[str, None]) -> Iterator[Row]:
    """Rows as they were; those of our own exports without what files cannot hold as it is. Their names are added."""
    exported = read_manifest(config.source) is not None
    of_prompts, compared = config.what == "prompts", config.what == "comparisons"
    for where, row in read_table(config.source, config.columns, lines=of_prompts, broken=compared):
        columns |= dict.fromkeys(row)
        yield where, unescaped(row) if exported or is_export(row) else row


def keepable(name: str, column: Column, value: Any) -> None:
    """Refuse, in the words of a file, what the column could not give back; None is always fine."""
    if value is not None and isinstance(column.type, Checked):
        exact.refuse(name, column.type.problem(value), value)


def _comparison(where: str, item: Comparison) -> None:
    imported.refuse_long(where, item)
    _rater(where, item.rater)
    if item.policy_version is not None:
        keepable(f"{where}: `policy_version`", completion.c.model, item.policy_version)
    imported.time_of(where, item.created_at)


def _rater(where: str, rater: str | None) -> None:
    if rater is not None:
        keepable(f"{where}: `rater`", PSEUDONYM, rater)


def _origin(where: str, row: dict[str, Any], otherwise: ingest.Origin) -> ingest.Origin:
    """Where a prompt is from: what its row says, or what holds for the file."""
    given = {}
    for name in ("source", "licence", "language"):
        value = row.get(name)
        keepable(f"{where}: `{name}`", prompt.c[name], value)
        if value is not None and value.strip():
            given[name] = value
    return replace(otherwise, **given)


def _samples(
    where: str, row: dict[str, Any], config: Config
) -> Iterator[tuple[Prompt, str, dict[str, Any]]]:
    """The samples of a row, and of their origin what is known in a form that can be kept."""
    for one in samples_of(where, row):
        if config.ask == "presses":
            clips.read(one["completion"], where)
        yield prompt_of(where, one), one["completion"], _origin_of(where, one, config.model)


def _origin_of(where: str, row: dict[str, Any], model: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {} if model is None else {"model": model}
    for name, column in SAMPLED.items():
        value = name_in(where, row, name) if name == "model" else row.get(name)
        if name == "seed" and isinstance(value, str) and DIGITS.fullmatch(value):
            value = int(value)
        if value is None or value == "":
            continue
        keepable(f"{where}: `{name}`", column, value)
        fields[column.name] = value
    if played := played_of(row):
        fields["sampling"] = {**fields.get("sampling", {}), "episode": played}
    return fields


def _with_bar(
    config: Config, total: int, write: Callable[..., dict[str, int]], items: Any, **options: Any
) -> Callable[[Store, str], dict[str, int]]:
    @rarely_collecting()
    def work(store: Store, project: str) -> dict[str, int]:
        if config.quiet:
            return write(store, project, items, **options)
        with Progress(f"import {config.what}", total) as bar:
            return write(store, project, items, tick=bar.update, **options)

    return work
