"""What `heedful compare rewards` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from heedful.configs.common import OnBadRow, Reading
from heedful.errors import UserError, did_you_mean
from heedful.fields import ABOVE_0, AT_LEAST_1, DATA, SEED, Data, Range, alias
from heedful.tagged import refuse_numbers

# Form → what it sets of `train reward`.
TRAINED: dict[str, dict[str, Any]] = {
    "bradley_terry": {},
    "margin": {"margin": 1.0},
    "soft_bradley_terry": {"loss": "soft_bradley_terry"},
    "davidson": {"loss": "davidson"},
    "rao_kupper": {"loss": "rao_kupper"},
    "plackett_luce": {"loss": "plackett_luce"},
    "top_1": {"loss": "plackett_luce"},
    "mean_variance": {"loss": "mean_variance"},
    "categorical": {"loss": "categorical"},
    "ensemble": {"heads": 4},
}
UNTRAINED = ("length", "n-grams")
FORMS = (*TRAINED, "regression", *UNTRAINED)


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    """Compare forms of reward models on one's own comparisons by cross-validation, beside length and n-grams."""

    model: Annotated[str | None, alias("--model-name-or-path")] = None
    """The model that each reward model starts from, mostly the SFT model. It has not read the responses; length and
    n-grams need none."""
    data: Annotated[Data, DATA]
    """Comparisons: chosen and rejected, or responses and ranking."""
    out: Path
    """Folder for rewards.json and rewards.html."""
    forms: tuple[str, ...] = FORMS
    """Forms to compare; the first is what the others are compared with. Of those that would be the same as
    bradley_terry, as ties where nothing ties, only that is trained."""
    folds: Annotated[int, Range(2)] = 5
    """Parts of the prompts, by hash; each is predicted by what was fitted to the others."""
    strength: Annotated[float | None, Range(0, 1, above=True)] = None
    """Strength (above 0, at most 1) of comparisons that have none: margin then has a constant margin, and
    soft_bradley_terry smoothed labels."""
    epochs: Annotated[float, alias("--num-train-epochs"), ABOVE_0] = 1.0
    """Epochs of each training."""
    batch_size: Annotated[int, AT_LEAST_1] = 16
    """Prompts in an optimiser step, each with all its responses."""
    learning_rate: Annotated[float, alias("--lr"), ABOVE_0] = 1e-5
    """Peak learning rate, the same for all forms."""
    max_length: Annotated[int | None, Range(2)] = None
    """Longest sequence in tokens; longer responses are cut. Default: the model's context."""
    seed: Annotated[int, SEED] = 0
    """Seed of heads and of the order of rows, the same for all forms."""
    on_bad_row: OnBadRow = "stop"
    """Rows that are no comparison: stop at the first, or drop them; of those too long for training, cut cuts."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of progress bars."""


def refuse_nonsense(config: Config) -> None:
    """What makes no sense, before anything is loaded."""
    refuse_numbers(config)
    for k, name in enumerate(config.forms):
        if name not in FORMS:
            raise UserError(
                f"--forms {name} is unknown{did_you_mean(name, FORMS)}; there are {', '.join(FORMS)}"
            )
        if name in config.forms[:k]:
            raise UserError(f"--forms names {name} twice")
    if config.model is None and (some := [name for name in config.forms if name not in UNTRAINED]):
        raise UserError(f"--forms {some[0]} needs --model, which its reward model starts from")
    if not config.forms:
        raise UserError("--forms names nothing to compare")
