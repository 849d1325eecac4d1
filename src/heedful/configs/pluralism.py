"""What `heedful pluralism` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.fields import AT_LEAST_0, DATA, Data


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Who wants what, and whom one reward for all overrides: groups of users, accuracy of each, what they lose."""

    reward: str
    """A personal reward model, by train reward --personal."""
    single: str | None = None
    """The reward for all that it is compared with: a reward model. Default: the personal one, of nobody (z = 0)."""
    data: Annotated[Data, DATA]
    """Comparisons with raters, best of users who were not trained on; db: is a workspace."""
    groups: Annotated[int, AT_LEAST_0] = 0
    """Number of groups; 0 takes the fewest that predict answers as well as any number does."""
    out: Path
    """Folder for pluralism.json, profiles.json (a sentence for each group) and comparisons.jsonl, in which each prompt
    stands behind the sentence of its rater's group: to train a policy on."""
    on_bad_row: Literal["stop", "drop"] = "stop"
    """A row that cannot be read stops the command, or is left out and counted."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
