"""What `heedful plan` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.fields import AT_LEAST_1, POSITIONAL, Range


@dataclass(frozen=True, kw_only=True)
class Config:
    """Say what a training run will need on given GPUs, and which flag to change where it does not fit.

    Nothing is loaded or trained: memory of states is arithmetic, that of activations and the operations are counted in
    a pass on tensors without content, seconds come from data sheets and a share of what they promise.
    """

    config: Annotated[Path, POSITIONAL]
    """The run's YAML file, such as the config.yaml in a run's folder; it says which command it is of."""
    gpus: str
    """GPUs: H100, 8xH100, or 4x8xH100 for four machines of eight."""
    flags: str = ""
    """Flags on top of the file's, in one text: --flags="--shard --dtype bfloat16"."""
    prompt_tokens: Annotated[int, AT_LEAST_1] = 256
    """Mean tokens of a prompt."""
    response_tokens: Annotated[int | None, AT_LEAST_1] = None
    """Mean tokens of a response; default: 256, and --max-tokens where the run samples."""
    efficiency: Annotated[float, Range(0, 1, above=True)] = 0.4
    """Share of a GPU's peak that training reaches (MFU)."""
    explain: bool = False
    """Also show the formula of each part."""
