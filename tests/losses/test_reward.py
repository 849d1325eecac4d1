"""Bradley–Terry and Plackett–Luce against hand-worked tables and identities."""

import itertools
import math

import pytest
import torch

from heedful.losses.reward import (
    accuracy,
    best_and_last,
    bradley_terry,
    categorical,
    davidson,
    mean_variance,
    plackett_luce,
    rao_kupper,
    soft_bradley_terry,
    tie_share,
)

pytestmark = pytest.mark.arithmetic

NO_MARGIN = torch.zeros(1)


def test_bradley_terry_hand_worked():
    """−log σ(2) for scores 3 and 1; −log σ(2 − ½) with a margin of ½ (mutation caught: margins silently ignored)."""
    scores, rank = torch.tensor([[3.0, 1.0]]), torch.tensor([[1, 2]])
    assert bradley_terry(scores, rank, NO_MARGIN).item() == pytest.approx(math.log1p(math.exp(-2)))
    with_margin = bradley_terry(scores, rank, torch.tensor([0.5])).item()
    assert with_margin == pytest.approx(math.log1p(math.exp(-1.5)))


def test_all_pairs_weigh_one_over_their_number():
    """Mutation caught: a prompt with K=4 counting six times a prompt with K=2."""
    scores, rank = torch.tensor([[2.0, 1.0, 0.0, -1.0]]), torch.tensor([[1, 2, 3, 4]])
    by_hand = [
        math.log1p(math.exp(-(scores[0, i] - scores[0, j]).item()))
        for i, j in itertools.combinations(range(4), 2)
    ]
    assert bradley_terry(scores, rank, NO_MARGIN).item() == pytest.approx(sum(by_hand) / 6)


@pytest.mark.parametrize("loss", [bradley_terry, plackett_luce])
def test_absent_responses_and_prompt_shifts_change_nothing(loss):
    """Mutation caught: padding of the K axis compared as if it were a response; rewards compared across prompts."""
    scores, rank = torch.tensor([[0.3, -0.2, 1.1]]), torch.tensor([[2, 3, 1]])
    padded = loss(torch.tensor([[0.3, -0.2, 1.1, 55.0]]), torch.tensor([[2, 3, 1, 0]]), NO_MARGIN)
    assert torch.allclose(loss(scores, rank, NO_MARGIN), padded)
    assert torch.allclose(loss(scores + 7, rank, NO_MARGIN), padded, atol=1e-5)


def test_plackett_luce_hand_worked_and_equal_to_bt_at_two():
    s = torch.tensor([[0.5, 1.5, -1.0]])
    e = s.exp()[0]
    by_hand = -math.log(e[1] / e.sum()) - math.log(e[0] / (e[0] + e[2]))
    assert plackett_luce(s, torch.tensor([[2, 1, 3]]), NO_MARGIN).item() == pytest.approx(by_hand)
    two, rank = torch.tensor([[0.2, 0.9]]), torch.tensor([[2, 1]])
    for margin in (0.0, 0.7):
        m = torch.tensor([margin])
        assert torch.allclose(plackett_luce(two, rank, m), bradley_terry(two, rank, m))


def test_plackett_luce_probabilities_of_all_orders_sum_to_one():
    s = torch.randn(1, 4)
    orders = torch.tensor(list(itertools.permutations([1, 2, 3, 4])))
    losses = plackett_luce(s.expand(24, 4), orders, torch.zeros(24))
    assert (-losses).exp().sum().item() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("loss", [bradley_terry, plackett_luce])
def test_a_tie_pulls_scores_together(loss):
    scores = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss(scores, torch.tensor([[1, 1]]), NO_MARGIN).sum().backward()
    assert scores.grad is not None
    assert scores.grad[0, 0] > 0 > scores.grad[0, 1]


def test_accuracy_counts_strict_pairs_and_half_for_equal_scores():
    right, pairs = accuracy(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1, 2, 2]]))
    assert (right.item(), pairs.item()) == (1.5, 2.0)


def test_what_is_in_no_order_is_only_worse():
    """Rank −1: the best of K is a softmax over all, and nothing moves the losers towards each other.

    Mutation caught: unordered responses taken for tied ones, which pushes the worse of them up; or for absent ones.
    """
    scores = torch.tensor([[0.5, 1.5, -1.0, 0.2]])
    best, two = torch.tensor([[-1, 1, -1, -1]]), torch.tensor([[2, 1, -1, -1]])
    soft = scores.log_softmax(1)[0]
    assert plackett_luce(scores, best, NO_MARGIN).item() == pytest.approx(-soft[1].item())
    rest = scores[0, [0, 2, 3]].log_softmax(0)[0]
    assert plackett_luce(scores, two, NO_MARGIN).item() == pytest.approx(-(soft[1] + rest).item())
    firsts = torch.tensor([[1 if i == k else -1 for i in range(4)] for k in range(4)])
    some = plackett_luce(scores.expand(4, 4), firsts, torch.zeros(4))
    assert (-some).exp().sum().item() == pytest.approx(1.0, rel=1e-5)
    by_hand = [math.log1p(math.exp((s - 1.5).item())) for s in scores[0, [0, 2, 3]]]
    assert bradley_terry(scores, best, NO_MARGIN).item() == pytest.approx(sum(by_hand) / 3)
    right, pairs = accuracy(scores, two)
    assert (right.item(), pairs.item()) == (5.0, 5.0)
    assert [int(k) for k in best_and_last(best)] == [1, 0]
    for loss in (plackett_luce, bradley_terry):
        padded = torch.cat([scores, torch.tensor([[9.0]])], 1), torch.tensor([[-1, 1, -1, -1, 0]])
        assert torch.allclose(loss(*padded, NO_MARGIN), loss(scores, best, NO_MARGIN))


