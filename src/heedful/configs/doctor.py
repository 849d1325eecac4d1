"""What `heedful doctor` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from heedful.configs.common import alias
from heedful.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Check a model, its tokenizer and chat template, a reward model and data for common mistakes."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The language model to train."""
    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = None
    """What it will be trained on: comparisons, demonstrations, labelled responses or prompts."""
    reward_model: Annotated[str | None, alias("--reward")] = None
    """The reward model it will be trained against."""
    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference, if it is not the model itself."""
    eval_data: str | None = None
    """Held-out data whose prompts must not be among those of DATA."""
    temperature: float = 1.0
    """Sampling temperature that you will train with."""
    top_p: float = 1.0
    """Nucleus sampling: from the smallest set of tokens with this probability mass."""
    top_k: int = 0
    """Sample from the k likeliest tokens; 0 for all."""
    max_tokens: Annotated[int, alias("--max-completion-length")] = 48
    """Longest response in tokens."""
    max_length: int | None = None
    """Longest sequence in tokens. Default: the model's context."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-6
    """The learning rate that you will train with: is it lost to rounding?"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the weights."""
    device: str = "cpu"
    """Torch device."""
    limit: int = 20_000
    """Check the first N rows of the data."""
    seed: int = 0
    """Seed of the sampling."""
    out: Path | None = None
    """Write the findings to this file too, as JSON."""
    json: bool = False
    """Print the findings as JSON in place of lines."""


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    if config.limit < 1 or config.max_tokens < 1:
        raise UserError("--limit and --max-tokens must be 1 or more")
    if config.temperature < 0 or not 0 < config.top_p <= 1 or config.top_k < 0:
        raise UserError("--temperature and --top-k must be 0 or more, --top-p above 0 and up to 1")
