"""What `heedful train sft` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import ByEpochs, Reading, Sharded, refuse_nonsense
from heedful.fields import DATA, HIDDEN, Data, Range, alias

__all__ = ["Config", "refuse_nonsense"]


@dataclass(frozen=True, kw_only=True)
class Config(Reading, ByEpochs, Sharded):
    """Fine-tune a language model on demonstrations."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The language model to start from."""
    data: Annotated[Data, DATA]
    """Demonstrations: rows with prompt and completion, or messages."""
    best: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Filtered behaviour cloning: learn from this share of the rows, those with the highest `reward`."""
    batch_size: int = 16
    """Demonstrations in an optimiser step."""
    max_length: Annotated[int | None, alias("--max-seq-length"), Range(2)] = None
    """Longest sequence in tokens; of longer ones --on-bad-row decides. Default: the model's context."""
    held_out: float = 0.02
    """Share of the prompts held out for eval/loss, chosen by hash."""
    learning_rate: float = 2e-5
    command: Annotated[str, HIDDEN] = "train sft"
