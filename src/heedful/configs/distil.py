"""What `heedful train distil` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import ByEpochs, Reading
from heedful.configs.common import refuse_nonsense as refuse_common
from heedful.errors import UserError
from heedful.fields import DATA, HIDDEN, Data, Range, alias


@dataclass(frozen=True, kw_only=True)
class Config(Reading, ByEpochs):
    """Train a model to answer without a context as a teacher answers with it (context distillation)."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The language model to start from."""
    data: Annotated[Data, DATA]
    """Rows with prompt and completion: what the teacher answers in context (`heedful sample --context FILE`)."""
    context: Path | None = None
    """A file whose text the teacher has before each prompt: instructions, a constitution, examples."""
    teacher: Annotated[str | None, alias("--teacher-model-name-or-path")] = None
    """The model that answers in context; it has the same tokens. Default: the model as it is before training."""
    batch_size: int = 16
    """Responses in an optimiser step."""
    max_length: Annotated[int | None, alias("--max-seq-length"), Range(2)] = None
    """Longest sequence in tokens, the context included; of longer ones --on-bad-row decides. Default: the model's
    context."""
    held_out: float = 0.02
    """Share of the prompts held out for eval/kl, chosen by hash."""
    learning_rate: float = 2e-5
    command: Annotated[str, HIDDEN] = "train distil"


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_common(config)
    if config.context is None and config.teacher is None:
        raise UserError(
            "--context FILE or --teacher MODEL is needed: else there is nothing to learn"
        )
