"""What `heedful doctor` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import TOP_P
from heedful.fields import AT_LEAST_0, AT_LEAST_1, SEED, Flag, Range, alias


@dataclass(frozen=True, kw_only=True)
class Config:
    """Check a model, its tokenizer and chat template, a reward model and data for common mistakes."""

    model: Annotated[str, Flag(positional=True, metavar="MODEL")]
    """The language model to train."""
    data: Annotated[str | None, Flag(positional=True, metavar="DATA")] = None
    """What it will be trained on: comparisons, demonstrations, labelled responses or prompts."""
    columns: tuple[str, ...] = ()
    """Other names of columns: prompt=question completion=answer; question=… is a user's turn."""
    reward_model: Annotated[str | None, alias("--reward")] = None
    """The reward model it will be trained against."""
    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference, if it is not the model itself."""
    eval_data: str | None = None
    """Held-out data whose prompts must not be among those of DATA."""
    temperature: Annotated[float, AT_LEAST_0] = 1.0
    """Sampling temperature that you will train with."""
    top_p: Annotated[float, TOP_P] = 1.0
    """Nucleus sampling: from the smallest set of tokens with this probability mass."""
    top_k: Annotated[int, AT_LEAST_0] = 0
    """Sample from the k likeliest tokens; 0 for all."""
    max_tokens: Annotated[int, alias("--max-completion-length"), AT_LEAST_1] = 48
    """Longest response in tokens."""
    max_length: Annotated[int | None, Range(2)] = None
    """Longest sequence in tokens. Default: the model's context."""
    learning_rate: Annotated[float, alias("--lr"), AT_LEAST_0] = 1e-6
    """The learning rate that you will train with: is it lost to rounding?"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the weights."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
    limit: Annotated[int, AT_LEAST_1] = 20_000
    """Check the first N rows of the data."""
    seed: Annotated[int, SEED] = 0
    """Seed of the sampling."""
    out: Path | None = None
    """Write the findings to this file too, as JSON."""
    json: bool = False
    """Print the findings as JSON in place of lines."""
