"""What `heedful chat` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import TOP_P
from heedful.fields import AT_LEAST_0, AT_LEAST_1, SEED, alias


@dataclass(frozen=True, kw_only=True)
class Config:
    """Talk to a language model; an empty line or Ctrl-D ends the conversation."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The language model."""
    system: str | None = None
    """A system message to begin with."""
    remember: bool = True
    """Keep earlier turns in the conversation; models trained on single questions do better without."""
    max_tokens: Annotated[int, AT_LEAST_1] = 128
    """Longest response in tokens."""
    temperature: Annotated[float, AT_LEAST_0] = 1.0
    """0 is greedy decoding: the likeliest token."""
    top_p: Annotated[float, TOP_P] = 1.0
    """Nucleus sampling: from the smallest set of tokens with this probability mass."""
    seed: Annotated[int, SEED] = 0
    """Seed of the sampling."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
