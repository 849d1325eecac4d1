"""Logged episodes: rows of transcripts, such as `sample --env` and `play` write, as what offline methods learn from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from heedful.data.columns import is_learned, messages_of, with_template
from heedful.data.reading import Reading, Source, read_items, read_table
from heedful.errors import UserError
from heedful.types import Demonstration, Message

RETURN = "Return: {}"  # how a message says what is to come, in what `train decision` learns


@dataclass(frozen=True)
class Logged:
    """An episode in text. `turns` are the places of the policy's own messages, `rewards` what each of them earned;
    `truncated`: a limit ended it, and `cut`: in the middle of the last turn."""

    messages: tuple[Message, ...]
    turns: tuple[int, ...]
    rewards: tuple[float, ...]
    truncated: bool = False
    cut: bool = False

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What was there before the policy spoke."""
        return self.messages[: self.turns[0]]

    @property
    def first(self) -> Demonstration:
        """The first turn, as checks of templates and tokenizers look at it."""
        said = self.messages[self.turns[0]]
        return Demonstration(self.prompt, said.content, tool_calls=said.tool_calls)

    @property
    def returns(self) -> list[float]:
        """What came from each turn on."""
        return [math.fsum(self.rewards[k:]) for k in range(len(self.rewards))]


def with_return(message: Message, value: float) -> Message:
    """A message that says what is to be earned from here on."""
    return replace(message, content=f"{message.content}\n{RETURN.format(shown(value))}")


def shown(value: float) -> str:
    """A return as text: two places, and none that say nothing."""
    return f"{round(value, 2) + 0.0:g}"


def conditioned(episode: Logged) -> Logged:
    """The episode in which whatever the policy heard last before each turn says what came from there on."""
    messages = list(episode.messages)
    for place, value in zip(episode.turns, episode.returns, strict=True):
        messages[place - 1] = with_return(messages[place - 1], value)
    return replace(episode, messages=tuple(messages))


def stream_logged(
    source: Source,
    columns: Sequence[str] = (),
    *,
    skip_bad: bool | None = None,
    reading: Reading | None = None,
) -> Iterator[Logged]:
    """From `messages`, `rewards` of the policy's turns and `reward`, their sum with what came at the end; `ended`."""
    rows = read_table(source, columns, broken=True)
    return read_items(source, rows, logged_of, skip_bad=skip_bad, reading=reading)


def logged_of(where: str, row: Mapping[str, Any]) -> list[Logged]:
    """The episode of a row."""
    if "messages" not in row:
        raise UserError(
            f"{where}: expected a column `messages`, of a transcript; docs/envs.md says what that is"
        )
    messages = messages_of(where, "messages", row["messages"])
    turns = tuple(
        i
        for i, m in enumerate(messages)
        if m.role == "assistant" and i and is_learned(where, row["messages"][i])
    )
    if not turns:
        raise UserError(f"{where}: `messages` has no assistant turn that answers anything")
    if any(i + 1 == j for i, j in pairwise(turns)):
        raise UserError(f"{where}: `messages` has two assistant turns in succession")
    ended = row.get("ended", "terminated")
    if ended not in ("terminated", "truncated"):
        raise UserError(f"{where}: `ended` must be terminated or truncated, not {ended!r}")
    first = with_template(where, row, messages)
    assert not isinstance(first, str)
    truncated = ended == "truncated"
    return [
        Logged(
            first,
            turns,
            _rewards(where, row, len(turns)),
            truncated,
            truncated and row.get("cause") == "tokens",
        )
    ]


def _rewards(where: str, row: Mapping[str, Any], turns: int) -> tuple[float, ...]:
    """Of each turn; what `reward` has beyond their sum came at the end."""
    if "rewards" not in row and "reward" not in row:
        raise UserError(
            f"{where}: a logged episode needs `rewards`, of each of its turns, or their sum `reward`"
        )
    of_turns = row.get("rewards")
    of_turns = [0.0] * turns if of_turns is None else of_turns
    if not isinstance(of_turns, list) or not all(map(_finite, of_turns)) or len(of_turns) != turns:
        raise UserError(
            f"{where}: `rewards` must be {turns} finite numbers, one for each assistant turn"
        )
    total = row.get("reward")
    if total is None:
        return tuple(map(float, of_turns))
    if not _finite(total):
        raise UserError(f"{where}: `reward` must be a finite number")
    rest = float(total) - math.fsum(of_turns)
    rest = (
        rest if abs(rest) > 1e-5 * max(1.0, abs(total)) else 0.0
    )  # rounded when they were written
    return (*map(float, of_turns[:-1]), float(of_turns[-1]) + rest)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
