"""What `heedful train dpo` and the other preference methods take, and what each of them sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from heedful import registry
from heedful.configs import common as shared
from heedful.configs.common import FromComparisons, Method, Sharded, Training
from heedful.errors import UserError
from heedful.fields import ABOVE_0, DATA, HIDDEN, Data, Range, alias

# `heedful train NAME` → the fields that it sets: a loss, and what its paper or code starts from. Where nothing is said,
# the defaults of `Config` and of the loss hold.
FACTS = ("reads", "reference")  # what is said of a loss that is no field
METHODS: dict[str, Method] = {
    **{
        e.name: Method(
            e.help, {"loss": e.name, **{k: v for k, v in e.more.items() if k not in FACTS}}
        )
        for e in registry.entries("loss").values()
    },
    "cdpo": Method(
        "DPO that expects some labels to be wrong",
        {"loss": "dpo", "beta": 0.1, "label_smoothing": 0.1},
    ),
}


@dataclass(frozen=True, kw_only=True)
class Direct(Training):
    """The loss on preferences and its parameters."""

    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference; default: the policy as it starts."""
    loss: Annotated[str, alias("--loss-type")] = "dpo"
    """A name (heedful train --help has them), a sum such as dpo+0.2*preferred_ft, or your own as
    package.module:function of (PairLogps, p, beta)."""
    loss_options: tuple[str, ...] = ()
    """Parameters of the loss, such as gamma=0.5."""
    beta: Annotated[float, ABOVE_0] = 0.1
    """β, the strength of the KL constraint to the reference; the scale of log-probs in reference-free losses."""
    pairs: Literal["all", "best_worst"] = "all"
    """Pairs to form from a ranking of more than two responses."""
    label_smoothing: Annotated[float, Range(0, 0.5, below=True)] = 0.0
    """Label smoothing ε (cDPO): the probability that a pair's label is flipped."""
    learning_rate: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class Config(FromComparisons, Direct, Sharded):
    """Optimise a language model on preference pairs directly, without a reward model."""

    data: Annotated[Data, DATA]
    """Comparisons (chosen and rejected, or responses and ranking), or rows with prompt, completion and label."""
    batch_size: int = 64
    """Pairs (or unpaired responses, or rankings) in an optimiser step."""
    learning_rate: float = 1e-6
    command: Annotated[str, HIDDEN] = "train dpo"


def unread(config: Direct) -> dict[str, str]:
    """Fields that nothing reads beside the others, and why. Of a user's own function the recipe finds out."""
    names = loss_names(config.loss)
    if any(":" in name for name in names):
        return {}
    told = [registry.entry("loss", name).more for name in names]
    reasons = {}
    if not any("beta" in more for more in told):
        lam = "; what TRL calls so is --loss-options lam=0.1" * (names == ["orpo"])
        reasons["beta"] = f"--loss {config.loss} has no β{lam}"
    if all(more.get("reference") is False for more in told):
        reasons["reference"] = f"--loss {config.loss} reads no reference"
    if any("reads" in more for more in told):
        about = f"--loss {config.loss} reads no pairs"
        reasons |= {"pairs": about, "label_smoothing": about}
    return reasons


def loss_names(spec: str) -> list[str]:
    """The losses of a sum such as dpo+0.2*package.module:function, each known or the user's own."""
    names = [part.rpartition("*")[2].strip() for part in spec.split("+")]
    for name in names:
        if ":" not in name:
            registry.entry("loss", name, "--loss")
    return names


def refuse_beta(beta: float) -> None:
    """β is a strength, and all losses divide or multiply by it."""
    if not beta > 0 or not math.isfinite(beta):
        raise UserError(f"--beta must be above 0, not {beta}")


def refuse_nonsense(config: Direct) -> None:
    """Numbers that no run can have, whatever the loss reads."""
    shared.refuse_nonsense(config)
    loss_names(config.loss)
