"""What `heedful raters` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.errors import UserError
from heedful.fields import Data, Flag


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Who can be relied on: how often each rater says what they see, their habits, and what to do. Or, with --models,
    how the models stand whose responses were compared."""

    data: Annotated[Data, Flag(positional=True, metavar="COMPARISONS")] = "db:"
    """Comparisons with a column rater; db: is the workspace here, db:DIR#PROJECT another."""
    on_bad_row: Literal["stop", "drop"] = "stop"
    """A row that cannot be read stops the command, or is left out and counted."""
    gold: Data | None = None
    """Comparisons whose order is known to be right, of responses that the raters have compared, too: with them a
    majority that errs together is not taken for the truth."""
    labels: Literal["dawid_skene", "mace"] | None = None
    """In place of comparisons labels of single responses, each axis by itself: thumbs, rules, ratings. Dawid–Skene
    learns what each rater takes for what, MACE only who knows and what the others say."""
    axes: tuple[str, ...] = ()
    """With --labels, of these axes only; of rows without a column axis, the columns that hold labels, such as label."""
    models: bool = False
    """Rate the models that wrote the responses, not the raters: Bradley–Terry on Elo's scale, with intervals. Of a
    workspace, or of rows with model_a, model_b and winner, or with models beside ranking."""
    out: Path | None = None
    """Write everything as JSON, too, with a weight for each rater."""


def refuse_nonsense(config: Config) -> None:
    """Axes are of labels, and models are rated by themselves."""
    if config.axes and config.labels is None:
        raise UserError("--axes is for --labels dawid_skene or mace")
    if config.models and (config.labels is not None or config.gold is not None):
        raise UserError("--models rates models by comparisons: leave --labels and --gold out")
