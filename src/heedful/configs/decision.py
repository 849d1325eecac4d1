"""What `heedful train decision` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import refuse_nonsense
from heedful.configs.ilql import FromEpisodes
from heedful.fields import HIDDEN

__all__ = ["Config", "refuse_nonsense"]


@dataclass(frozen=True, kw_only=True)
class Config(FromEpisodes):
    """Clone logged episodes, told before each turn what came from there on; then ask for more (return-conditioned)."""

    learning_rate: float = 2e-5
    command: Annotated[str, HIDDEN] = "train decision"
