"""Losses on pairs: functions of (PairLogps, p, β) to a loss per pair `[B]`, unreduced.

`--loss NAME` is a function that is registered here, in `unpaired.py` or in `ranking.py`, or `package.module:function`
of yours. What a loss takes besides are keyword parameters with a default: `--loss-options gamma=0.5`.

p `[B]` is the probability that `chosen` is the better one: 1 for a label that is believed, ½ for a tie. Each
loss is the expectation over the two orders, p·ℓ(w, l) + (1−p)·ℓ(l, w), unless it says otherwise.

Sums over tokens, not means: then β has the unit of the KL-constrained objective's β, and a token that both
responses share at the same prefix has no gradient in any loss that reads only the margin. The losses that
average over the length are marked `length_normalised`; those that read no reference `reference_free`, and for
them none is loaded, its log-probs are 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heedful.errors import UserError
from heedful.registry import register
from heedful.types import PairLogps

Loss = TypeVar("Loss", bound=Callable[..., Tensor])
Pairs = Float[Tensor, " B"]


def reference_free(loss: Loss) -> Loss:
    """Marks a loss that does not read `ref_chosen` and `ref_rejected`."""
    loss.__dict__["reference_free"] = True
    return loss


def length_normalised(loss: Loss) -> Loss:
    """Marks a loss whose implicit reward is a mean over tokens, so that metrics show the same."""
    loss.__dict__["length_normalised"] = True
    return loss


def margins(x: PairLogps) -> Pairs:
    """h = (log π − log π_ref)(y_w) − (log π − log π_ref)(y_l), without β."""
    return (x.chosen - x.ref_chosen) - (x.rejected - x.ref_rejected)


def log1mexp(x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """log(1 − eˣ) for x < 0 without cancellation (Mächler 2012); x above −1e-6 counts as −1e-6."""
    x = x.clamp(max=-1e-6)
    return torch.where(x < -math.log(2), torch.log1p(-torch.exp(x)), torch.log(-torch.expm1(x)))


@register(
    "loss",
    "dpo",
    help="log-odds of the preferred response over the reference",
    source="Rafailov et al. 2023, eq. 7",
    beta=0.1,
)
def dpo(x: PairLogps, p: Pairs, beta: float) -> Pairs:
    """−p·log σ(βh) − (1−p)·log σ(−βh) (Rafailov et al. 2023, eq. 7).

    p < 1 is the conservative form (cDPO, Mitchell 2023), p = ½ a tie. This is RSO's "sigmoid-norm" loss too.
    """
    h = beta * margins(x)
    return -p * F.logsigmoid(h) - (1 - p) * F.logsigmoid(-h)


@register(
    "loss",
    "robust",
    help="DPO made unbiased under label noise",
    source="Chowdhury et al. 2024",
    beta=0.1,
)
def robust(x: PairLogps, p: Pairs, beta: float, *, epsilon: float = 0.1) -> Pairs:
    """((1−ε)·ℓ(h) − ε·ℓ(−h)) / (1 − 2ε) with DPO's ℓ: unbiased where labels are flipped with chance ε.

    (Chowdhury et al. 2024.) Its expectation over flips is the loss of the clean labels, so the minimiser is
    that of DPO without noise; a single value may be negative.
    """
    _within("robust", "epsilon", epsilon, 0.0, 0.5)
    right, wrong = dpo(x, p, beta), dpo(x, 1 - p, beta)
    return ((1 - epsilon) * right - epsilon * wrong) / (1 - 2 * epsilon)


@register(
    "loss",
    "ipo",
    help="squared distance of the margin to a target",
    source="Azar et al. 2023, eq. 17",
    beta=0.1,
)
@length_normalised
def ipo(x: PairLogps, p: Pairs, beta: float) -> Pairs:
    """(h̄ − 1/(2β))², h̄ the margin of log-ratios *per token* (Azar et al. 2023, eq. 17, whose τ is our β).

    The paper's h is a sum. The authors have confirmed to TRL that their results came from means over the
    length, and so it is here: otherwise the one target 1/(2β) would ask less of each token of a long response.
    """
    chosen = (x.chosen - x.ref_chosen) / x.chosen_lengths
    rejected = (x.rejected - x.ref_rejected) / x.rejected_lengths
    h, target = chosen - rejected, 1 / (2 * beta)
    return p * (h - target).square() + (1 - p) * (h + target).square()


@register(
    "loss",
    "simpo",
    help="mean log-probs with a margin, no reference",
    source="Meng et al. 2024",
    beta=2.0,
    reference=False,
)
@reference_free
@length_normalised
def simpo(x: PairLogps, p: Pairs, beta: float, *, gamma: float = 1.0) -> Pairs:
    """−log σ(β·(log π(y_w)/|y_w| − log π(y_l)/|y_l|) − γ) (Meng et al. 2024).

    Here β scales a mean over tokens, so it is an order of magnitude larger than DPO's: 2 to 10.
    """
    h = beta * (x.chosen / x.chosen_lengths - x.rejected / x.rejected_lengths)
    return -p * F.logsigmoid(h - gamma) - (1 - p) * F.logsigmoid(-h - gamma)


@register(
    "loss",
    "orpo",
    help="likelihood and odds, no reference",
    source="Hong et al. 2024",
    learning_rate=8e-06,
    reference=False,
)
@reference_free
@length_normalised
def orpo(x: PairLogps, p: Pairs, beta: float, *, lam: float = 0.1) -> Pairs:
    """−log P(y_w) − λ·log σ(log odds(y_w) − log odds(y_l)) (Hong et al. 2024).

    log P is the mean log-prob of a response's tokens and odds = P/(1−P). β is not used but in metrics.
    """
    chosen, rejected = x.chosen / x.chosen_lengths, x.rejected / x.rejected_lengths
    h = (chosen - log1mexp(chosen)) - (rejected - log1mexp(rejected))
    return p * (-chosen - lam * F.logsigmoid(h)) + (1 - p) * (-rejected - lam * F.logsigmoid(-h))


@register(
    "loss",
    "cpo",
    help="likelihood and a log-ratio, no reference",
    source="Xu et al. 2024",
    beta=0.1,
    reference=False,
)
@reference_free
def cpo(x: PairLogps, p: Pairs, beta: float, *, alpha: float = 1.0) -> Pairs:
    """−log σ(β·(log π(y_w) − log π(y_l))) − α·log π(y_w)/|y_w| (Xu et al. 2024).

    The likelihood term is a mean over tokens, as in the authors' code: as a sum it would drown the other.
    """
    h = beta * (x.chosen - x.rejected)
    right = -F.logsigmoid(h) - alpha * x.chosen / x.chosen_lengths
    wrong = -F.logsigmoid(-h) - alpha * x.rejected / x.rejected_lengths
    return p * right + (1 - p) * wrong


@register(
    "loss",
    "slic",
    help="a hinge on log-probs, no reference",
    source="Zhao et al. 2023",
    beta=1.0,
    reference=False,
)
@reference_free
def slic(x: PairLogps, p: Pairs, beta: float, *, delta: float = 1.0) -> Pairs:
    """max(0, δ − β·(log π(y_w) − log π(y_l))) (SLiC-HF, Zhao et al. 2023, where β = 1; in RSO's eq. 9 δ = 1).

    The paper's regulariser is another loss: `slic+0.1*preferred_ft`.
    """
    h = beta * (x.chosen - x.rejected)
    return p * torch.relu(delta - h) + (1 - p) * torch.relu(delta + h)


@register(
    "loss", "rso", help="a hinge on DPO's margin", source="Liu et al. 2024, eq. 10", beta=0.05
)
def rso(x: PairLogps, p: Pairs, beta: float) -> Pairs:
    """max(0, 1 − βh): RSO's "hinge-norm" (Liu et al. 2024, eq. 10, whose γ is our β), SLiC against a reference.

    Meant for pairs drawn by rejection sampling from the estimated π*: `heedful train online_dpo --keep`.
    """
    h = beta * margins(x)
    return p * torch.relu(1 - h) + (1 - p) * torch.relu(1 + h)


@register(
    "loss",
    "apo_zero",
    help="preferred up and rejected down, each by itself",
    source="D'Oosterlinck et al. 2024",
    beta=0.1,
)
def apo_zero(x: PairLogps, p: Pairs, beta: float) -> Pairs:
    """1 − σ(βr_w) + σ(βr_l), r = log π/π_ref (D'Oosterlinck et al. 2024): y_w up, y_l down.

    For chosen responses that are better than what the model writes.
    """
    chosen = torch.sigmoid(beta * (x.chosen - x.ref_chosen))
    rejected = torch.sigmoid(beta * (x.rejected - x.ref_rejected))
    return 1 + (1 - 2 * p) * (chosen - rejected)


@register(
    "loss",
    "apo_down",
    help="both down, the rejected further",
    source="D'Oosterlinck et al. 2024",
    beta=0.1,
)
def apo_down(x: PairLogps, p: Pairs, beta: float) -> Pairs:
    """σ(βr_w) + 1 − σ(β(r_w − r_l)) (D'Oosterlinck et al. 2024): both down, y_l more.

    For chosen responses that are worse than what the model writes.
    """
    chosen = torch.sigmoid(beta * (x.chosen - x.ref_chosen))
    rejected = torch.sigmoid(beta * (x.rejected - x.ref_rejected))
    h = beta * margins(x)
    return p * (chosen + torch.sigmoid(-h)) + (1 - p) * (rejected + torch.sigmoid(h))


@register("loss", "exo", help="reverse KL to the preference", source="Ji et al. 2024", beta=0.1)
def exo(x: PairLogps, p: Pairs, beta: float, *, epsilon: float = 1e-3) -> Pairs:
    """KL(q ‖ t) with q = (σ(βh), σ(−βh)) and the target t = (p', 1−p'), p' = p(1−ε) + (1−p)ε.

    EXO on preferences (Ji et al. 2024): the *reverse* KL, where DPO minimises KL(t ‖ q), so q seeks the mode.
    It is no expectation over labels: p is the target itself, and ε keeps that from being 0 or 1.
    """
    _within("exo", "epsilon", epsilon, 0.0, 0.5, above=True)
    h, target = beta * margins(x), p * (1 - epsilon) + (1 - p) * epsilon
    ahead, behind = F.logsigmoid(h), F.logsigmoid(-h)
    return ahead.exp() * (ahead - target.log()) + behind.exp() * (behind - (1 - target).log())


@register(
    "loss",
    "cpl",
    help="contrast of advantages, no reference",
    source="Hejna et al. 2023",
    beta=0.1,
    reference=False,
)
@reference_free
def cpl(x: PairLogps, p: Pairs, beta: float, *, bias: float = 0.5) -> Pairs:
    """−log σ(β·(log π(y_w) − λ·log π(y_l))) with λ = `bias` (Hejna et al. 2023), discount 1.

    Log-probs stand for advantages of the maximum-entropy optimum, β for the paper's α. λ < 1 makes
    likely segments cheaper, so that mass stays on the data; with λ = 1 it is CPO without its likelihood term.
    """
    _within("cpl", "bias", bias, 0.0, 1.0, above=True)
    right = F.logsigmoid(beta * (x.chosen - bias * x.rejected))
    wrong = F.logsigmoid(beta * (x.rejected - bias * x.chosen))
    return -p * right - (1 - p) * wrong


@register(
    "loss", "preferred_ft", help="fine-tuning on what was preferred, a baseline", reference=False
)
@reference_free
def preferred_ft(x: PairLogps, p: Pairs, beta: float) -> Pairs:
    """−log π(y_w): fine-tuning on what was preferred, the honest baseline. β is not used but in metrics."""
    return -p * x.chosen - (1 - p) * x.rejected


@register(
    "loss",
    "unlikelihood",
    help="likewise, and away from the rejected, a baseline",
    source="Rafailov et al. 2023, §6",
    reference=False,
)
@reference_free
def unlikelihood(x: PairLogps, p: Pairs, beta: float, *, alpha: float = 0.5) -> Pairs:
    """−(log π(y_w) − α·log π(y_l)), the unlikelihood baseline of the DPO paper; it has no lower bound.

    β is not used but in metrics.
    """
    return -p * (x.chosen - alpha * x.rejected) - (1 - p) * (x.rejected - alpha * x.chosen)


def _within(
    loss: str, name: str, value: float, least: float, most: float, *, above: bool = False
) -> None:
    """`least` ≤ value < `most`; with `above` `least` < value ≤ `most`."""
    if not (least < value <= most if above else least <= value < most):
        limits = (
            f"above {least:g}, at most {most:g}" if above else f"{least:g} or more, below {most:g}"
        )
        raise UserError(f"--loss-options {name}={value:g}: {loss} needs {name} {limits}")
