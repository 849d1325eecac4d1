"""The enumerable world is exact: its sums are one, its optimum is the optimum, its gradients agree."""

from __future__ import annotations

import pytest
import torch

from heedful.worlds import enumerable as world

BETA = 0.7


def log_policy(seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(world.N, generator=draw, dtype=torch.float64).log_softmax(-1)


def test_responses_are_all_different_and_index_finds_them():
    y = world.responses()
    assert y.shape == (4096, 4)
    assert torch.equal(world.index(y), torch.arange(4096))
    assert world.index(torch.tensor([[7, 0, 0, 1]])).tolist() == [7 * 512 + 1]


def test_rewards_are_standardised_and_differ_by_seed():
    r = world.rewards(3)
    assert r.mean().item() == pytest.approx(0, abs=1e-12)
    assert r.std(correction=0).item() == pytest.approx(1)
    assert torch.equal(r, world.rewards(3))
    assert not torch.equal(r, world.rewards(4))


def test_rewards_are_no_sum_over_places():
    """A reward that credit per token alone explains would make token-level mistakes invisible."""
    y = torch.nn.functional.one_hot(world.responses(), world.V).flatten(1).double()
    r = world.rewards(0)
    left = r - y @ torch.linalg.lstsq(y, r, driver="gelsd").solution
    assert 0.2 < left.var().item() < 0.8


def test_log_probs_are_a_distribution_and_the_chain_rule():
    model = world.tiny_model(0)
    logp = world.log_probs(model, 5)
    assert logp.exp().sum().item() == pytest.approx(1, abs=1e-12)
    for i in (0, 1234, 4095):
        tokens = [5, *world.responses()[i].tolist()]
        by_hand = 0.0
        for t in range(1, 5):
            logits = model(input_ids=torch.tensor([tokens[:t]])).logits[0, -1]
            by_hand += logits.double().log_softmax(-1)[tokens[t]].item()
        assert logp[i].item() == pytest.approx(by_hand, abs=1e-5)


def test_log_probs_in_batches_are_the_same_and_differentiable():
    model = world.tiny_model(1)
    logp = world.log_probs(model, 2)
    assert torch.allclose(logp, world.log_probs(model, 2, batch=100), atol=1e-5)
    # Σ π ∇ log π = 0 for every weight.
    (logp.exp().detach() * logp).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() < 1e-5 for p in model.parameters())


def test_log_probs_refuse_other_vocabularies_and_prompts():
    with pytest.raises(ValueError, match="8 tokens"):
        world.log_probs(world.tiny_model(0), 8)


def test_tiny_model_is_not_uniform_and_leaves_the_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    model = world.tiny_model(0)
    assert torch.equal(torch.rand(3), expected)
    logp = world.log_probs(model, 0).detach()
    uniform = torch.full_like(logp, 1 / world.N).log()
    assert 0.3 < world.kl(logp, uniform).item() < 4
    assert not torch.equal(logp, world.log_probs(world.tiny_model(1), 0))


def test_the_optimum_is_a_distribution_with_value_beta_log_z():
    ref, r = log_policy(0), world.rewards(0)
    best = world.optimal(ref, r, BETA)
    assert best.exp().sum().item() == pytest.approx(1)
    z = (ref.exp() * (r / BETA).exp()).sum()
    assert world.partition(ref, r, BETA).item() == pytest.approx(z.log().item())
    assert world.objective(best, ref, r, BETA).item() == pytest.approx(BETA * z.log().item())


def test_every_policy_falls_short_of_the_optimum_by_beta_times_its_kl():
    ref, r = log_policy(0), world.rewards(0)
    best = world.optimal(ref, r, BETA)
    for seed in range(1, 8):
        for size in (1e-3, 0.1, 3.0):
            other = (best + size * log_policy(seed)).log_softmax(-1)
            gap = world.objective(best, ref, r, BETA) - world.objective(other, ref, r, BETA)
            assert gap.item() > 0
            assert gap.item() == pytest.approx(BETA * world.kl(other, best).item(), rel=1e-6)


def test_the_gradient_vanishes_at_the_optimum_only():
    ref, r = log_policy(0), world.rewards(0)
    steepness = []
    for start in (world.optimal(ref, r, BETA), ref):
        logits = start.clone().requires_grad_()
        world.objective(logits.log_softmax(-1), ref, r, BETA).backward()
        assert logits.grad is not None
        steepness.append(logits.grad.norm().item())
    assert steepness[0] < 1e-12 < 1e-3 < steepness[1]


def test_kl_and_total_variation_of_hand_worked_policies():
    half, skew = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    assert world.total_variation(half, skew).item() == pytest.approx(0.25)
    assert world.kl(half, skew).item() == pytest.approx(0.14384104)
    assert world.kl(half, half).item() == 0


def test_small_beta_takes_the_best_response_and_large_beta_stays():
    ref, r = log_policy(0), world.rewards(0)
    greedy = world.optimal(ref, r, 1e-3)
    assert greedy.argmax() == r.argmax()
    assert greedy.max().exp().item() == pytest.approx(1)
    assert world.total_variation(world.optimal(ref, r, 1e4), ref).item() < 1e-3
