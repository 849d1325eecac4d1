"""Losses of reward models on rankings of K responses.

scores `[G, K]`; rank `[G, K]` with 1 = best, equal = tie and 0 = no such response (prompts may have different K).
Each function returns one loss per prompt, `[G]`; a constant added to all scores of a prompt changes nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def bradley_terry(
    scores: Float[Tensor, "G K"], rank: Int[Tensor, "G K"], margin: Float[Tensor, " G"]
) -> Float[Tensor, " G"]:
    """Mean over all C(K,2) pairs of −log σ(r_w − r_l − margin); a tie counts as ½ of each order.

    All pairs of a prompt in one element with weight 1/C(K,2), as in Stiennon et al. 2020: as separate
    examples they would overfit, since each response would be seen K−1 times an epoch.
    """
    diff = scores[:, :, None] - scores[:, None, :]
    real = (rank > 0)[:, :, None] & (rank > 0)[:, None, :]
    wins = (rank[:, :, None] < rank[:, None, :]) & real
    ties = (rank[:, :, None] == rank[:, None, :]) & real
    ties = ties.triu(diagonal=1)
    win_loss = -F.logsigmoid(diff - margin[:, None, None]) * wins
    tie_loss = -0.5 * (F.logsigmoid(diff) + F.logsigmoid(-diff)) * ties
    pairs = (wins | ties).sum((1, 2)).clamp(min=1)
    return (win_loss + tie_loss).sum((1, 2)) / pairs


def plackett_luce(
    scores: Float[Tensor, "G K"], rank: Int[Tensor, "G K"], margin: Float[Tensor, " G"]
) -> Float[Tensor, " G"]:
    """−log ∏_k e^{r_k} / Σ_{j: rank_j ≥ rank_k} e^{r_j} (Plackett 1975); equals Bradley–Terry at K = 2.

    Tied responses share one risk set (Breslow's form). The last rank adds nothing. A margin is
    subtracted from the numerator's advantage over the rest, so that K = 2 agrees with Bradley–Terry.
    """
    absent = rank <= 0
    behind = rank[:, None, :] >= rank[:, :, None]
    others = scores[:, None, :] + margin[:, None, None] * (rank[:, None, :] > rank[:, :, None])
    risk = others.masked_fill(~behind | absent[:, None, :], float("-inf"))
    worst = rank.amax(dim=1, keepdim=True)
    # In the last place nobody is left to beat; a tie *for* the only place must still pull together.
    counted = ~absent & ((rank < worst) | ((rank == worst) & _tied(rank)))
    loss = torch.logsumexp(risk, dim=2).masked_fill(absent, 0.0) - scores
    return (loss * counted).sum(1)


def _tied(rank: Tensor) -> Tensor:
    same = (rank[:, :, None] == rank[:, None, :]) & (rank > 0)[:, None, :]
    return same.sum(2) > 1


def accuracy(scores: Float[Tensor, "G K"], rank: Int[Tensor, "G K"]) -> tuple[Tensor, Tensor]:
    """Correctly ordered pairs (equal scores count ½) and strictly ranked pairs per prompt, both `[G]`."""
    diff = scores[:, :, None] - scores[:, None, :]
    real = (rank > 0)[:, :, None] & (rank > 0)[:, None, :]
    wins = (rank[:, :, None] < rank[:, None, :]) & real
    right = (diff > 0).float() + 0.5 * (diff == 0).float()
    return (right * wins).sum((1, 2)), wins.sum((1, 2)).float()
