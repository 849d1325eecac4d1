"""Fields that all training recipes share. Flags, YAML keys and saved configs have these names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


def alias(*names: str):
    """Other spellings of a flag, e.g. those that users of TRL know."""
    return tyro.conf.arg(aliases=names)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every training command takes."""

    out: Annotated[Path, alias("--output-dir")]
    """Folder of the run: config, metrics, checkpoints and, at the end, the model."""
    seed: int = 0
    """Seed of everything random; the same seed on the same machine gives the same weights."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-4
    """Peak learning rate of AdamW."""
    schedule: Annotated[Literal["constant", "linear", "cosine"], alias("--lr-scheduler-type")] = (
        "linear"
    )
    """How the learning rate falls after the warm-up."""
    warmup: Annotated[float, alias("--warmup-ratio")] = 0.05
    """Share of the steps during which the learning rate rises."""
    weight_decay: float = 0.0
    """AdamW's weight decay of matrices."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    micro_batch_tokens: int = 8192
    """Most tokens in one forward pass; changes memory and speed, never the gradient."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    device: str = "cpu"
    """Torch device, such as cpu or cuda."""
    quiet: bool = False
    """Plain lines in place of a progress bar."""
    report_to: Literal["tensorboard", "wandb", "none"] = "tensorboard"
    """Where metrics go besides metrics.jsonl."""
    save_every: Annotated[int, alias("--save-steps")] = 0
    """Steps between checkpoints; 0 saves the final model only."""
    log_every: Annotated[int, alias("--logging-steps")] = 1
    """Steps between logged metrics."""
