"""What `heedful train segments` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import Reading
from heedful.errors import UserError
from heedful.fields import ABOVE_0, AT_LEAST_1, SEED, alias


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Clips of a game that people compared → a reward of each move → a player that PPO has trained on it (Christiano et
    al. 2017). The game's own reward is never learned from."""

    out: Annotated[Path, alias("--output-dir")]
    """Folder of the run, a new one."""
    model: str = ""
    """The folder of an earlier `train segments` run: its policy goes on. Default: a new one."""
    iterations: Annotated[int, AT_LEAST_1] = 15
    """Updates of the policy."""
    episodes: Annotated[int, AT_LEAST_1] = 16
    """Games an update is made from."""
    learning_rate: Annotated[float, alias("--lr"), ABOVE_0] = 3e-3
    """Learning rate of Adam, of policy and critic."""
    seed: Annotated[int, SEED] = 0
    """Seed of everything random."""


def refuse_nonsense(config: Config) -> None:
    """A folder that is there already."""
    if config.out.exists():
        raise UserError(
            f"--out {config.out} is there already; --model {config.out} goes on from it"
        )
