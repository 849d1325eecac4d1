"""What `heedful merge` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.fields import POSITIONAL, alias


@dataclass(frozen=True, kw_only=True)
class Config:
    """Merge an adapter into the weights of its base model and save the merged model."""

    adapter: Annotated[str, POSITIONAL]
    """The adapter: a run with --lora.rank, or anybody's in PEFT's format."""
    out: Annotated[Path, alias("--output-dir")]
    """Folder of the merged model."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the saved weights."""
    nf4: bool = False
    """Of a base in place of an adapter: save it with its numbers of four bits, as servers need it under --lora.nf4."""
