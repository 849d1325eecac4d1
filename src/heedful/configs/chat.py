"""What `heedful chat` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import alias


@dataclass(frozen=True, kw_only=True)
class Config:
    """Talk to a language model; an empty line or Ctrl-D ends the conversation."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The language model."""
    system: str | None = None
    """A system message to begin with."""
    remember: bool = True
    """Keep earlier turns in the conversation; models trained on single questions do better without."""
    max_tokens: int = 128
    """Longest response in tokens."""
    temperature: float = 1.0
    """0 is greedy decoding: the likeliest token."""
    top_p: float = 1.0
    """Nucleus sampling: from the smallest set of tokens with this probability mass."""
    seed: int = 0
    """Seed of the sampling."""
    device: str = "cpu"
    """Torch device."""