PAIR = torch.tensor([[1, 2], [2, 1], [1, 1]])  # the first, the second, a tie


@pytest.mark.parametrize("loss", [davidson, rao_kupper])
def test_ties_are_an_outcome(loss):
    """Three chances that are one together, `ties` of a tie between equals, Bradley–Terry where there are none, and
    gradients of finite differences. Mutations caught: a tie counted twice, ν for √ν, θ for log θ."""
    for gap in (-2.0, 0.0, 0.7, 30.0):
        scores = torch.tensor([gap, 0.0], dtype=torch.float64).expand(3, 2)
        assert (-loss(scores, PAIR, 0.3)).exp().sum().item() == pytest.approx(1.0)
        strict = loss(scores[:2], PAIR[:2], 1e-9)
        no_margin = torch.zeros(2, dtype=torch.float64)
        torch.testing.assert_close(strict, bradley_terry(scores[:2], PAIR[:2], no_margin))
    equal = torch.zeros(1, 2, dtype=torch.float64)
    assert (-loss(equal, PAIR[2:], 0.3)).exp().item() == pytest.approx(0.3)
    scores = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    rank = torch.tensor([[1, 1, 2, 3], [2, 1, -1, -1], [1, 1, 1, 0]])
    assert torch.autograd.gradcheck(lambda s: loss(s, rank, 0.2), scores)


def test_ties_by_hand():
    """Scores log 4 and 0: Davidson with ν = 1 has Z = 4 + 1 + 2; Rao–Kupper with θ = 2 has 4/(4 + 2) and 1/(1 + 8)."""
    scores = torch.tensor([[math.log(4), 0.0]], dtype=torch.float64).expand(3, 2)
    chances = (-davidson(scores, PAIR, 1 / 3)).exp()  # ν = 1
    assert chances.tolist() == pytest.approx([4 / 7, 1 / 7, 2 / 7])
    chances = (-rao_kupper(scores, PAIR, 1 / 3)).exp()  # θ = 2
    assert chances.tolist() == pytest.approx([2 / 3, 1 / 9, 2 / 9])
    assert tie_share(PAIR) == pytest.approx(1 / 3)
    assert tie_share(torch.tensor([[1, 1, 2, 0]])) == pytest.approx(1 / 3)


def test_a_soft_label_is_a_probability():
    """The best difference is log p/(1 − p); strength 1 is Bradley–Terry, 0 a tie. Mutation caught: p for (1 + p)/2."""
    scores = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64, requires_grad=True)
    half = torch.tensor([0.5], dtype=torch.float64)  # p = 3/4
    (gradient,) = torch.autograd.grad(soft_bradley_terry(scores, PAIR[:1], half).sum(), scores)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for strength, rank in ((one, PAIR[:1]), (zero, PAIR[2:])):
        expected = bradley_terry(scores, rank, zero)
        torch.testing.assert_close(soft_bradley_terry(scores, PAIR[:1], strength), expected)


def test_categorical_is_the_chance_of_two_draws():
    """Against all pairs of grades added up; all alike costs log 2; a sure loser is finite and has a gradient; a tie is
    ½ of each order. Mutations caught: equal grades that count whole or not at all, grades from best to worst, log of a
    chance after it underflows, one response's grades for the other's."""
    logits = torch.tensor([[[0.3, -1.0, 2.0], [1.5, 0.2, -0.4]]], dtype=torch.float64)
    p, q = logits[0].softmax(-1)
    won = sum(
        (a > b) * p[a] * q[b] + (a == b) * p[a] * q[b] / 2 for a in range(3) for b in range(3)
    )
    assert torch.allclose(categorical(logits, torch.tensor([[1, 2]])), -won.log()[None])
    tie = categorical(logits, torch.tensor([[1, 1]]))
    assert torch.allclose(tie, -0.5 * (won.log() + (1 - won).log())[None])
    same = categorical(torch.zeros(1, 2, 5), torch.tensor([[2, 1]]))
    assert same.item() == pytest.approx(math.log(2))
    far = torch.tensor([[[500.0, 0.0], [0.0, 500.0]]], requires_grad=True)
    loss = categorical(far, torch.tensor([[1, 2]])).sum()
    (slope,) = torch.autograd.grad(loss, far)
    assert loss > 400 and torch.isfinite(slope).all() and slope[0, 0, 1] < 0


def test_mean_and_variance_by_hand():
    """Φ(1) for means 3 apart with variances 4 and 5; a tie ½ of each order; one 60 deviations apart is finite.
    Mutations caught: a logistic for Φ, a sum of deviations for that of variances, log of Φ after it underflows."""
    mean, log_std = torch.tensor([[3.0, 0.0]]), torch.tensor([[4.0, 5.0]]).log() / 2
    phi = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(1.0))
    won = mean_variance(mean, log_std, torch.tensor([[1, 2]]))
    assert torch.allclose(won, -phi.log()[None])
    tie = mean_variance(mean, log_std, torch.tensor([[1, 1]]))
    assert torch.allclose(tie, -0.5 * (phi.log() + (1 - phi).log())[None])
    far = mean_variance(60 * mean, log_std, torch.tensor([[2, 1]]))
    assert torch.isfinite(far).all() and far > 1000
