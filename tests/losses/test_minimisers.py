"""What each loss is minimised by, over a softmax on a few responses and exact expectations over all pairs.

Six responses, float64, L-BFGS on the logits: no sampling, no model. π* ∝ π_ref·e^{r/β} and P(i ≻ j) =
σ(r_i − r_j) unless a test says otherwise. All responses have length 1, so that means are sums.
"""

import itertools
import math

import pytest
import torch

from heedful.losses import preference as L
from heedful.losses.ranking import plackett_luce_dpo
from heedful.losses.unpaired import apo_zero_unpaired, bco, kto
from heedful.types import LabelledLogps, PairLogps, RankedLogps

K, BETA = 6, 0.7
REF = torch.tensor([0.3, 0.05, 0.2, 0.1, 0.25, 0.1], dtype=torch.float64).log()
R = torch.tensor([0.4, 1.1, -0.3, -1.2, 0.9, 0.1], dtype=torch.float64)
FIRST, SECOND = map(torch.tensor, zip(*itertools.permutations(range(K), 2), strict=True))
BT = torch.sigmoid(R[FIRST] - R[SECOND])  # that the first of an ordered pair is the better one
ONE = torch.ones(len(FIRST), dtype=torch.float64)


def best(ref=REF, r=R, beta=BETA):
    return torch.log_softmax(ref + r / beta, 0)


def minimise(loss_of, start=REF) -> torch.Tensor:
    """log π at the minimum of `loss_of(log π)`, a number."""
    logits = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimiser.zero_grad()
        loss = loss_of(torch.log_softmax(logits, 0))
        loss.backward()
        return loss

    optimiser.step(closure)
    return torch.log_softmax(logits.detach(), 0)


def pairs_of(logp: torch.Tensor, ref: torch.Tensor = REF) -> PairLogps:
    """All ordered pairs, the first as `chosen`."""
    one = torch.ones(len(FIRST), dtype=torch.long)
    return PairLogps(logp[FIRST], logp[SECOND], ref[FIRST], ref[SECOND], one, one)


def expected(loss, p=BT, beta=BETA, **options):
    """The population's loss: every ordered pair comes with hard labels, the first winning with chance p."""

    def value(logp):
        return (p * loss(pairs_of(logp), ONE, beta, **options)).sum()

    return value


def close(found, wanted, tolerance=1e-5):
    assert (found.exp() - wanted.exp()).abs().max() < tolerance


def test_dpo():
    """π*, by hard labels and by soft ones. Mutation caught: β misplaced, the reference on one side only."""
    close(minimise(expected(L.dpo)), best())
    close(minimise(lambda logp: L.dpo(pairs_of(logp), BT, BETA).sum()), best())
    assert (best().exp() - REF.exp()).abs().max() > 0.1  # which is not where it starts


def test_robust_under_label_noise_is_dpo_without():
    """Labels flipped with chance ε = 0.2: robust DPO still finds π*, plain DPO does not.

    Mutation caught: ε on the wrong term, the divisor.
    """
    epsilon = 0.2
    noisy = BT * (1 - epsilon) + (1 - BT) * epsilon
    close(minimise(expected(L.robust, noisy, epsilon=epsilon)), best())
    assert (minimise(expected(L.dpo, noisy)).exp() - best().exp()).abs().max() > 0.02


def two(loss, p: float, beta=BETA, **options) -> float:
    """The log-odds of response 0 against 1, above the reference's, where 0 wins with chance p."""
    ref = torch.tensor([0.35, 0.65], dtype=torch.float64).log()

    def value(logp):
        one = torch.ones(1, dtype=torch.long)
        a, b = (PairLogps(logp[i:i + 1], logp[1 - i:2 - i], ref[i:i + 1], ref[1 - i:2 - i], one, one)
                for i in (0, 1))  # fmt: skip
        sure = torch.ones(1, dtype=torch.float64)
        return (p * loss(a, sure, beta, **options) + (1 - p) * loss(b, sure, beta, **options)).sum()

    found = minimise(value, ref)
    return float(found[0] - found[1] - (0 if hasattr(loss, "reference_free") else ref[0] - ref[1]))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_cdpo_aims_at_the_smoothed_label():
    """βh = logit(p(1−ε) + (1−p)ε): label smoothing asks for less, and the same for certain labels as for noise."""
    p, epsilon = 0.8, 0.1
    smoothed = torch.tensor([1 - epsilon], dtype=torch.float64)
    found = two(lambda x, _, beta: L.dpo(x, smoothed, beta), p)
    assert BETA * found == pytest.approx(logit(p * (1 - epsilon) + (1 - p) * epsilon), abs=1e-6)


