"""Biases: which attributes of a response predict that people, or a judge, prefer it, and which a reward goes by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from heedful.configs.biases import Config
from heedful.data.files import write_json
from heedful.data.ratings import stream_ratings
from heedful.data.reading import named
from heedful.data.sources import read_comparisons
from heedful.errors import UserError
from heedful.evals.biases import LEAST, TEXTUAL, Bias, Slopes, biases, pairs_of, slopes
from heedful.raters.rated_alike import Counted, RatedAlike, rated_alike
from heedful.rewards import Group, load_rewards
from heedful.transfer.sources import materialise
from heedful.types import Comparison


def run(config: Config) -> dict[str, Any]:
    """Prints a table; returns what `--out` holds."""
    data = materialise(config.data, "rankings")
    comparisons = read_comparisons(
        data, skip_bad=config.on_bad_row == "drop", columns=config.columns
    )
    found = biases(pairs_of(comparisons))
    if not found:
        raise UserError(
            f"{named(config.data)}: no attribute differs in {LEAST} pairs, so nothing can be said of any"
        )
    told: dict[str, Any] = {"comparisons": len(comparisons), "biases": [asdict(b) for b in found]}
    alike = of_ratings(config, comparisons) if config.ratings is not None else []
    if alike:
        told["ratings"] = [asdict(axis) for axis in alike]
    by_reward = None
    if config.reward is not None:
        by_reward = of_reward(config, comparisons)
        told["reward"] = as_json(config.reward, by_reward)
    if config.out is not None:
        write_json(config.out, told)
    _print(found, by_reward)
    if alike:
        _print_alike(alike)
    return told


def of_ratings(config: Config, comparisons: Sequence[Comparison]) -> list[RatedAlike]:
    """Each axis of the ratings beside the comparisons. UserError where no two compared responses were rated."""
    assert config.ratings is not None
    skip = config.on_bad_row == "drop"
    rated = stream_ratings(materialise(config.ratings, "scores"), skip_bad=skip)
    alike = rated_alike(comparisons, rated)
    if not alike:
        raise UserError(
            f"--ratings {named(config.ratings)}: no two responses that were compared have both been rated"
        )
    return alike


def of_reward(config: Config, comparisons: Sequence[Comparison]) -> Slopes:
    """The moments of a reward and of attributes, over the responses of each comparison once."""
    assert config.reward is not None
    reward = load_rewards(config.reward, device=config.device)
    items = list(dict.fromkeys((c.prompt, c.responses) for c in comparisons))
    groups = [Group(p, list(rs), [True] * len(rs), {}) for p, rs in items]
    worth = iter(asyncio.run(reward.score(groups)).total)
    rewards = [[next(worth) for _ in responses] for _, responses in items]
    whole = [
        (item, [r for r in of if r is not None])
        for item, of in zip(items, rewards, strict=True)
        if None not in of
    ]
    if not whole:
        raise UserError(f"--reward {config.reward} abstains from every comparison")
    return slopes([item for item, _ in whole], [of for _, of in whole])


def as_json(reward: str, of: Slopes) -> dict[str, Any]:
    """What `rewards.residual` reads."""
    return {
        "reward": reward,
        "attributes": list(TEXTUAL),
        "xx": of.xx.tolist(),
        "xy": of.xy.tolist(),
        "yy": of.yy,
        "mean": of.mean.tolist(),
        "responses": of.responses,
        "explained by length": of.explained(["longer"]),
        "explained by all": of.explained(TEXTUAL),
    }


def _print(found: Sequence[Bias], by_reward: Slopes | None) -> None:
    console = Console(highlight=False)
    table = Table(box=None, header_style="bold")
    for title in ("more of it", "pairs", "wins", "log-odds"):
        table.add_column(title, justify="left" if title == "more of it" else "right")
    for b in found:
        low, high = b.wins_ci
        wins = f"{b.wins:.0%} [{low:.0%}, {high:.0%}]"
        odds = "{:+.2f} [{:+.2f}, {:+.2f}]".format(b.log_odds, *b.log_odds_ci)
        table.add_row(b.name, str(b.pairs), wins, odds)
    console.print(table)
    console.print(
        "wins: how often the response with more of it was preferred, where it differs; log-odds: what a standard "
        "deviation adds, all else being equal; in brackets 95 % intervals"
    )
    if by_reward is not None:
        console.print(
            f"of the reward's variance within prompts length explains {by_reward.explained(['longer']):.0%}, all "
            f"attributes {by_reward.explained(TEXTUAL):.0%}"
        )


def _print_alike(alike: Sequence[RatedAlike]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, header_style="bold")
    for title in ("rated", "higher wins", "rated equal", "two compare alike", "two rate alike"):
        table.add_column(title, justify="left" if title == "rated" else "right")
    for of in alike:
        table.add_row(Text(of.axis), *map(_counted, (of.wins, of.equal, of.compared, of.rated)))
    console.print(table)
    console.print(
        "of comparisons whose responses were rated, too: how often the one with the higher mean rating was preferred, "
        "and how often both are rated equal; of every two raters who order a pair: how often alike, by comparing and "
        "by their own ratings; in brackets 95 % intervals"
    )


def _counted(of: Counted) -> str:
    if of.value is None or of.ci is None:
        return "–"
    return f"{of.value:.0%} [{of.ci[0]:.0%}, {of.ci[1]:.0%}] of {of.n}"
