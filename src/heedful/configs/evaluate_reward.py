"""What `heedful evaluate reward` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heedful.configs.common import OnBadRow, Reading
from heedful.fields import AT_LEAST_1, DATA, FINITE, Data, alias


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Measure a reward on comparisons whose better response is known, by subset: RewardBench's files, or your own."""

    reward: Annotated[
        tuple[str, ...],
        alias("--model", "--reward-model", "--reward-model-path", "--reward-funcs"),
    ]
    """Reward terms, which are summed: reward models, rules, verifiers, package.module:function; see docs/rewards.md."""
    reward_weights: Annotated[tuple[float, ...], FINITE] = ()
    """Weight of each reward term; default: 1."""
    data: Annotated[Data, DATA]
    """Comparisons in any form; hf:allenai/reward-bench:filtered and hf:allenai/reward-bench-2:test as they are."""
    by: str = "subset"
    """The column that says which subset a row belongs to; rows without it are one subset."""
    limit: Annotated[int | None, AT_LEAST_1] = None
    """Use the first N rows only."""
    on_bad_row: OnBadRow = "stop"
    """Rows that are no comparison: stop at the first, or drop them; `cut` drops, too."""
    out: Path
    """Folder for evaluation.json and scores.jsonl."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""
