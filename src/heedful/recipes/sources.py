"""Where data comes from, a file or a workspace, whose database is opened only where one is meant; what is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from heedful.data.columns import prompt_text
from heedful.types import Prompt

Item = TypeVar("Item")


def materialise(
    source: str, what: str, *, split: Literal["all", "train", "held_out"] = "train"
) -> str:
    """A source as a file: `db:` is the workspace here, `db:DIR#PROJECT` another; anything else is what it was.

    The export of what is there now is written to the workspace's `exports/`, named by its content.
    """
    if not source.startswith("db:"):
        return source
    from heedful.recipes.workspace import exported

    return exported(source, what, split)


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
