"""What `heedful train segments` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.configs.common import Reading
from heedful.fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, HIDDEN, SEED, alias


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Clips of a game that people compared → a reward of each move → a player that PPO has trained on it (Christiano et
    al. 2017). The game's own reward is never learned from."""

    out: Annotated[Path, alias("--output-dir")]
    """Folder of the run: config, metrics and, at the end, the player."""
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
    quiet: bool = False
    """Log lines in place of a progress bar."""
    report_to: Literal["tensorboard", "wandb", "mlflow", "trackio", "none"] = "tensorboard"
    """Where metrics go besides metrics.jsonl."""
    state_every: Annotated[int, AT_LEAST_0] = 0
    """Updates between saved states, from which the same command goes on; 0: as often as costs under 5 % of the time."""
    resume: bool = False
    """Resume the unfinished run in --out, and fail if there is none; the same command resumes by itself."""
    restart: bool = False
    """Start over and discard the unfinished run in --out."""
    command: Annotated[str, HIDDEN] = "train segments"
