"""Which prompts are for training and which are held out: by a hash of the prompt, so that none is ever in both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from heedful.data.columns import prompt_text
from heedful.types import Prompt

Item = TypeVar("Item")


def split_by_prompt(
    items: Sequence[Item], prompt_of: Callable[[Item], Prompt], share: float
) -> tuple[list[Item], list[Item]]:
    """(training, held out): decided by a hash of the prompt, so that no prompt is ever in both."""
    train: list[Item] = []
    held: list[Item] = []
    for item in items:
        (held if is_held_out(prompt_of(item), share) else train).append(item)
    return train, held


def is_held_out(prompt: Prompt, share: float) -> bool:
    """Whether a prompt belongs to the share that is held out."""
    return _hashed(prompt) < share * 2**64


def fold_of(prompt: Prompt, folds: int) -> int:
    """Which of the folds, from 0, a prompt is in, whether or not it is held out: of either part each has its share."""
    return _hashed(prompt, 8) * folds // 2**64


def _hashed(prompt: Prompt, begin: int = 0) -> int:
    """From 0 to 2⁶⁴ − 1, by eight bytes of the hash."""
    digest = hashlib.sha256(prompt_text(prompt).encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[begin : begin + 8], "big")
