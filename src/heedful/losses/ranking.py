"""Losses on rankings of K responses: functions of (RankedLogps, β) to a loss per prompt `[G]`."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from heedful.losses.reward import plackett_luce
from heedful.registry import register
from heedful.types import RankedLogps


@register(
    "loss",
    "plackett_luce_dpo",
    help="DPO on whole rankings",
    source="Rafailov et al. 2023, A.3",
    beta=0.1,
    reads="rankings",
)
def plackett_luce_dpo(x: RankedLogps, beta: float) -> Float[Tensor, " G"]:
    """−log ∏_k e^{r̂_k}/Σ_{j behind or at k} e^{r̂_j} with r̂ = β·log π/π_ref: DPO on whole rankings.

    (Rafailov et al. 2023, appendix A.3.) Equals `dpo` at K = 2 without a tie; ties share a risk set, and rank
    0 marks a response that is not there, see `losses.reward.plackett_luce`.
    """
    reward = beta * (x.logp - x.ref_logp)
    return plackett_luce(reward, x.rank, reward.new_zeros(len(reward)))
