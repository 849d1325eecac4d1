"""What `heedful score` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import Reading
from heedful.fields import DATA, FINITE, ROWS, Data, alias


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Score responses with a reward."""

    reward: Annotated[
        tuple[str, ...],
        alias("--model", "--reward-model", "--reward-model-path", "--reward-funcs"),
    ]
    """Reward terms, which are summed: reward models, rules, verifiers, package.module:function; see docs/rewards.md."""
    reward_weights: Annotated[tuple[float, ...], FINITE] = ()
    """Weight of each reward term; default: 1."""
    normalise_rewards: Annotated[bool, alias("--normalize-rewards")] = False
    """Divide each reward term by its standard deviation over the file before weighting."""
    data: Annotated[Data, DATA]
    """Samples: rows with prompt and completion; other columns are facts about the prompt."""
    out: Annotated[Path, ROWS]
    """The file of samples with rewards."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""
