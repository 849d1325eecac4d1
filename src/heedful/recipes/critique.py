"""Critiques of responses by a model, and what they do to a judge.

A critic learns from people's critiques (`train sft`), then from whether a judge who reads it decides rightly
(`train grpo --reward 'heedful.raters.critics:helps(judge=…)'` on the questions that this command writes without a
model). A critic that misleads lowers what the judge gets right: --judge says by how much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.configs.critique import Config, refuse_nonsense
from heedful.data.columns import prompt_columns, prompt_to_json
from heedful.data.comparisons import comparison_of
from heedful.data.critiques import question
from heedful.data.reading import Reading, named, read_items, read_table
from heedful.data.sources import prompt_of, samples_of, write_rows
from heedful.errors import UserError
from heedful.evals.preferences import ordered
from heedful.evals.statistics import bootstrap_ci
from heedful.models.limits import context_length
from heedful.models.load import load_policy, load_tokenizer
from heedful.raters.critics import decided, with_critiques
from heedful.raters.panel import judges
from heedful.recipes.sample import draw
from heedful.remote.journal import beside, recorded_until_done
from heedful.remote.sources import sources
from heedful.training.rows import Rows, TooLong, askable
from heedful.transfer.sources import materialise
from heedful.types import Comparison, Prompt, Sampling, Task
from heedful.waiting import all_of


@dataclass(frozen=True)
class Criticised:
    """Responses to a prompt, with their places where somebody compared them; what their row said besides."""

    prompt: Prompt
    responses: Sequence[str]
    places: Sequence[int] = ()
    beside: dict[str, Any] = field(default_factory=dict)


def run(config: Config) -> Path | dict[str, Any]:
    """Returns the path of what was written; with --judge what that decides alone and with critiques."""
    refuse_nonsense(config)
    rows = read(config)
    if config.model is None:
        if not any(row.places for row in rows):
            raise UserError(
                f"{named(config.data)}: a critic learns from comparisons; these are samples"
            )
        write_rows(config.out, [q for row in rows for q in questions(row)])
        return config.out
    if config.judge and not any(row.places for row in rows):
        raise UserError("--judge needs comparisons, in which it is known what is better")
    with recorded_until_done(beside(config.out), sources(config)):
        said = criticise(config, rows)
        write_rows(config.out, written(config, rows, said))
        return measured(config, rows, said) if config.judge else config.out


def read(config: Config) -> list[Criticised]:
    """Comparisons, or samples where a row has neither places nor sides."""

    def parse(where: str, row: dict[str, Any]) -> list[Criticised]:
        beside = {"question": row["question"]} if isinstance(row.get("question"), str) else {}
        if {"chosen", "rejected"} <= row.keys() or "ranking" in row:
            c = comparison_of(where, row)
            return [Criticised(c.prompt, c.responses, c.places, beside)]
        return [
            Criticised(prompt_of(where, one), [one["completion"]], (), beside)
            for one in samples_of(where, row)
        ]

    source = materialise(config.data, "rankings")
    rows = read_table(source, config.columns, broken=True)
    items = read_items(source, rows, parse, skip_bad=config.on_bad_row != "stop")
    return list(islice(items, config.limit))


def questions(row: Criticised) -> list[dict[str, Any]]:
    """What a critic is asked of each response that is better or worse than another, with what a judge will see."""
    return [
        prompt_columns(question(row.prompt, text))
        | {
            "about": prompt_to_json(row.prompt),
            "answers": [*row.responses],
            "places": [*row.places],
        }
        | {"criticised": k, **row.beside}
        for k, text in enumerate(row.responses)
        if any(place != row.places[k] for place in row.places)
    ]


def criticise(config: Config, rows: Sequence[Criticised]) -> dict[tuple[int, int], list[str]]:
    """(row, response) → its critiques; what is too long to be asked and was dropped is not there."""
    assert config.model is not None
    model, tokenizer = load_policy(config.model, device=config.device), load_tokenizer(config.model)
    keys = [(i, k) for i, row in enumerate(rows) for k in range(len(row.responses))]
    make = askable(tokenizer, context_length(model), config.max_tokens, None)

    def asked(key: tuple[int, int]) -> Task:
        i, k = key
        try:
            task = make((question(rows[i].prompt, rows[i].responses[k]), {"key": key}))
        except TooLong as error:
            # Only what is left of the question's end would be asked: nobody could say about what.
            raise UserError(str(error)) from error
        return task

    items = ((f"{named(config.data)}: response {k + 1} of item {i + 1}", (i, k)) for i, k in keys)
    todo = list(Rows(config.data, config.on_bad_row, items, Reading()).fit(asked))
    drawn = draw(
        model,
        tokenizer,
        todo,
        n=config.n,
        max_tokens=config.max_tokens,
        sampling=Sampling(config.temperature),
        seed=config.seed,
        quiet=config.quiet,
    )
    return {d.facts["key"]: [text.strip() for text in d.texts] for d in drawn}


def written(
    config: Config, rows: Sequence[Criticised], said: dict[tuple[int, int], list[str]]
) -> list[dict[str, Any]]:
    """A row a critique, as `export critiques` has people's; one who says nothing has written none."""
    return [
        prompt_columns(rows[i].prompt)
        | {"completion": rows[i].responses[k], "critique": text, "author": config.model}
        | ({"index": n} if config.n > 1 else {})
        | rows[i].beside
        for (i, k), texts in said.items()
        for n, text in enumerate(texts)
        if text
    ]


def measured(
    config: Config, rows: Sequence[Criticised], said: dict[tuple[int, int], list[str]]
) -> dict[str, Any]:
    """How often a judge orders pairs rightly alone, and having read the critiques; intervals over comparisons."""
    assert config.judge is not None
    raters, of = judges(config.judge, config.seed), [config.judge, config.seed]
    compared = [
        (i, row) for i, row in enumerate(rows)
        if row.places and ordered(Comparison(row.prompt, tuple(row.responses), tuple(row.places)))
    ]  # fmt: skip

    async def shares(texts: Sequence[Sequence[str]]) -> list[float]:
        every = await all_of(
            decided(rater, row.prompt, shown, row.places, None, of)
            for (_, row), shown in zip(compared, texts, strict=True)
            for rater in raters
        )
        return [fmean(every[k : k + len(raters)]) for k in range(0, len(every), len(raters))]

    read = [
        with_critiques(row.responses, {k: said[i, k][0] for k in range(len(row.responses)) if (i, k) in said})
        for i, row in compared
    ]  # fmt: skip
    alone = asyncio.run(shares([row.responses for _, row in compared]))
    helped = asyncio.run(shares(read))
    more = [b - a for a, b in zip(alone, helped, strict=True)]
    return {
        "critiques": str(config.out),
        "judge": config.judge,
        "comparisons": len(compared),
        **{
            key: value
            for name, values in (("alone", alone), ("with_critiques", helped), ("more", more))
            for key, value in ((name, fmean(values)), (f"{name}_ci", bootstrap_ci(values)))
        },
    }
