"""A text before a prompt, which the model reads and the row does not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from heedful.data.tokens import encode_prompt
from heedful.disk import read_text
from heedful.errors import UserError
from heedful.types import Message, Prompt


def in_context(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, context: str) -> Prompt:
    """The prompt behind a context: as the system's turn, above what the system says already; in the first turn where
    the chat template has no system; and before the text of a plain prompt."""
    if isinstance(prompt, str):
        return f"{context}\n\n{prompt}"
    first, *others = prompt
    before_first = (replace(first, content=f"{context}\n\n{first.content}"), *others)
    if first.role == "system":
        return before_first
    told = (Message("system", context), *prompt)
    try:
        encode_prompt(tokenizer, told)
    except UserError:  # the template refuses a system's turn
        return before_first
    return told


def read_context(flag: str, path: Path) -> str:
    """The text of a file, without the spaces around it."""
    text = read_text(path, flag).strip()
    if not text:
        raise UserError(f"{flag}: {path} is empty")
    return text
