"""What `heedful cues` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.fields import FINITE, ROWS, Data, Flag


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Conversations → replies with a reward, by what the user said next."""

    data: Annotated[Data, Flag(positional=True, metavar="CONVERSATIONS")] = "db:"
    """Rows with messages; db: is the workspace here, whose raters talked with models, db:DIR#PROJECT another."""
    out: Annotated[Path, ROWS]
    """The file of replies with their rewards; .jsonl or .jsonl.gz."""
    cues: tuple[str, ...] = ("sentiment",)
    """What is heeded, with weights: sentiment, thanks=0.5, words, laughs, rephrases, leaves, questions,
    package.module:function, or the folder of a text classifier."""
    fit: str | None = None
    """A column with what a few users said of their whole conversation, as a number or true and false: the cues' weights
    are fitted to these ratings first, and then hold for all."""
    liked_above: Annotated[float | None, FINITE] = None
    """A reply with a higher reward has the label true, for `train kto` and `train bco`: by default than 0, with --fit
    than the mean."""
    on_bad_row: Literal["stop", "drop"] = "stop"
    """A row that cannot be read stops the command, or is left out."""
