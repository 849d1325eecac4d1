"""Responses beside others to the same prompts, people's or another model's: who wins, what lengths have to do with it,
and how many words they share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from heedful.configs.evaluate import Config
from heedful.data.comparisons import prompts_once
from heedful.data.reading import read_items, read_table
from heedful.data.sources import demonstrations_of, prompt_of
from heedful.errors import UserError
from heedful.evals import texts
from heedful.evals.statistics import bootstrap_ci, wins
from heedful.raters.panel import judge_all
from heedful.rewards import Group, Parts
from heedful.types import Demonstration, Rater, Task

Theirs = Sequence[Sequence[Demonstration]]  # the baseline's responses to each prompt


def read_baseline(config: Config, todo: Sequence[Task]) -> list[list[Demonstration]]:
    """The baseline's responses to each prompt; refused here, before anything is sampled, if one has none."""
    if config.baseline is None:
        return []
    known: dict[str, list[Demonstration]] = {}
    every = list(
        read_items(config.baseline, read_table(config.baseline, broken=True), responses_of)
    )
    for d in prompts_once(config.baseline, every, lambda: every):
        known.setdefault(repr(d.prompt), []).append(d)
    theirs = [known.get(repr(task.prompt), []) for task in todo]
    if missing := sum(not of_prompt for of_prompt in theirs):
        raise UserError(
            f"--baseline {config.baseline} has no response to {missing} of {len(todo)} prompts; "
            "it needs a prompt and a completion (or messages) for each prompt of --data"
        )
    return theirs


def responses_of(where: str, row: Mapping[str, Any]) -> Iterable[Demonstration]:
    """What a row says in answer to its prompt. A model may have said nothing, which is worth what it is worth, though
    nobody learns from it."""
    if row.get("completion") == "" and "prompt" in row:
        return [Demonstration(prompt_of(where, row), "", row.get("stop_reason", "stop") == "stop")]
    return demonstrations_of(where, row)


def against(
    config: Config,
    gold: Parts | None,
    raters: Sequence[Rater],
    ours: Sequence[Group],
    theirs: Theirs,
    rows: Sequence[dict],
) -> dict[str, Any]:
    """What evaluation.json says of the baseline. Adds `win` to the rows, the mean over the baseline's responses to the
    prompt: 1, ½ for a tie, or 0."""
    found: dict[str, Any] = {}
    if config.overlap:
        said = [group.responses[0] for group in ours]
        found["overlap"] = texts.overlap(said, [[d.completion for d in of] for of in theirs])
    scores = _scores(gold, ours, theirs) if gold is not None else []
    if told := [fmean(known) for of in scores if (known := [s for s in of if s is not None])]:
        found |= {"baseline_gold": fmean(told), "baseline_gold_ci": bootstrap_ci(told)}
    if gold is None and not raters:
        return found
    won = _judged(config, raters, ours, theirs) if raters else _by_gold(rows, scores)
    longer = []
    for row, group, of_prompt, others in zip(rows, ours, won, theirs, strict=True):
        if of_prompt:
            row["win"] = fmean(of_prompt)
            longer.append(len(group.responses[0]) - fmean(len(d.completion) for d in others))
    values = [row["win"] for row in rows if "win" in row]
    if not values:
        raise UserError(f"--baseline {config.baseline}: no response of it could be compared")
    controlled, interval = texts.length_controlled(values, longer)
    return found | {
        "win_rate": fmean(values),
        "win_rate_ci": bootstrap_ci(values),
        "win_rate_by": config.judge or config.scorer,
        "win_rate_length_controlled": controlled,
        "win_rate_length_controlled_ci": interval,
    }


def _scores(gold: Parts, ours: Sequence[Group], theirs: Theirs) -> list[list[float | None]]:
    """Gold of the baseline's responses to each prompt."""
    groups = [
        replace(
            group,
            responses=[d.completion for d in of_prompt],
            ended=[d.ended for d in of_prompt],
            tokens=None,
        )
        for group, of_prompt in zip(ours, theirs, strict=True)
    ]
    scores = iter(asyncio.run(gold.score(groups)).total)
    return [[next(scores) for _ in of_prompt] for of_prompt in theirs]


def _by_gold(rows: Sequence[dict], scores: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """Wins of each row against the baseline's responses to its prompt, as far as both have a score."""
    return [
        [w for s in of if s is not None for w in wins([row["gold"]], [s])] if "gold" in row else []
        for row, of in zip(rows, scores, strict=True)
    ]


def _judged(
    config: Config, raters: Sequence[Rater], ours: Sequence[Group], theirs: Theirs
) -> list[list[float]]:
    """Wins as the judges say."""
    pairs = [
        (group.prompt, (group.responses[0], d.completion))
        for group, of_prompt in zip(ours, theirs, strict=True)
        for d in of_prompt
    ]
    of = [config.judge, config.seed]
    rankings = (c.places for c in asyncio.run(judge_all(raters, pairs, of)))
    outcome = iter([0.5 * (1 + (b > a) - (b < a)) for a, b in rankings])
    return [[next(outcome) for _ in of_prompt] for of_prompt in theirs]
