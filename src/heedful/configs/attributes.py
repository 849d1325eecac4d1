"""What `heedful train attributes` takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import FromComparisons
from heedful.configs.common import refuse_nonsense as refuse_common
from heedful.errors import UserError
from heedful.fields import DATA, HIDDEN, Data


@dataclass(frozen=True, kw_only=True)
class Config(FromComparisons):
    """Fit a reward model with a head for each axis that people rate and each rule that they judge by."""

    data: Annotated[Data, DATA]
    """Ratings: prompt, completion, axis and value, as `heedful export scores` writes them, or a column an axis."""
    axes: tuple[str, ...] = ()
    """Axes and rules to learn, with their weights in the reward, 1 by default: helpfulness=0.65 verbosity=-0.4.
    Default: all that the column `axis` names."""
    weights: str = "equal"
    """What each rating counts: equal; column, by the data's column weight; or by its rater, a file of
    `heedful raters --out`."""
    batch_size: int = 16
    """Responses in an optimiser step."""
    epochs: float = 1.0
    """Epochs over the ratings."""
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    command: Annotated[str, HIDDEN] = "train attributes"


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_common(config)
    weights_of(config)


def weights_of(config: Config) -> dict[str, float]:
    """The axes of `--axes` with their weights; UserError for a weight that is no number."""
    found: dict[str, float] = {}
    for word in config.axes:
        name, equals, told = word.partition("=")
        try:
            weight = float(told) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not name or not math.isfinite(weight):
            raise UserError(f"--axes {word}: expected NAME or NAME=WEIGHT, such as verbosity=-0.4")
        if name in found:
            raise UserError(f"--axes names {name} twice")
        found[name] = weight
    return found
