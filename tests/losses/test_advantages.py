"""GAE, rewards and whitening against hand-worked tables."""

import torch

from heedful.losses.advantages import (
    best_of_group,
    gae,
    group_centred,
    group_standardised,
    leave_one_out,
    n_step,
    rewards_to_go,
    token_rewards,
    whiten,
)
from heedful.losses.kl import k1


def t(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_gae_hand_worked():
    """γ=1, λ=½, two response tokens after one prompt token.

    δ1 = 2 + 0 − 0.5 = 1.5, A1 = 1.5; δ0 = 1 + 0.5 − 0.25 = 1.25, A0 = 1.25 + ½·1.5 = 2.
    """
    mask = torch.tensor([[False, True, True]])
    adv = gae(t([9, 1, 2]), t([9, 0.25, 0.5]), mask, torch.zeros(1), gamma=1.0, lam=0.5)
    assert torch.allclose(adv, t([0, 2.0, 1.5]))


def test_gae_skips_tool_tokens():
    """Mutation caught: taking t+1 as the successor although the policy did not write it."""
    rewards, values = t([1, 7, 2]), t([0.25, 99, 0.5])
    mask = torch.tensor([[True, False, True]])
    skipped = gae(rewards, values, mask, torch.zeros(1), lam=0.5)
    dense = gae(
        t([1, 2]), t([0.25, 0.5]), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1), lam=0.5
    )
    assert torch.allclose(skipped[:, [0, 2]], dense)
    assert skipped[0, 1] == 0


def test_gae_bootstraps_only_where_cut():
    """Mutation caught: V = 0 after a response that was cut (or V ≠ 0 after one that ended)."""
    rewards, values = t([0.0, 0.0], [0.0, 0.0]), t([0.5, 0.5], [0.5, 0.5])
    mask = torch.ones(2, 2, dtype=torch.bool)
    adv = gae(rewards, values, mask, torch.tensor([0.0, 0.8]), lam=1.0)
    assert torch.allclose(adv, t([-0.5, -0.5], [0.3, 0.3]))


def test_gae_ignores_padding_values():
    mask = torch.tensor([[True, True, False]])
    a = gae(t([1, 2, 0]), t([0.1, 0.2, 0]), mask, torch.zeros(1))
    b = gae(t([1, 2, 50]), t([0.1, 0.2, -70]), mask, torch.zeros(1))
    assert torch.equal(a, b)


def test_score_is_added_once_at_the_last_masked_token():
    """Mutation caught: the score at `[:, -1]`, i.e. on padding, or added to every token."""
    mask = torch.tensor([[False, True, True, False], [True, False, True, True]])
    zero = torch.zeros(2, 4)
    rewards = token_rewards(zero, mask, torch.tensor([3.0, 5.0]), beta=0.1)
    assert torch.equal(rewards, t([0, 0, 3, 0], [0, 0, 0, 5]))


def test_kl_penalty_is_k1_unclamped():
    """Mutation caught: clamping negative k1 at 0, which biases the KL that is charged."""
    mask = torch.ones(1, 3, dtype=torch.bool)
    logp, ref = t([-1, -2, -3]), t([-2, -1, -3])
    rewards = token_rewards(k1(logp, ref), mask, torch.tensor([0.0]), beta=0.5)
    assert torch.allclose(rewards, t([-0.5, 0.5, 0.0]))


def test_row_without_policy_tokens_gets_no_score():
    mask = torch.zeros(1, 3, dtype=torch.bool)
    assert token_rewards(t([0, 0, 0]), mask, torch.tensor([9.0]), 0.1).abs().sum() == 0


def test_whitening_is_masked_and_can_keep_the_mean():
    """Mutation caught: moments over padding; a mean shift of rewards, which changes their sign."""
    x = t([1.0, 3.0, 100.0])
    mask = torch.tensor([[True, True, False]])
    white = whiten(x, mask)
    assert torch.allclose(white, t([-1.0, 1.0, 0.0]), atol=1e-4)
    kept = whiten(x, mask, shift_mean=False)
    assert torch.allclose(kept, t([1.0, 3.0, 0.0]), atol=1e-4)


def test_rewards_to_go_and_n_step():
    """n = 1 is r + γV' − V, n beyond the end the whole return; tool tokens are skipped.

    Mutation caught: the value of the token itself as bootstrap, or a horizon that counts tool tokens.
    """
    mask = torch.tensor([[True, False, True, True]])
    rewards, values = t([1, 9, 2, 4]), t([0.5, 9, 0.25, 1.0])
    assert torch.equal(rewards_to_go(rewards * mask, mask, gamma=0.5), t([3, 0, 4, 4]))
    cut = torch.tensor([8.0])
    one = n_step(rewards, values, mask, cut, 1, gamma=0.5)
    assert torch.equal(one, t([1 + 0.125 - 0.5, 0, 2 + 0.5 - 0.25, 4 + 4 - 1]))
    assert torch.equal(one, gae(rewards * mask, values, mask, cut, gamma=0.5, lam=0.0))
    whole = n_step(rewards, values, mask, cut, 99, gamma=0.5)
    assert torch.allclose(whole, gae(rewards * mask, values, mask, cut, gamma=0.5, lam=1.0))
    two = n_step(rewards, values, mask, cut, 2, gamma=0.5)
    assert torch.allclose(two[0, 0], torch.tensor(1 + 0.5 * 2 + 0.25 * 1 - 0.5))


def test_group_baselines_hand_worked():
    """Groups of three and two, interleaved. Mutation caught: the own score in the baseline; neighbours for groups."""
    score = torch.tensor([1.0, 10.0, 2.0, 30.0, 6.0])
    group = torch.tensor([0, 1, 0, 1, 0])
    others = torch.tensor([1 - 4.0, 10 - 30, 2 - 3.5, 30 - 10, 6 - 1.5])
    assert torch.allclose(leave_one_out(score, group), others)
    centred = torch.tensor([-2.0, -10, -1, 10, 3])
    assert torch.allclose(group_centred(score, group), centred)
    sizes = torch.tensor([3.0, 2, 3, 2, 3])
    assert torch.allclose(group_centred(score, group), (1 - 1 / sizes) * others)
    std = torch.tensor([7.0**0.5, 200**0.5, 7**0.5, 200**0.5, 7**0.5])
    assert torch.allclose(group_standardised(score, group), centred / (std + 1e-4))
    equal = torch.full((5,), 0.1)
    assert group_standardised(equal, group).abs().max() < 1e-3
    assert torch.equal(best_of_group(score, group), torch.tensor([0.0, 0, 0, 1, 1]))
    assert best_of_group(equal, group).tolist() == [1, 1, 0, 0, 0]
    assert leave_one_out(torch.tensor([3.0]), torch.tensor([0])).tolist() == [3.0]
