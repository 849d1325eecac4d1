"""Losses on pairs. Every function maps `PairLogps` (sums over response tokens, `[B]`) to a loss per pair `[B]`.

`--loss NAME` in `heedful train dpo` is a function of this file, or `package.module:function` of yours.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heedful.types import PairLogps


def margins(x: PairLogps) -> Float[Tensor, " B"]:
    """h = (log π − log π_ref)(y_w) − (log π − log π_ref)(y_l), without β."""
    return (x.chosen - x.ref_chosen) - (x.rejected - x.ref_rejected)


def dpo(x: PairLogps, p: Float[Tensor, " B"], beta: float) -> Float[Tensor, " B"]:
    """−p·log σ(βh) − (1−p)·log σ(−βh) (Rafailov et al. 2023, eq. 7; p < 1 is the conservative form, p = ½ a tie).

    Sums over tokens, not means: β then has the unit of the KL-constrained objective's β.
    """
    h = beta * margins(x)
    return -p * F.logsigmoid(h) - (1 - p) * F.logsigmoid(-h)


def preferred_ft(x: PairLogps, p: Float[Tensor, " B"], beta: float) -> Float[Tensor, " B"]:
    """−log π(y_w): fine-tuning on what was preferred, the honest baseline. β is not used."""
    return -x.chosen


def unlikelihood(
    x: PairLogps, p: Float[Tensor, " B"], beta: float, alpha: float = 0.5
) -> Float[Tensor, " B"]:
    """−(log π(y_w) − α·log π(y_l)), the unlikelihood baseline of the DPO paper. β is not used."""
    return -(x.chosen - alpha * x.rejected)
