"""Implicit feedback: each reply of logged conversations gets a reward by what the user said next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful import exact
from heedful.configs.cues import Config
from heedful.data.columns import (
    column,
    messages_of,
    prompt_columns,
    prompt_from,
    response,
    with_template,
)
from heedful.data.forms import standard
from heedful.data.reading import named, read_items, read_table
from heedful.data.sources import write_rows
from heedful.envs import cues as implicit
from heedful.envs.cues import Cue, Exchange
from heedful.errors import UserError
from heedful.evals.cue_weights import fitted
from heedful.transfer.sources import materialise
from heedful.types import Message, Prompt

Heeded = Sequence[tuple[str, Cue, float]]
Rated = tuple[tuple[Message, ...], float | None]  # a conversation, and what its user said of it


def run(config: Config) -> Path:
    """Returns the path of the replies; the mean of each cue is printed."""
    heeded: Heeded = implicit.read(" ".join(config.cues))
    source = materialise(config.data, "turns")
    table = read_table(source, config.columns)
    parse = partial(_conversation, rating=config.fit)
    talks = list(read_items(source, table, parse, skip_bad=config.on_bad_row == "drop"))
    with_ends = any(name == "leaves" for name, _, _ in heeded)
    if config.fit:
        heeded = _fitted(config, heeded, talks, with_ends)
    rows, seen = [], set()
    for talk, _ in talks:
        for prompt, one in exchanges(talk, with_ends=with_ends):
            key = (prompt, one)
            if key in seen:  # a conversation's rows begin alike
                continue
            seen.add(key)
            parts = implicit.worth(heeded, one)
            reward = sum(parts.values())
            rows.append(
                prompt_columns(prompt)
                | {"completion": one.reply, "reward": round(reward, 6), "reward_parts": parts}
            )
    if not rows:
        raise UserError(f"{named(source)}: nobody says anything after a reply")
    mean = fmean(row["reward"] for row in rows)
    above = config.liked_above if config.liked_above is not None else mean if config.fit else 0.0
    rows = [row | {"label": row["reward"] > above} for row in rows]
    write_rows(config.out, rows)
    liked = sum(row["label"] for row in rows)
    print(f"{len(rows)} replies, mean reward {mean:.4f}, {liked} liked")
    for name, _, _ in heeded if len(heeded) > 1 else ():
        print(f"  {name}: {fmean(r['reward_parts'][name] for r in rows):.4f}")
    return config.out


def _fitted(
    config: Config, heeded: Heeded, talks: Sequence[Rated], with_ends: bool
) -> list[tuple[str, Cue, float]]:
    """The same cues with the weights that the rated conversations give them; tells how sure these are."""
    if any(weight != 1 for _, _, weight in heeded):
        raise UserError("--fit finds the cues' weights; give --cues their names alone")
    means, ratings = [], []
    for talk, rating in talks:
        given = [implicit.worth(heeded, one) for _, one in exchanges(talk, with_ends=with_ends)]
        if given and rating is not None:
            means.append([fmean(one[name] for one in given) for name, _, _ in heeded])
            ratings.append(rating)
    if not ratings:
        raise UserError(f"no conversation with a reply has a {config.fit!r}")
    found = fitted(means, ratings)
    print(
        f"weights by the {config.fit} of {found.rated} of {len(talks)} conversations; Spearman's correlation with "
        f"ratings that are held out: {found.correlation:.2f}"
    )
    told = [
        (name, cue, float(f"{w:.3g}"))
        for (name, cue, _), w in zip(heeded, found.weights, strict=True)
    ]
    for i, ((name, _, weight), (low, high)) in enumerate(zip(told, found.intervals, strict=True)):
        same = len({mean[i] for mean in means}) == 1
        how_sure = ", as it is the same in all" if same else f" [{low:.3g}, {high:.3g}]"
        print(f"  {name}: {weight:g}{how_sure}")
    line = " ".join(f"{name}={weight:g}" for name, _, weight in told)
    print(f"to use them elsewhere: --cues {line}")
    return told


def exchanges(
    talk: tuple[Message, ...], *, with_ends: bool = False
) -> Iterator[tuple[Prompt, Exchange]]:
    """Of each reply what came before it, and what the user said next; with ends also a reply that nothing follows."""
    for i, message in enumerate(talk):
        if message.role != "assistant" or i == 0 or not message.content.strip():
            continue
        after = talk[i + 1] if i + 1 < len(talk) else None
        asked = next((m.content for m in reversed(talk[:i]) if m.role == "user"), "")
        if after is None and with_ends:
            yield talk[:i], Exchange(message.content, None, asked)
        elif after is not None and after.role == "user":
            yield talk[:i], Exchange(message.content, after.content, asked)


def _conversation(where: str, row: Mapping[str, Any], *, rating: str | None) -> list[Rated]:
    """All messages of a row, `messages` or a prompt that is a conversation and its answer; and its rating, if any."""
    said_of_it = None if rating is None else _rating(where, rating, row.get(rating))
    row = standard(row)
    if "messages" in row:
        said = messages_of(where, "messages", row["messages"])
    else:
        if not {"prompt", "chosen"} & row.keys():
            column(where, row, "messages", "prompt")  # the error that nothing of it is there
        prompt = prompt_from(where, "prompt", row.get("prompt", row.get("chosen")))
        if isinstance(prompt, str):
            raise UserError(
                f"{where}: `prompt` is plain text; conversations are wanted, `messages` with roles"
            )
        answer = next((row[name] for name in ("completion", "chosen") if name in row), None)
        text = (
            () if answer is None else (Message("assistant", response(where, "completion", answer)),)
        )
        said = (*prompt, *text)
    whole = with_template(where, row, said)
    assert not isinstance(whole, str)
    return [(whole, said_of_it)]


def _rating(where: str, name: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise UserError(
            f"{where}: `{name}` must be a number, true or false, not {exact.shown(value)}"
        )
    return float(value)
