"""Best-of-n: its exact law and KL with ties, the estimate from samples, expected scores."""

import itertools
import math
import random

import pytest
import torch

from heedful.evals.best_of_n import bound, estimated_kl, exact_kl, log_policy, mean_kl, mean_score
from heedful.worlds import enumerable as world

# How many of three things are right, each with chance 5/6: four values, ties everywhere.
ATOMS = torch.tensor([1, 15, 75, 125], dtype=torch.float64) / 216
LEVELS = torch.arange(4.0)


def by_brute_force(p: torch.Tensor, rewards: torch.Tensor, n: int) -> torch.Tensor:
    """The chance of each response to be kept, over all draws of n responses; the first of the best is."""
    q = torch.zeros_like(p)
    for draw in itertools.product(range(len(p)), repeat=n):
        best = max(draw, key=lambda y: float(rewards[y]))
        q[best] += math.prod(float(p[y]) for y in draw)
    return q


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_law_and_kl_against_all_draws(n):
    """Six responses of unequal chance, three of them tied. Mutation caught: F(r)ⁿ of the wrong side, split ties."""
    p = torch.tensor([0.3, 0.05, 0.2, 0.25, 0.15, 0.05], dtype=torch.float64)
    rewards = torch.tensor([1.0, 2.0, 1.0, -1.0, 1.0, 0.0])
    q = by_brute_force(p, rewards, n)
    assert torch.allclose(log_policy(p.log(), rewards, n).exp(), q, atol=1e-12)
    brute = float((q * (q / p).log()).sum())
    assert exact_kl(p.log(), rewards, n) == pytest.approx(brute, abs=1e-12)
    assert exact_kl(p.log(), rewards, n) <= bound(n) + 1e-12


def test_continuous_and_four_atoms_at_16():
    """1.835 without ties, 0.55 with these four values (METHODS §3, trap 9). Mutation caught: the formula for all."""
    assert bound(16) == pytest.approx(1.835, abs=1e-3)
    many = torch.full((100_000,), 1e-5, dtype=torch.float64).log()
    assert exact_kl(many, torch.arange(100_000), 16) == pytest.approx(1.835, abs=1e-3)
    assert exact_kl(ATOMS.log(), LEVELS, 16) == pytest.approx(0.547, abs=1e-3)
    assert exact_kl(ATOMS.log(), torch.zeros(4), 16) == 0.0


def test_on_the_enumerable_world():
    """All 4096 responses: the law sums to 1, its reward is that of many draws, and the KL is the world's own.

    Mutation caught: digits lost where a response is rare, a reward that falls.
    """
    rewards = world.rewards(0)
    with torch.no_grad():
        ref = world.log_probs(world.tiny_model(0), 0)
    log_q = log_policy(ref, rewards, 16)
    assert float(log_q.logsumexp(0)) == pytest.approx(0.0, abs=1e-9)
    kl = exact_kl(ref, rewards, 16)
    assert kl == pytest.approx(float(world.kl(log_q, ref)), abs=1e-9)
    assert bound(16) - 0.05 < kl < bound(16)  # hardly a tie
    above = (rewards > 0).double()
    p = float(ref.exp() @ above)  # nearly always one of the 16 is above 0: KL ≈ −log p
    assert exact_kl(ref, above, 16) == pytest.approx(-math.log(p), abs=0.01)
    g = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(ref.exp(), 16 * 20_000, replacement=True, generator=g).view(-1, 16)
    kept = rewards[drawn].max(1).values
    error = float(kept.std()) / len(kept) ** 0.5
    assert float((log_q.exp() * rewards).sum()) == pytest.approx(float(kept.mean()), abs=4 * error)


def samples(p, n: int, prompts: int) -> list[list[float]]:
    draw = random.Random(0)
    return [draw.choices(range(len(p)), [float(x) for x in p], k=n) for _ in range(prompts)]


@pytest.mark.parametrize(
    "p", [ATOMS, torch.full((4,), 0.25), torch.full((10,), 0.1), torch.tensor([0.9, 0.1])]
)
def test_the_estimate_from_n_samples_is_near_the_truth(p):
    """400 prompts, no more samples than n. Mutation caught: the samples' own law, far too small where the best is rare
    (1.05 in place of 1.42 in the last row); the formula, 1.835 in each."""
    truth = exact_kl(p.double().log(), torch.arange(len(p)), 16)
    kl, (low, high) = mean_kl(samples(p, 16, 400), 16)
    assert kl == pytest.approx(truth, abs=0.08)
    assert low - 0.05 < truth < high + 0.05


def test_the_estimate_without_ties_is_the_formula():
    draw = random.Random(1)
    rewards = [[draw.random() for _ in range(16)] for _ in range(20)]
    assert mean_kl(rewards, 16)[0] == pytest.approx(bound(16), abs=0.02)
    assert mean_kl(rewards, 1) == (0.0, (0.0, 0.0))


def test_equal_rewards_up_to_the_noise_of_a_model_are_ties():
    """Mutation caught: float equality, which makes 16 times the same answer look like 16 levels."""
    draw = random.Random(2)
    assert estimated_kl([3.0 + 1e-6 * draw.random() for _ in range(16)], 16) == 0.0
    assert estimated_kl([3.0 + 1e-3 * i for i in range(16)], 16) > 1.5
    assert estimated_kl([1.0], 16) == 0.0


def test_mean_score_by_enumeration():
    rewards, scores = [0.0, 1.0, 1.0, 2.0], [5.0, 1.0, 3.0, -1.0]
    exact = 0.0
    for a, b in itertools.product(range(4), repeat=2):
        top = max(rewards[a], rewards[b])
        tied = [s for r, s in zip(rewards, scores, strict=True) if r == top]
        exact += sum(tied) / len(tied) / 16
    assert mean_score(rewards, scores, 2) == pytest.approx(exact)
