"""Which prompts are hard or dated: from what was said of some, told of all, so that labels go where they matter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from heedful.configs.prompts import Config
from heedful.data.reading import named
from heedful.data.sources import (
    prompt_columns,
    prompt_text,
    read_comparisons,
    read_prompts,
    write_rows,
)
from heedful.errors import UserError
from heedful.raters.hardness import LEAST, Predicted, Told, disagreements, errors, predict
from heedful.rewards import Group, load_rewards
from heedful.transfer.sources import materialise
from heedful.types import Comparison

WORDS = {
    "disagreement": "raters disagree",
    "change": "answers far apart in time disagree",
    "error": "the reward orders otherwise than people",
}


def run(config: Config) -> dict[str, Any]:
    """Writes the prompts, the hardest first; prints and returns how well that is predicted."""
    told = read_comparisons(
        materialise(config.answered, "rankings"),
        skip_bad=config.on_bad_row == "drop",
        columns=config.columns,
    )
    if config.data is None:
        prompts = list(dict.fromkeys(c.prompt for c in told))
    else:
        prompts = read_prompts(materialise(config.data, "prompts", split="all"), config.columns)
    hard, dated = disagreements(told, config.dated)
    trials = {"disagreement": hard, "change": dated}
    if config.reward is not None:
        trials["error"] = of_reward(config.reward, told, config.device)
    texts = [prompt_text(p) for p in prompts]
    found = {name: p for name, of in trials.items() if (p := predict(of, texts, seed=config.seed))}
    if not found:
        raise UserError(
            f"{named(config.answered)}: fewer than {LEAST} prompts were answered by two about the same responses, or "
            "all agree, so nothing can be learned of which prompts are hard"
        )
    rows = [
        {**prompt_columns(p), **_columns(found, trials, k, texts[k])} for k, p in enumerate(prompts)
    ]
    write_rows(config.out, sorted(rows, key=lambda row: -row["hardness"]))
    for name, p in found.items():
        print(sentence(name, p))
    return {name: _summary(p) for name, p in found.items()}


def of_reward(reward: str, told: Sequence[Comparison], device: str) -> Told:
    """Where it orders the responses otherwise than the comparisons do."""
    groups = [Group(c.prompt, list(c.responses), [True] * len(c.responses), {}) for c in told]
    worth = iter(asyncio.run(load_rewards(reward, device=device).score(groups)).total)
    return errors(told, [[next(worth) for _ in c.responses] for c in told])


def sentence(name: str, p: Predicted) -> str:
    """What is known about prompts that were kept out."""
    low, high = p.difference
    verdict = "" if p.predicts else "; that may be chance, so the order says little"
    return (
        f"{WORDS[name]}: {p.mean:.0%} in {p.prompts} prompts; {p.hardest:.0%} in the fifth that was predicted to be "
        f"the hardest, unseen, {p.others:.0%} in the others (difference {p.hardest - p.others:.2f} "
        f"[{low:.2f}, {high:.2f}]){verdict}"
    )


def _summary(p: Predicted) -> dict[str, Any]:
    names = ("prompts", "mean", "hardest", "others", "difference", "predicts")
    return {name: getattr(p, name) for name in names}


def _columns(
    found: dict[str, Predicted], trials: dict[str, Told], k: int, text: str
) -> dict[str, Any]:
    """What a row says of its prompt: the mean of the chances that can be told, each with its interval, and how many
    trials it rests on itself."""
    row: dict[str, Any] = {"hardness": fmean(p.chances[k][0] for p in found.values())}
    for name, p in found.items():
        chance, (low, high) = p.chances[k]
        own = trials[name].get(text)
        row |= {name: chance, f"{name}_low": low, f"{name}_high": high}
        row[f"{name}_trials"] = own.of if own else 0.0
    return row