def test_ipo_regresses_on_preferences_without_bradley_terry():
    """π ∝ π_ref·exp(E_{y'}[P(y ≻ y')]/β), the mean over all responses: the paper's π* with Ψ = identity.

    With preferences that no reward explains (random, intransitive). Mutation caught: target 1/β, h squared
    without its sign, one order of each pair only.
    """
    g = torch.Generator().manual_seed(0)
    table = torch.rand(K, K, generator=g, dtype=torch.float64).triu(1)
    table = table + (1 - table.T).tril(-1) + 0.5 * torch.eye(K, dtype=torch.float64)
    found = minimise(expected(L.ipo, table[FIRST, SECOND]))
    close(found, torch.log_softmax(REF + table.mean(1) / BETA, 0))
    assert two(L.ipo, 0.8) == pytest.approx((0.8 - 0.5) / BETA, abs=1e-6)


def test_exo_with_soft_targets_and_with_hard_labels():
    """p as the target: π*, whatever the direction of the KL. Hard labels: the geometric mean of the two targets.

    βh = (2p − 1)·log((1−ε)/ε), far from logit p: the reverse KL needs labels that say how sure they are.
    Mutation caught: KL the other way (then hard labels would give the smoothed logit).
    """
    close(minimise(lambda logp: L.exo(pairs_of(logp), BT, BETA, epsilon=1e-9).sum()), best())
    h = two(L.exo, 0.7, epsilon=0.1)
    assert BETA * h == pytest.approx(0.4 * math.log(9), abs=1e-6)


@pytest.mark.parametrize("k", [3, 4])
def test_plackett_luce_dpo(k):
    """All rankings of k of the responses with their exact Plackett–Luce chances: π* again.

    Mutation caught: the risk set without the winner, β outside of the sum.
    """
    groups = torch.tensor(list(itertools.permutations(range(K), k)))
    after = [torch.logsumexp(R[groups[:, i:]], 1) for i in range(k)]
    chance = sum(R[groups[:, i]] - after[i] for i in range(k)).exp()
    rank = torch.arange(1, k + 1).expand(len(groups), k)

    def value(logp):
        x = RankedLogps(logp[groups], REF[groups], torch.ones_like(rank), rank)
        return (chance * plackett_luce_dpo(x, BETA)).sum()

    close(minimise(value), best())


def test_plackett_luce_dpo_with_ties_draws_them_together():
    """1 ≻ {2, 3} with 2 and 3 tied, and the mirror image: the tied ones end equal against the reference."""
    ref, rank = REF[:3], torch.tensor([[1, 2, 2], [2, 1, 1]])

    def value(logp):
        x = RankedLogps(logp.expand(2, 3), ref.expand(2, 3), torch.ones_like(rank), rank)
        return (torch.tensor([0.7, 0.3]) * plackett_luce_dpo(x, BETA)).sum()

    found = minimise(value, torch.log_softmax(ref, 0)) - ref
    assert found[1] == pytest.approx(found[2].item(), abs=1e-5)
    assert found[0] > found[1] + 0.1


@pytest.mark.parametrize("loss", [L.slic, L.rso])
def test_hinges_want_the_margin_and_no_more(loss):
    """E of the hinge is least at βh = ±1, whichever response wins more often: it classifies, it does not calibrate."""
    assert BETA * two(loss, 0.7) == pytest.approx(1.0, abs=1e-3)
    assert BETA * two(loss, 0.45) == pytest.approx(-1.0, abs=1e-3)


def test_simpo_target():
    """u = e^{βh} solves p(1 + e^{−γ}/u) = (1−p)(1 + u·e^{−γ}); with γ = 0 it is logit p, without any reference.

    Mutation caught: γ scaled by β, its sign, a reference.
    """
    p, gamma = 0.7, 0.5
    shrunk = math.exp(-gamma)
    root = math.sqrt((2 * p - 1) ** 2 + 4 * p * (1 - p) * shrunk**2)
    u = (2 * p - 1 + root) / (2 * (1 - p) * shrunk)
    assert BETA * two(L.simpo, p, gamma=gamma) == pytest.approx(math.log(u), abs=1e-6)
    assert BETA * two(L.simpo, p, gamma=0.0) == pytest.approx(logit(p), abs=1e-6)


def test_orpo_target():
    """Two responses, π(y_0) = q: −p/q + (1−p)/(1−q) = 2λ(p·σ(−2z) − (1−p)·σ(2z))/(q(1−q)) with z = logit q.

    (Odds are e^{±z}, dz/dq = 1/(q(1−q)).) Without the odds term it is q = p. Mutation caught: λ, a factor 2.
    """
    p, lam = 0.7, 0.5
    z = two(L.orpo, p, lam=lam)
    q = 1 / (1 + math.exp(-z))
    likelihood = -p / q + (1 - p) / (1 - q)
    odds = 2 * lam * (p / (1 + math.exp(2 * z)) - (1 - p) / (1 + math.exp(-2 * z))) / (q * (1 - q))
    assert likelihood == pytest.approx(odds, abs=1e-5)
    assert two(L.orpo, p, lam=0.0) == pytest.approx(logit(p), abs=1e-6)
    assert abs(z - logit(p)) > 0.05


