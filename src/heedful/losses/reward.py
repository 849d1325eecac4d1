"""Losses of reward models on rankings of K responses.

scores `[G, K]`; rank `[G, K]` with 1 = best, equal = tie, −1 = worse than all ranks, but in no order with its like,
and 0 = no such response (prompts may have different K).
Each function returns one loss per prompt, `[G]`; a constant added to all scores of a prompt changes nothing.
"""

from __future__ import annotations

import math

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
    diff = _differences(scores)
    tie_loss = -0.5 * (F.logsigmoid(diff) + F.logsigmoid(-diff))
    return _over_pairs(-F.logsigmoid(diff - margin[:, None, None]), tie_loss, rank)


def soft_bradley_terry(
    scores: Float[Tensor, "G K"], rank: Int[Tensor, "G K"], strength: Float[Tensor, " G"]
) -> Float[Tensor, " G"]:
    """−p·log σ(r_w − r_l) − (1 − p)·log σ(r_l − r_w) with p = (1 + strength)/2: a label from 0 to 1, not yes or no.

    With strength 1 it is Bradley–Terry, with 0 a tie; at its minimum the difference is log p/(1 − p), and not larger.
    """
    diff, p = _differences(scores), (1 + strength[:, None, None]) / 2
    win_loss = -p * F.logsigmoid(diff) - (1 - p) * F.logsigmoid(-diff)
    tie_loss = -0.5 * (F.logsigmoid(diff) + F.logsigmoid(-diff))
    return _over_pairs(win_loss, tie_loss, rank)


def davidson(
    scores: Float[Tensor, "G K"], rank: Int[Tensor, "G K"], ties: float
) -> Float[Tensor, " G"]:
    """−log P, P(i ≻ j) = e^{r_i}/Z, P(tie) = ν·e^{(r_i + r_j)/2}/Z, Z their sum with e^{r_j} (Davidson 1970).

    ν = 2·ties/(1 − ties), so that two equally good responses tie with the chance `ties`. A tie says that the scores are
    near each other, and how near; where `ties` goes to 0, what is no tie is Bradley–Terry's.
    """
    diff, nu = _differences(scores), 2 * ties / (1 - ties)
    tied = math.log(nu) - diff / 2
    total = torch.logsumexp(torch.stack([torch.zeros_like(diff), -diff, tied]), 0)
    return _over_pairs(total, total - tied, rank)


def rao_kupper(
    scores: Float[Tensor, "G K"], rank: Int[Tensor, "G K"], ties: float
) -> Float[Tensor, " G"]:
    """−log P, P(i ≻ j) = σ(r_i − r_j − log θ), P(tie) = (θ² − 1)·P(i ≻ j)·P(j ≻ i) (Rao and Kupper 1967).

    A tie is a difference of less than log θ that nobody sees. θ = (1 + ties)/(1 − ties): as in `davidson`.
    """
    diff, theta = _differences(scores), (1 + ties) / (1 - ties)
    threshold = math.log(theta)
    win, lose = -F.logsigmoid(diff - threshold), -F.logsigmoid(-diff - threshold)
    return _over_pairs(win, win + lose - math.log(theta**2 - 1), rank)


def mean_variance(
    mean: Float[Tensor, "G K"], log_std: Float[Tensor, "G K"], rank: Int[Tensor, "G K"]
) -> Float[Tensor, " G"]:
    """−log Φ((μ_w − μ_l)/√(σ_w² + σ_l²)) over pairs: a response's worth is N(μ, σ²), since people differ about it.

    Distributional preference learning (Siththaranjan et al. 2024, §4.1), whose code takes a logistic function for Φ;
    here it is Φ itself, also far out in its tail. A tie is ½ of each order. Comparisons say nothing about the common
    scale of μ and σ.
    """
    variance = (2 * log_std).exp()
    z = _differences(mean) / (variance[:, :, None] + variance[:, None, :]).sqrt()
    win, lose = -torch.special.log_ndtr(z), -torch.special.log_ndtr(-z)
    return _over_pairs(win, 0.5 * (win + lose), rank)


def categorical(logits: Float[Tensor, "G K C"], rank: Int[Tensor, "G K"]) -> Float[Tensor, " G"]:
    """−log P over pairs, P(i ≻ j) = Σ_{a > b} p_i(a)·p_j(b) + ½ Σ_a p_i(a)·p_j(a): a response's worth is one of C
    grades with chances p = softmax of its logits, the first the lowest.

    Distributional preference learning (Siththaranjan et al. 2024, §4.1) without a form of the distribution: one with
    two humps is what two groups of people want. The chance of the difference is exact. A tie is ½ of each order.
    """
    log_chance = log_preferred(logits[:, :, None], logits[:, None])
    win, lose = -log_chance, -log_chance.transpose(1, 2)
    return _over_pairs(win, 0.5 * (win + lose), rank)


def log_preferred(first: Float[Tensor, "... C"], second: Float[Tensor, "... C"]) -> Tensor:
    """log P(the first's grade is above the second's), equal grades one half, for logits that broadcast: `[...]`."""
    above, below = first.log_softmax(-1), second.log_softmax(-1)
    lower = below.logcumsumexp(-1)[..., :-1]  # grades below each grade; below the first is none
    none = lower.new_full((*lower.shape[:-1], 1), -math.inf)
    less = torch.logaddexp(torch.cat([none, lower], -1), below - math.log(2))
    return torch.logsumexp(above + less, -1)


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


def tie_share(rank: Int[Tensor, "G K"]) -> float:
    """Of all pairs that were compared, those that tie."""
    ties = _same(rank).triu(diagonal=1).sum()
    return float(ties / (ties + _wins(rank).sum()).clamp(min=1))


def _differences(scores: Tensor) -> Tensor:
    """`[G, K, K]`: the first's score less the second's."""
    return scores[:, :, None] - scores[:, None, :]


def _over_pairs(win_loss: Tensor, tie_loss: Tensor, rank: Tensor) -> Tensor:
    """The mean over the pairs of each prompt, `[G]`; both losses `[G, K, K]`, a tie counted once."""
    wins, ties = _wins(rank), _same(rank).triu(diagonal=1)
    pairs = (wins | ties).sum((1, 2)).clamp(min=1)
    return (win_loss * wins + tie_loss * ties).sum((1, 2)) / pairs


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
