"""What `heedful train dpo` takes, and its kin, and what each of them sets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from heedful.configs import common as shared
from heedful.configs.common import FromComparisons, Training, alias, held_out_unread
from heedful.errors import UserError, did_you_mean

# `heedful train NAME` → the fields that it sets. β is what each paper or its code starts from; where nothing
# is said, the defaults of `Config` and of the loss hold.
PRESETS: dict[str, dict[str, Any]] = {
    "dpo": {"loss": "dpo", "beta": 0.1},
    "cdpo": {"loss": "dpo", "beta": 0.1, "label_smoothing": 0.1},
    "robust": {"loss": "robust", "beta": 0.1},
    "ipo": {"loss": "ipo", "beta": 0.1},
    "kto": {"loss": "kto", "beta": 0.1},
    "orpo": {"loss": "orpo", "learning_rate": 8e-6},
    "simpo": {"loss": "simpo", "beta": 2.0},
    "cpo": {"loss": "cpo", "beta": 0.1},
    "slic": {"loss": "slic", "beta": 1.0},
    "rso": {"loss": "rso", "beta": 0.05},
    "apo_zero": {"loss": "apo_zero", "beta": 0.1},
    "apo_down": {"loss": "apo_down", "beta": 0.1},
    "apo_zero_unpaired": {"loss": "apo_zero_unpaired", "beta": 0.1},
    "bco": {"loss": "bco", "beta": 0.1},
    "exo": {"loss": "exo", "beta": 0.1},
    "cpl": {"loss": "cpl", "beta": 0.1},
    "plackett_luce_dpo": {"loss": "plackett_luce_dpo", "beta": 0.1},
    "preferred_ft": {"loss": "preferred_ft"},
    "unlikelihood": {"loss": "unlikelihood"},
}


@dataclass(frozen=True, kw_only=True)
class Direct(Training):
    """The loss of direct optimisation and what belongs to it."""

    reference: Annotated[str | None, alias("--ref-model")] = None
    """The frozen reference; default: the policy as it starts."""
    loss: Annotated[str, alias("--loss-type")] = "dpo"
    """Pairs: dpo, robust, ipo, exo, rso, apo_zero, apo_down; without a reference simpo, orpo, cpo, slic, cpl,
    preferred_ft, unlikelihood. Single responses with a label: kto, bco, apo_zero_unpaired. Whole rankings:
    plackett_luce_dpo. A sum is dpo+0.2*preferred_ft; your own is package.module:function of (PairLogps, p, beta)."""
    loss_options: tuple[str, ...] = ()
    """Other parameters of the loss, as gamma=0.5."""
    beta: float = 0.1
    """Strength of the pull towards the reference; the scale of the log-probs where there is none."""
    pairs: Literal["all", "best_worst"] = "all"
    """Which pairs a ranking of more than two responses gives."""
    label_smoothing: float = 0.0
    """Probability that the label of a pair is wrong (cDPO): p = 1 - this."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-6


@dataclass(frozen=True, kw_only=True)
class Config(FromComparisons, Direct):
    """Optimise a language model on comparisons directly."""

    data: Annotated[str, alias("--dataset-name")]
    """Comparisons (chosen and rejected, or responses and ranking), or rows with prompt, completion and label."""
    batch_size: Annotated[int, alias("--per-device-train-batch-size")] = 64
    """Pairs (single responses, rankings) in an optimiser step."""
    learning_rate: Annotated[float, alias("--lr")] = 1e-6


def unread(config: Direct) -> dict[str, str]:
    """Fields that nothing reads beside the others, and why. Of a user's own function the recipe finds out."""
    names = loss_names(config.loss)
    found = held_out_unread(config)
    known = not any(":" in name for name in names)
    if known and not any("beta" in row for row in PRESETS.values() if row["loss"] in names):
        found["beta"] = f"--loss {config.loss} has no β"
    return found


def loss_names(spec: str) -> list[str]:
    """The losses of a sum such as dpo+0.2*package.module:function, each known or the user's own."""
    names = [part.rpartition("*")[2].strip() for part in spec.split("+")]
    known = list(dict.fromkeys(row["loss"] for row in PRESETS.values()))
    for name in names:
        if name not in known and ":" not in name:
            raise UserError(
                f"--loss '{name}' is unknown{did_you_mean(name, known)}: {', '.join(known)}"
            )
    return names


def refuse_beta(beta: float) -> None:
    """β is a strength, and all losses divide or multiply by it."""
    if not beta > 0 or not math.isfinite(beta):
        raise UserError(f"--beta must be above 0, not {beta}")


def refuse_nonsense(config: Direct) -> None:
    """Numbers that no run can have, whatever the loss reads."""
    shared.refuse_nonsense(config)
    loss_names(config.loss)
    refuse_beta(config.beta)
    if not 0 <= config.label_smoothing < 0.5:
        raise UserError(
            f"--label-smoothing must be 0 or more, below 0.5, not {config.label_smoothing}"
        )
