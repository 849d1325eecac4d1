"""A reward on comparisons whose better response is known: how often it finds it, subset by subset."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from heedful.configs.evaluate_reward import Config
from heedful.data.columns import comparison_columns
from heedful.data.comparisons import comparison_of
from heedful.data.files import write_json
from heedful.data.reading import named, read_items, read_table
from heedful.data.sources import facts_of, write_rows
from heedful.errors import UserError
from heedful.evals.reward_bench import Scored, summary
from heedful.recipes.score import scored
from heedful.remote.journal import ANSWERS, recorded_until_done
from heedful.remote.sources import sources
from heedful.rewards import Group, load_rewards
from heedful.transfer.sources import materialise
from heedful.types import Comparison, Facts

ALL = "all"  # the subset of rows that name none


@dataclass(frozen=True)
class Known:
    """A comparison, where it belongs to, and what a reward may read besides."""

    comparison: Comparison
    subset: str
    id: str
    facts: Facts


def run(config: Config) -> dict[str, Any]:
    """Writes the folder and returns what evaluation.json holds."""
    rows = list(islice(read(config), config.limit))
    if not rows:
        raise UserError(f"{named(config.data)}: no row compares anything: all are ties")
    if config.by != Config.by and all(row.subset == ALL for row in rows):
        raise UserError(f"--by {config.by}: no row of {named(config.data)} has this column")
    rewards = load_rewards(config.reward, weights=config.reward_weights, device=config.device)
    groups = [
        Group(c.prompt, list(c.responses), [True] * len(c.responses), row.facts)
        for row in rows
        for c in [row.comparison]
    ]
    with recorded_until_done(config.out / ANSWERS, sources(config)):
        scores = iter(asyncio.run(scored(rewards, groups, quiet=config.quiet)).total)
    table = [[next(scores) for _ in group.responses] for group in groups]
    told: list[Scored] = []
    lines = []
    for row, values in zip(rows, table, strict=True):
        c = row.comparison
        lines.append(comparison_columns(c) | {"scores": values, config.by: row.subset})
        numbers = [v for v in values if v is not None]
        if len(numbers) == len(values):
            lengths = [len(text) for text in c.responses]
            order = sorted(range(len(c.responses)), key=lambda k: c.responses[k])
            told.append(
                Scored(
                    c.places, numbers, lengths, row.subset, row.id,
                    question=repr((c.prompt, sorted(c.responses))),
                    answer=tuple(c.places[k] for k in order),
                    date=c.created_at or "",
                )
            )  # fmt: skip
            lines[-1]["right"] = told[-1].right
    if not told:
        raise UserError(f"{' '.join(config.reward)} abstains from every row")
    result = {"reward": " ".join(config.reward), **summary(told)}
    if len(told) < len(rows):
        result["unscored"] = len(rows) - len(told)
    config.out.mkdir(parents=True, exist_ok=True)
    write_rows(config.out / "scores.jsonl", lines)
    write_json(config.out / "evaluation.json", result)
    return result


def read(config: Config) -> Iterator[Known]:
    """Comparisons with their subsets; ties, which say nothing of what is better, are left out."""

    def parse(where: str, row: dict[str, Any]) -> list[Known]:
        comparison = comparison_of(where, row)
        if len({*comparison.places}) == 1:
            return []
        subset = row.get(config.by)
        name = ALL if subset is None else str(subset)
        return [Known(comparison, name, str(row.get("id", "")), facts_of(row))]

    source = materialise(config.data, "rankings", split="held_out")
    rows = read_table(source, config.columns, broken=True)
    return read_items(config.data, rows, parse, skip_bad=config.on_bad_row != "stop")
