"""Implicit feedback: each reply of logged conversations gets a reward by what the user said next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

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
from heedful.envs.cues import Exchange
from heedful.errors import UserError
from heedful.transfer.sources import materialise
from heedful.types import Message, Prompt


def run(config: Config) -> Path:
    """Returns the path of the replies; the mean of each cue is printed."""
    heeded = implicit.read(" ".join(config.cues))
    source = materialise(config.data, "turns")
    table = read_table(source, config.columns)
    talks = read_items(source, table, _conversation, skip_bad=config.on_bad_row == "drop")
    rows, seen = [], set()
    with_ends = any(name == "leaves" for name, _, _ in heeded)
    for talk in talks:
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
                | {"label": reward > config.liked_above}
            )
    if not rows:
        raise UserError(f"{named(source)}: nobody says anything after a reply")
    write_rows(config.out, rows)
    liked = sum(row["label"] for row in rows)
    print(f"{len(rows)} replies, mean reward {fmean(r['reward'] for r in rows):.4f}, {liked} liked")
    for name, _, _ in heeded if len(heeded) > 1 else ():
        print(f"  {name}: {fmean(r['reward_parts'][name] for r in rows):.4f}")
    return config.out


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


def _conversation(where: str, row: Mapping[str, Any]) -> list[tuple[Message, ...]]:
    """All messages of a row: `messages`, or a prompt that is a conversation and its answer."""
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
    return [whole]
