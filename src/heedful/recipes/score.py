"""Scoring: adds a reward to every response of a file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.configs.score import Config
from heedful.data.reading import Source, named, read_items, read_table
from heedful.data.samples import as_group, facts_of_sample, reward_columns, rewards_of
from heedful.data.sources import samples_of, write_rows
from heedful.errors import UserError
from heedful.progress import Progress
from heedful.remote.journal import beside, recorded_until_done
from heedful.remote.sources import sources
from heedful.rewards import Group, Parts, load_rewards
from heedful.rewards.parts import Scores
from heedful.transfer.sources import materialise
from heedful.waiting import all_of


def run(config: Config) -> Path:
    """Returns the path of the scored samples; the means of their rewards are printed."""
    places, rows = _placed(materialise(config.data, "samples", split="all"), config.columns)
    rewards = load_rewards(
        config.reward,
        weights=config.reward_weights,
        normalise=config.normalise_rewards,
        device=config.device,
    )
    with recorded_until_done(beside(config.out), sources(config)):
        columns = asyncio.run(score_rows(rewards, rows, places, quiet=config.quiet))
        write_rows(config.out, (row | column for row, column in zip(rows, columns, strict=True)))
    known = [column for column in columns if column]
    if not known:
        raise UserError(f"{named(config.data)}: every term of the reward abstains from every row")
    left = f"; {len(rows) - len(known)} have none, as every term abstains" * (known != columns)
    print(f"{len(rows)} responses, mean reward {fmean(c['reward'] for c in known):.4f}{left}")
    for name in rewards.names if len(rewards.names) > 1 else ():
        values = [v for c in known if (v := c["reward_parts"][name]) is not None]
        of = f" of {len(values)}" * (len(values) < len(rows))
        print(f"  {name}: {fmean(values):.4f}{of}" if values else f"  {name}: abstains")
    return config.out


def _placed(source: Source, columns: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """At which file and line each sample of a source stands, and the samples."""
    places: list[str] = []

    def parse(where: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for sample in samples_of(where, row):
            places.append(where)
            yield sample

    rows = list(read_items(source, read_table(source, columns), parse))
    return places, rows


async def scored(rewards: Parts, groups: Sequence[Group], *, quiet: bool = False) -> Scores:
    """What all responses of the groups are worth, with a bar that shows how far it is."""
    with Progress("score", len(groups), quiet=quiet) as bar:
        told = await all_of((rewards.early(g, every=True) for g in groups), bar.update)
    return await rewards.score(groups, told)


async def score_rows(
    rewards: Parts,
    rows: Sequence[dict[str, Any]],
    places: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """`reward` (and `reward_parts`) for each row; the rows of one prompt with the same facts are a group. UserError for
    one that cannot be scored, before any is, with its place where these are given."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        key = repr((row["prompt"], sorted(facts_of_sample(row).items(), key=repr)))
        groups.setdefault(key, []).append(i)
    asked = [as_group([rows[i] for i in members]) for members in groups.values()]
    for group, members in zip(asked, groups.values(), strict=True):
        try:
            rewards.check(group.prompt, group.facts)
        except UserError as error:
            where = f"{places[members[0]]}: " if places else ""
            raise UserError(f"{where}{error}") from error
    worth = rewards_of(await scored(rewards, asked, quiet=quiet))
    order = [i for members in groups.values() for i in members]
    columns: list[dict[str, Any]] = [{}] * len(rows)
    for i, of_row in zip(order, worth, strict=True):
        columns[i] = reward_columns(of_row)
    return columns
