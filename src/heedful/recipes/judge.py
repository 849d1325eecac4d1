"""Judging: samples → comparisons, by simulated raters with human noise, by a language model, or by their rewards."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.configs.judge import Config
from heedful.data.reading import named
from heedful.data.sources import (
    prompt_columns,
    prompt_of,
    read_comparisons,
    read_samples,
    write_rows,
)
from heedful.errors import UserError
from heedful.evals.statistics import bootstrap_ci
from heedful.progress import Progress
from heedful.raters.asking import agreements
from heedful.raters.panel import judge_all, judges
from heedful.remote.journal import beside, recorded_until_done
from heedful.remote.sources import sources
from heedful.transfer.sources import materialise
from heedful.types import Comparison, Prompt, Rater

log = logging.getLogger("heedful")


def run(config: Config) -> Path:
    """Returns the path of the comparisons. Equal responses are shown once; a prompt needs two different ones."""
    source = materialise(config.data, "samples", split="all")
    rows, name = read_samples(source, config.columns), named(config.data)
    if config.judge == "scores":
        return _written(config, name, list(by_reward(name, rows)))
    raters = judges(config.judge, config.seed)
    items = [(prompt, list(group)) for prompt, group in grouped(name, rows)]
    with recorded_until_done(beside(config.out), sources(config)):
        if config.people is not None:
            print(_agreement(config, raters), file=sys.stderr)
        with Progress("judge", len(items), quiet=config.quiet) as bar:
            told = judge_all(raters, items, [config.judge, config.seed], bar.update)
            comparisons = asyncio.run(told)
        return _written(config, name, comparisons)


def _agreement(config: Config, raters: Sequence[Rater]) -> str:
    """How often the judges prefer what people do."""
    assert config.people is not None
    people = read_comparisons(config.people)
    items = [(c.prompt, c.responses) for c in people]
    with Progress("people's", len(items), quiet=config.quiet) as bar:
        said = asyncio.run(judge_all(raters, items, [config.judge, config.seed], bar.update))
    right = agreements(people, said)
    if not right:
        raise UserError(f"--people {named(config.people)}: every comparison is a tie")
    low, high = bootstrap_ci(right)
    told = f"{config.judge} agrees with people in {fmean(right):.0%} [{low:.0%}, {high:.0%}] of {len(right)} pairs"
    return told + (", less than a coin would" if high < 0.5 else "")


def _written(config: Config, name: str, comparisons: Sequence[Comparison]) -> Path:
    if config.pairs == "best_worst":
        written = [pair for c in comparisons if (pair := best_and_worst(c)) is not None]
    else:
        written = [_row(c) for c in comparisons]
    if not written:
        raise UserError(f"{name}: no prompt has a response that is better than another")
    write_rows(config.out, written)
    return config.out


def grouped(
    source: str, rows: Iterable[dict[str, Any]]
) -> list[tuple[Prompt, dict[str, dict[str, Any]]]]:
    """(prompt, the rows of its responses by their text) for each prompt with two different ones."""
    groups: dict[Prompt, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["completion"].strip():
            group = groups.setdefault(prompt_of(source, row), {})
            group.setdefault(row["completion"], row)
    items = [(prompt, group) for prompt, group in groups.items() if len(group) > 1]
    if not items:
        raise UserError(f"{source}: no prompt has two different responses to compare")
    return items


def by_reward(source: str, rows: Sequence[dict[str, Any]]) -> Iterable[Comparison]:
    """Each prompt's responses ranked by `reward`, equal ones as ties; what says nothing at all is left out.

    Truncated responses are skipped, too: training would add an end token that nobody wrote.
    """
    if abstained := sum("reward" not in row for row in rows):
        if abstained == len(rows):
            raise UserError(
                f"{source}: no row has a number in `reward`; heedful score puts it there"
            )
        log.warning("%s: skipped %d responses without a reward", source, abstained)
        rows = [row for row in rows if "reward" in row]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("reward"), int | float) or not math.isfinite(row["reward"]):
            raise UserError(
                f"{source}: row {number} has no number in `reward`; heedful score puts it there"
            )
    whole = [row for row in rows if row.get("stop_reason", "stop") == "stop"]
    if left_out := len(rows) - len(whole):
        log.warning("%s: skipped %d truncated responses", source, left_out)
    for prompt, group in grouped(source, whole):
        rewards = [row["reward"] for row in group.values()]
        levels = sorted(set(rewards), reverse=True)
        ranking = tuple(1 + levels.index(r) for r in rewards)
        if len(levels) > 1:
            yield Comparison(prompt, tuple(group), ranking, rater="scores")


def best_and_worst(comparison: Comparison) -> dict[str, Any] | None:
    """The first of the best and the first of the worst as a pair; None where all are equally good.

    Text beside a text prompt, one assistant's message beside a conversation, as TRL has it.
    """
    ranking, responses = comparison.places, comparison.responses
    if len(set(ranking)) < 2:
        return None
    sides = {"chosen": ranking.index(min(ranking)), "rejected": ranking.index(max(ranking))}
    pair = {name: responses[k] for name, k in sides.items()}
    if not isinstance(comparison.prompt, str):
        pair = {n: [{"role": "assistant", "content": text}] for n, text in pair.items()}
    return prompt_columns(comparison.prompt) | pair


def _row(comparison: Comparison) -> dict[str, Any]:
    row = {k: v for k, v in asdict(comparison).items() if v is not None}
    return row | prompt_columns(comparison.prompt)
