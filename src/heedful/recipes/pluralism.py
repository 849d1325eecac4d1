"""Pluralism: groups of users by what they want, and what a reward for all costs each of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from heedful.configs.pluralism import Config
from heedful.data.collate import collate
from heedful.data.columns import prompt_to_json
from heedful.data.context import in_context
from heedful.data.files import write_json, write_rows
from heedful.data.reading import named
from heedful.data.sources import prompt_text, read_comparisons
from heedful.data.tokens import encode_group
from heedful.errors import UserError
from heedful.models.forward import scalar_head
from heedful.models.limits import context_length
from heedful.models.load import load_reward_model, load_tokenizer
from heedful.models.personal import all_states, load_personal_heads
from heedful.raters.groups import Answers, Groups, grouped, report, sentences
from heedful.rewards.personal import MICRO_BATCH_TOKENS
from heedful.transfer.sources import materialise
from heedful.types import Comparison

AT_ONCE = 256  # comparisons in memory
PROFILES = "profiles.json"


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of comparisons: which comparison, its better and its worse response, how much it counts."""

    row: list[int]
    better: list[int]
    worse: list[int]
    weight: list[float]


def run(config: Config) -> Path:
    """Prints a table and writes the folder, which is returned."""
    source = materialise(config.data, "rankings")
    told = read_comparisons(source, skip_bad=config.on_bad_row == "drop", columns=config.columns)
    comparisons = [c for c in told if c.rater is not None]
    pairs = ordered(comparisons)
    model = load_reward_model(config.reward, device=config.device)
    heads = load_personal_heads(model, config.reward)
    names = list(dict.fromkeys(comparisons[row].rater or "" for row in pairs.row))
    if len(names) < 2:
        raise UserError(f"{named(config.data)}: two raters with an order are needed to compare")
    answers = Answers(
        user=torch.tensor([names.index(comparisons[row].rater or "") for row in pairs.row]),
        half=torch.tensor([half_of(comparisons[row]) for row in pairs.row]),
        difference=differences(model, config.reward, comparisons, pairs),
        weight=torch.tensor(pairs.weight),
        users=len(names),
    )
    single = None
    if config.single is not None:
        other = load_reward_model(config.single, device=config.device)
        d = differences(other, config.single, comparisons, pairs)
        single = d @ scalar_head(other).weight[0].detach().float().cpu()
    heads = heads.to("cpu")
    groups = grouped(answers, heads, scalar_head(model).cpu(), single, config.groups)
    found = report(answers, groups) | {"left_out": len(told) - len(comparisons)}
    _write(config, comparisons, pairs, names, answers, groups, found)
    _print(found)
    return config.out


def ordered(comparisons: Sequence[Comparison]) -> Pairs:
    """All strict pairs; a ranking of K counts K − 1 in all, at most."""
    pairs = Pairs([], [], [], [])
    for row, c in enumerate(comparisons):
        at = c.places
        strict = [(i, j) for i, j in permutations(range(len(at)), 2) if at[i] < at[j]]
        for i, j in strict:
            pairs.row.append(row)
            pairs.better.append(i)
            pairs.worse.append(j)
            pairs.weight.append(min(1.0, (len(at) - 1) / len(strict)))
    return pairs


def half_of(c: Comparison) -> int:
    """Which half a question belongs to: by its hash, so that the same question is always in the same."""
    text = "\0".join((prompt_text(c.prompt), *sorted(c.responses)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] & 1


def differences(
    model: PreTrainedModel, name: str, comparisons: Sequence[Comparison], pairs: Pairs
) -> Tensor:
    """h(better) − h(worse) of each pair, `[N, d]`, on the CPU."""
    tokenizer, limit = load_tokenizer(name), context_length(model)
    pieces: list[Tensor] = []
    place, starts = 0, []
    for i in range(0, len(comparisons), AT_ONCE):
        samples = []
        for c in comparisons[i : i + AT_ONCE]:
            starts.append(place)
            samples += encode_group(tokenizer, c.prompt, c.responses, max_length=limit)
            place += len(c.responses)
        pieces.append(all_states(model, collate(samples), MICRO_BATCH_TOKENS))
    h, start = torch.cat(pieces), torch.tensor(starts)[torch.tensor(pairs.row)]
    return h[start + torch.tensor(pairs.better)] - h[start + torch.tensor(pairs.worse)]


def _write(
    config: Config,
    comparisons: Sequence[Comparison],
    pairs: Pairs,
    names: Sequence[str],
    answers: Answers,
    groups: Groups,
    found: dict[str, Any],
) -> None:
    texts = [
        [comparisons[row].responses[k] for row, k in zip(pairs.row, side, strict=True)]
        for side in (pairs.better, pairs.worse)
    ]
    of = groups.of.tolist()
    group = [of[user] for user in answers.user.tolist()]
    told = sentences(texts[0], texts[1], group, len(groups.centre))
    for row, sentence in zip(found["groups"], told, strict=True):
        row["sentence"] = sentence
    config.out.mkdir(parents=True, exist_ok=True)
    there = Path(config.reward).exists()  # else a name on the hub
    reward = os.path.relpath(config.reward, config.out) if there else config.reward
    write_json(config.out / "pluralism.json", {"reward": reward} | found)
    centres = groups.centre.tolist()
    profiles = [
        {"sentence": s, "z": z, "users": row["users"]}
        for s, z, row in zip(told, centres, found["groups"], strict=True)
    ]
    write_json(config.out / PROFILES, profiles)
    tokenizer, group_of = load_tokenizer(config.reward), dict(zip(names, of, strict=True))
    rows = []
    for c in comparisons:
        if c.rater in group_of:
            prompt = in_context(tokenizer, c.prompt, told[group_of[c.rater]])
            rows.append(
                {"prompt": prompt_to_json(prompt), "responses": list(c.responses),
                 "ranking": list(c.ranking), "rater": c.rater}
            )  # fmt: skip
    write_rows(config.out / "comparisons.jsonl", rows)


def _print(found: dict[str, Any]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, header_style="bold")
    for title in ("group", "users", "one reward", "its own", "personal", "overridden", "likes"):
        table.add_column(title, justify="left" if title in ("group", "likes") else "right")
    rows = [(str(k + 1), row, row["sentence"]) for k, row in enumerate(found["groups"])]
    for name, row, sentence in [*rows, ("all", found["all"] | {"users": found["users"]}, "")]:
        cells = [_told(row.get(arm)) for arm in ("single", "grouped", "personal", "overridden")]
        table.add_row(name, str(row["users"]), *cells, sentence)
    console.print(table)
    worst = found["worst_group"]
    console.print(
        f"worst group: {worst['single']:.0%} with one reward, {worst['grouped']:.0%} with its own, "
        f"{worst['personal']:.0%} with personal ones"
    )
    for k, row in enumerate(found["groups"]):
        if row["flag"]:
            console.print(
                f"group {k + 1}: one reward for all says the reverse of what these {row['users']} users want; "
                "a policy trained on it will not serve them"
            )


def _told(value: dict[str, Any] | None) -> str:
    return (
        "" if value is None else f"{value['mean']:.0%} [{value['ci'][0]:.0%}, {value['ci'][1]:.0%}]"
    )
