"""What `heedful revise` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import Reading
from heedful.fields import AT_LEAST_1, DATA, ROWS, SEED, Data, Flag, alias


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Let a model criticise responses by principles and write them anew: demonstrations for `train sft`."""

    data: Annotated[Data, Flag(aliases=("--samples",), metavar=DATA.metavar)]
    """Samples: rows with prompt and completion."""
    by: str
    """Who criticises and revises: llm:MODEL, a folder or hub name, or http://HOST:PORT/v1#NAME, a server."""
    principles: Path
    """A file of principles, one a line; each response is held against one of them in each round."""
    out: Annotated[Path, ROWS]
    """The file of revised responses."""
    rounds: Annotated[int, AT_LEAST_1] = 1
    """Critiques, each followed by a revision, one after the other by different principles."""
    max_tokens: Annotated[int, alias("--max-completion-length", "--max-new-tokens"), AT_LEAST_1] = (
        256
    )
    """Longest critique and longest revision in tokens."""
    seed: Annotated[int, SEED] = 0
    """Seed of which principles a response is held against."""
    device: str = "cpu"
    """Torch device of llm:MODEL, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""