@pytest.mark.parametrize("loss, options", [(L.cpl, {"bias": 1.0}), (L.cpo, {"alpha": 0.0})])
def test_cpl_and_cpo_find_the_maximum_entropy_policy(loss, options):
    """With λ = 1 and without the likelihood term: π ∝ e^{r/β}; the reference is not there."""
    close(minimise(expected(loss, **options)), torch.log_softmax(R / BETA, 0))


def test_cpl_with_bias_keeps_to_the_data():
    """Three of six responses are compared. λ < 1 leaves less mass on the others than λ = 1, for equal margins."""
    inside = (FIRST < 3) & (SECOND < 3)

    def value(bias):
        def of(logp):
            return (BT * L.cpl(pairs_of(logp), ONE, BETA, bias=bias))[inside].sum()

        return of

    off = {bias: minimise(value(bias))[3:].exp().sum().item() for bias in (1.0, 0.5)}
    assert off[0.5] < 0.01 < 0.3 < off[1.0]


def test_preferred_ft_copies_what_wins():
    """π(y) ∝ how often y wins; no reward, no reference. Unlikelihood: ∝ wins − α·losses while that is positive."""
    wins = torch.zeros(K, dtype=torch.float64).index_add(0, FIRST, BT)
    losses = torch.zeros(K, dtype=torch.float64).index_add(0, SECOND, BT)
    close(minimise(expected(L.preferred_ft)), (wins / wins.sum()).log())
    left = wins - 0.1 * losses
    assert left.min() > 0
    close(minimise(expected(L.unlikelihood, alpha=0.1)), (left / left.sum()).log())


# ── single responses ─────────────────────────────────────────────────────────────────────────────

LIKED = torch.sigmoid(R - 0.2)  # the chance that a response is liked when it is shown


def thumbs(logp) -> LabelledLogps:
    """Every response twice: liked, and not."""
    both = torch.arange(K).repeat(2)
    liked = torch.tensor([True] * K + [False] * K)
    return LabelledLogps(logp[both], REF[both], torch.ones(2 * K, dtype=torch.long), liked)


WEIGHT = torch.cat([LIKED, 1 - LIKED])


def test_bco():
    """βr = δ + logit P(liked): with P(liked) = σ(r* − c) and δ = c − β·log Z, where this is a policy, it is π*.

    Mutation caught: δ scaled by β, added instead of subtracted, labels exchanged.
    """
    z = torch.logsumexp(REF + R / BETA, 0)
    delta = torch.full((2 * K,), float(0.2 - BETA * z), dtype=torch.float64)
    found = minimise(lambda logp: (WEIGHT * bco(thumbs(logp), BETA, delta=delta)).sum())
    close(found, best())


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired", "apo_zero"])
def test_prospects_go_all_the_way(loss):
    """λ_D·W·σ(−u) + λ_U·L·σ(u) is linear in σ(u): no finite optimum, and the larger side takes all.

    So KTO and APO-zero separate what is liked more often than not from the rest, and do not calibrate: near the
    infimum Σ min(W, L), disliked responses have lost nearly all their mass. Mutation caught: a sign, the weights.
    """
    zero = torch.zeros(2 * K, dtype=torch.float64)

    def value(logp):
        x = thumbs(logp)
        if loss == "kto":
            return (
                WEIGHT * kto(x, 8.0, kl=zero, desirable_weight=1.0, undesirable_weight=1.0)
            ).sum()
        if loss == "apo_zero_unpaired":
            return (WEIGHT * apo_zero_unpaired(x, 8.0)).sum()
        return (BT * L.apo_zero(pairs_of(logp), ONE, 8.0)).sum()

    wins = torch.zeros(K, dtype=torch.float64).index_add(0, FIRST, BT)
    lost = torch.zeros(K, dtype=torch.float64).index_add(0, SECOND, BT)
    good, bad = (LIKED, 1 - LIKED) if loss != "apo_zero" else (wins, lost)
    found = minimise(value)
    ratio = found - REF
    assert (ratio[good < bad] < -0.5).all()
    assert (ratio[good > bad] > 0.0).all()
    assert value(found) < value(REF)
    assert value(found) > torch.minimum(good, bad).sum()


def test_kto_weights_move_the_threshold():
    """λ_D·W against λ_U·L decides: with λ_D = 3 a response that is liked in 30 of 100 cases rises."""
    x = LabelledLogps(
        torch.zeros(2, dtype=torch.float64, requires_grad=True), torch.zeros(2, dtype=torch.float64),
        torch.ones(2, dtype=torch.long), torch.tensor([True, False]),
    )  # fmt: skip
    zero = torch.zeros(2, dtype=torch.float64)
    loss = kto(x, 0.5, kl=zero, desirable_weight=3.0, undesirable_weight=1.0)
    grad = torch.autograd.grad((torch.tensor([0.3, 0.7]) * loss).sum(), x.logp)[0].sum()
    assert grad.item() == pytest.approx(0.5 * 0.25 * (0.7 - 0.9))
