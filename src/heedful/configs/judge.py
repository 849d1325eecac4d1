"""What `heedful judge` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.errors import UserError
from heedful.fields import DATA, ROWS, SEED, Data, Flag


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Rank the responses to each prompt by simulated raters, a language model or the samples' rewards."""

    data: Annotated[Data, Flag(aliases=("--samples",), metavar=DATA.metavar)]
    """Samples, several of each prompt."""
    judge: str
    """Who ranks: simulated raters with the score of a world or of package.module:function of (prompt, response),
    llm:MODEL(form=contrast), http://HOST:PORT/v1#NAME (a server), or scores (column `reward`); see docs/rewards.md."""
    people: Data | None = None
    """Comparisons by people, of the same kind. The judge is asked about these first, and how often it agrees with them
    is told before anything else is judged."""
    out: Annotated[Path, ROWS]
    """The file of comparisons."""
    pairs: Literal["rankings", "best_worst"] = "rankings"
    """Write full rankings, or only the best and the worst response of each as `chosen` and `rejected`, as TRL reads
    them."""
    seed: Annotated[int, SEED] = 0
    """Seed of the simulated raters' noise."""
    quiet: bool = False
    """Log lines in place of a progress bar."""

    def __post_init__(self) -> None:
        if self.people is not None and self.judge == "scores":
            raise UserError(
                "--people asks a judge what people were asked; --judge scores asks nobody"
            )
