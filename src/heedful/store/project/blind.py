"""A response that says which model wrote it breaks the blinding: it is kept as it is, and marked in exports."""

from __future__ import annotations

import re

FAMILIES = (
    "chatgpt", "gpt", "openai", "claude", "anthropic", "gemini", "bard", "deepmind", "gemma", "llama", "meta ai",
    "mistral", "mixtral", "qwen", "alibaba cloud", "tongyi", "deepseek", "grok", "phi", "command r", "cohere",
    "copilot", "falcon",
    "olmo", "smollm", "yi",
)  # fmt: skip
_NAME = rf"(?:{'|'.join(map(re.escape, FAMILIES))})(?:[\s-]?v?\d[\w.]*)?\b"
_SELF = re.compile(
    r"\b(?:i\s+am|i['’]m|my\s+name\s+is|call\s+me|as|this\s+is)\s+(?:an?\s+|the\s+)?(?:[\w-]+\s+){0,3}?"
    rf"{_NAME}|\b(?:trained|made|created|developed|built)\s+by\s+{_NAME}",
    re.IGNORECASE,
)


def names_itself(text: str, model: str | None = None) -> bool:
    """Whether a response says who wrote it: a known family in the first person, or the very name of its model."""
    name = (model or "").rstrip("/").rpartition("/")[2]
    # A name that is a word like any other, such as lima, says nothing.
    if re.search(r"[\d_-]", name) and re.search(
        rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE
    ):
        return True
    return _SELF.search(text) is not None
