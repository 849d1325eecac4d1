"""Files → types, in the columns that users already have: plain, conversational, TRL's formats, HH-RLHF."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from heedful.data.columns import (
    as_chat,
    column,
    messages_of,
    prompt_from,
    prompt_from_json,
    prompt_of,
    prompt_text,
    prompt_to_json,
    response,
    string,
    turns,
)
from heedful.data.comparisons import read_comparisons, read_unpaired
from heedful.data.files import read_rows, write_rows
from heedful.data.tables import read_table
from heedful.errors import UserError
from heedful.types import Demonstration, Facts, Prompt

__all__ = [
    "demonstrations_of",
    "facts_of",
    "prompt_from_json",
    "prompt_text",
    "prompt_to_json",
    "read_comparisons",
    "read_demonstrations",
    "read_prompts",
    "read_questions",
    "read_rows",
    "read_samples",
    "read_texts",
    "read_unpaired",
    "sample_of",
    "split_by_prompt",
    "write_rows",
]

Item = TypeVar("Item")
PROMPTS = ("prompt", "question", "messages")  # the first of these columns that a row has


def read_texts(source: str | Path) -> list[str]:
    """Raw documents from the column `text`; empty ones are left out."""
    texts = [string(where, row, "text") for where, row in read_table(source)]
    texts = [t for t in texts if t.strip()]
    if not texts:
        raise UserError(f"{source}: every `text` is empty")
    return texts


def read_prompts(source: str | Path) -> list[Prompt]:
    """Prompts from `prompt`, from `messages` that end with the user's turn, or from `question` (as a user's turn)."""
    return [prompt for prompt, _ in read_questions(source)]


def read_questions(source: str | Path) -> list[tuple[Prompt, Facts]]:
    """Prompts as `read_prompts` has them, each with the other columns of its row, which a reward may look at."""
    return [(prompt_of(where, row), facts_of(row)) for where, row in read_table(source)]


def facts_of(row: Mapping[str, Any], *others: str) -> Facts:
    """The columns of a row but that of its prompt and `others`, read-only."""
    asked = next((name for name in PROMPTS if name in row), None)
    return MappingProxyType({k: v for k, v in row.items() if k != asked and k not in others})


def read_demonstrations(source: str | Path) -> list[Demonstration]:
    """From prompt + completion, or from messages: each assistant turn is a demonstration given the turns before it.

    A text prompt whose completion is a message is a user's turn. A sample whose `stop_reason` is
    `length` was truncated, and gets no end token.
    """
    return [d for where, row in read_table(source) for d in demonstrations_of(where, row)]


def read_samples(source: str | Path) -> list[dict[str, Any]]:
    """Rows with a prompt and a completion, such as `heedful sample` writes; other columns are kept."""
    return [sample_of(where, row) for where, row in read_table(source)]


def demonstrations_of(where: str, row: dict[str, Any]) -> Iterator[Demonstration]:
    """The demonstrations in a row: one, or as many as its messages have assistant turns."""
    if "messages" in row and "completion" not in row:
        yield from turns(where, messages_of(where, "messages", row["messages"]))
        return
    prompt = prompt_from(where, "prompt", column(where, row, "prompt", "messages"))
    completion = column(where, row, "completion")
    text, ended = response(where, "completion", completion), row.get("stop_reason") != "length"
    yield Demonstration(as_chat(prompt, completion), text, ended)


def sample_of(where: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row, once it is known to be a sample."""
    prompt_from(where, "prompt", column(where, row, "prompt"))
    if not isinstance(column(where, row, "completion"), str):
        raise UserError(f"{where}: `completion` must be a string")
    if "index" in row and type(row["index"]) is not int:
        raise UserError(f"{where}: `index` must be a whole number, which sample of the prompt")
    return row


def split_by_prompt(
    items: Sequence[Item], prompt_of: Callable[[Item], Prompt], share: float
) -> tuple[list[Item], list[Item]]:
    """(training, held out): decided by a hash of the prompt, so that no prompt is ever in both."""
    train: list[Item] = []
    held: list[Item] = []
    for item in items:
        digest = hashlib.sha256(prompt_text(prompt_of(item)).encode("utf-8", "surrogatepass"))
        held_out = int.from_bytes(digest.digest()[:8], "big") < share * 2**64
        (held if held_out else train).append(item)
    return train, held
