"""Losses on single responses that were liked or not: functions of (LabelledLogps, β) to a loss per row `[B]`.

What a loss reads of the *whole* batch is a keyword parameter without a default, and is computed once per
step, before micro-batches are cut, without gradient: `kl` or `delta`, both the same in every row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heedful.registry import register
from heedful.types import LabelledLogps

Rows = Float[Tensor, " B"]


@register(
    "loss",
    "kto",
    help="single responses that were liked or not",
    source="Ethayarajh et al. 2024, eq. 7",
    beta=0.1,
    reads="unpaired",
)
def kto(
    x: LabelledLogps,
    beta: float,
    *,
    kl: Rows,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Rows:
    """λ_D·(1 − σ(β(r − z₀))) where liked, λ_U·(1 − σ(β(z₀ − r))) where not, r = log π/π_ref.

    (Ethayarajh et al. 2024, eq. 7 and 8.) z₀ = `kl` estimates KL(π‖π_ref) in nats per response, at least 0.
    With n_D liked and n_U other rows the paper wants λ_D·n_D/(λ_U·n_U) between 1 and 1.33.
    """
    gain = beta * (x.logp - x.ref_logp - kl)
    liked = desirable_weight * torch.sigmoid(-gain)
    return torch.where(x.desirable, liked, undesirable_weight * torch.sigmoid(gain))


@register(
    "loss",
    "bco",
    help="likewise, as a classifier",
    source="Jung et al. 2024",
    beta=0.1,
    reads="unpaired",
)
def bco(x: LabelledLogps, beta: float, *, delta: Rows) -> Rows:
    """−log σ(βr − δ) where liked, −log σ(−(βr − δ)) where not, r = log π/π_ref (Jung et al. 2024).

    A classifier whose logit is the implicit reward; δ is the middle between the rewards of the two kinds.
    """
    logit = beta * (x.logp - x.ref_logp) - delta
    return torch.where(x.desirable, -F.logsigmoid(logit), -F.logsigmoid(-logit))


@register(
    "loss",
    "apo_zero_unpaired",
    help="likewise, anchored at the reference",
    source="D'Oosterlinck et al. 2024",
    beta=0.1,
    reads="unpaired",
)
def apo_zero_unpaired(x: LabelledLogps, beta: float) -> Rows:
    """1 − σ(βr) where liked, σ(βr) where not: the halves of `apo_zero`, which need not come in pairs."""
    gain = beta * (x.logp - x.ref_logp)
    return torch.sigmoid(torch.where(x.desirable, -gain, gain))
