"""Losses of reward models on rankings of K responses.

scores `[G, K]`; rank `[G, K]` with 1 = best, equal = tie, −1 = worse than all ranks, but in no order with its like,
and 0 = no such response (prompts may have different K).
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
    """Mean over the pairs of −log σ(r_w − r_l − margin): all C(K,2), if all are ranked; a tie is ½ of each order.

    All pairs of a prompt in one element with weight 1/C(K,2), as in Stiennon et al. 2020: as separate
    examples they would overfit, since each response would be seen K−1 times an epoch.
    """
    diff = scores[:, :, None] - scores[:, None, :]
    wins = _wins(rank)
    ties = _same(rank).triu(diagonal=1)
    win_loss = -F.logsigmoid(diff - margin[:, None, None]) * wins
    tie_loss = -0.5 * (F.logsigmoid(diff) + F.logsigmoid(-diff)) * ties
    pairs = (wins | ties).sum((1, 2)).clamp(min=1)
    return (win_loss + tie_loss).sum((1, 2)) / pairs


def plackett_luce(
    scores: Float[Tensor, "G K"], rank: Int[Tensor, "G K"], margin: Float[Tensor, " G"]
) -> Float[Tensor, " G"]:
    """−log ∏_k e^{r_k} / Σ_{j: rank_j ≥ rank_k} e^{r_j} (Plackett 1975); equals Bradley–Terry at K = 2.

    Tied responses share one risk set (Breslow's form). The last rank adds nothing, and what has rank −1 stands in
    every risk set and adds no factor: with one response ranked this is −log softmax of its score. A margin is
    subtracted from the numerator's advantage over the rest, so that K = 2 agrees with Bradley–Terry.
    """
    absent, place = rank == 0, places(rank)
    behind = place[:, None, :] >= place[:, :, None]
    others = scores[:, None, :] + margin[:, None, None] * (place[:, None, :] > place[:, :, None])
    risk = others.masked_fill(~behind | absent[:, None, :], float("-inf"))
    worst = place.masked_fill(absent, 0).amax(dim=1, keepdim=True)
    # In the last place nobody is left to beat; a tie *for* the only place must still pull together.
    counted = (rank > 0) & ((place < worst) | (_same(rank).sum(2) > 1))
    loss = torch.logsumexp(risk, dim=2).masked_fill(absent, 0.0) - scores
    return (loss * counted).sum(1)


def places(rank: Tensor) -> Tensor:
    """Rank −1 as one behind all others: the lower of two places is the better."""
    return rank.masked_fill(rank < 0, torch.iinfo(rank.dtype).max)


def best_and_last(rank: Tensor) -> tuple[Tensor, Tensor]:
    """The column of the (first) best and of the (first) last response of each prompt, both `[G, 1]`."""
    place, absent = places(rank), rank == 0
    best = place.masked_fill(absent, torch.iinfo(rank.dtype).max).argmin(1, keepdim=True)
    return best, place.argmax(1, keepdim=True)


def _same(rank: Tensor) -> Tensor:
    """`[G, K, K]`: two responses of the same rank; and each with itself."""
    return (rank[:, :, None] == rank[:, None, :]) & (rank > 0)[:, None, :]


def _wins(rank: Tensor) -> Tensor:
    """`[G, K, K]`: the first is better than the second."""
    place, real = places(rank), rank != 0
    return (place[:, :, None] < place[:, None, :]) & real[:, :, None] & real[:, None, :]


def accuracy(scores: Float[Tensor, "G K"], rank: Int[Tensor, "G K"]) -> tuple[Tensor, Tensor]:
    """Correctly ordered pairs (equal scores count ½) and strictly ranked pairs per prompt, both `[G]`."""
    diff, wins = scores[:, :, None] - scores[:, None, :], _wins(rank)
    right = (diff > 0).float() + 0.5 * (diff == 0).float()
    return (right * wins).sum((1, 2)), wins.sum((1, 2)).float()
