"""Several turns: rewards at each run's last token, advantages over runs of the mask, scores of whole episodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from heedful.configs.algorithm import algorithm
from heedful.data.collate import collate, take
from heedful.losses.advantages import (
    by_episode,
    by_turn,
    gae,
    group_centred,
    leave_one_out,
    rewards_to_go,
    turn_returns,
)
from heedful.training.estimates import estimate
from heedful.types import Sample, Step


def two_turns(rewards=(0.5, 2.0), **options) -> Sample:
    """`_ a a _ _ b b`: turns of two tokens."""
    mask = (False, True, True, False, False, True, True)
    steps = (Step(1, 3, rewards[0]), Step(5, 7, rewards[1]))
    return Sample((9,) * 7, mask, (0.0,) * 7, 1.0, 0, steps=steps, **options)


def test_rewards_fall_on_the_last_token_of_their_turn():
    """Column t is about predicting token t+1. Mutation caught: one column off; the end's reward among the turns'."""
    short = Sample((9, 9), (False, True), (0.0, 0.0), 7.0, 1)
    batch = collate([two_turns(), short])
    assert batch.step_rewards.tolist() == [[0, 0.5, 0, 0, 0, 2.0][:6], [0.0] * 6]
    assert ((batch.step_rewards != 0) <= batch.mask).all()
    assert batch.reward.tolist() == [1.0, 7.0]
    assert take(batch, torch.tensor([1])).step_rewards.shape == (1, 1)


def test_gae_skips_what_the_policy_did_not_write():
    """By hand, γ = ½ and λ = 1: γ counts the policy's own tokens, not those it heard between two turns. Mutation
    caught: discounting through an observation; a turn's reward that stays within its turn."""
    batch = collate([two_turns((4.0, 16.0))])
    rewards, mask = batch.step_rewards, batch.mask
    values = (
        torch.full_like(rewards, 100.0) * ~mask
    )  # what stands in other columns is of no concern
    found = gae(rewards, values, mask, torch.zeros(1), gamma=0.5, lam=1.0)
    # Rewards of the four own tokens: 0, 4, 0, 16.
    assert found[mask].tolist() == [0.5 * (4 + 0.5 * 8), 4 + 0.5 * 8, 8.0, 16.0]
    assert not found[~mask].any()
    cut = gae(rewards, values, mask, torch.tensor([32.0]), gamma=0.5, lam=1.0)
    assert (cut - found)[mask].tolist() == [2.0, 4.0, 8.0, 16.0]


def test_credit_by_turns():
    """All tokens of a turn get the same. Mutation caught: rewards of earlier turns; γ counted in tokens."""
    batch = collate([two_turns((4.0, 16.0)), two_turns((1.0, 0.0))])
    found = turn_returns(batch.step_rewards, batch.mask, gamma=0.5)
    assert found[0][batch.mask[0]].tolist() == [12.0, 12.0, 16.0, 16.0]
    assert found[1][batch.mask[1]].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert not found[~batch.mask].any()
    whole = rewards_to_go(batch.step_rewards, batch.mask)
    assert torch.equal(turn_returns(batch.step_rewards, batch.mask)[:, [0, 4]], whole[:, [0, 4]])


def test_turns_are_compared_with_turns():
    """By hand: the first turns of a group with the first, the second with the second, by what comes from them on; who
    has ended is not among them. Mutation caught: whole episodes compared; an ended episode as one of 0."""
    one = Sample((9, 9, 9), (False, True, True), (0.0,) * 3, 0.0, 0, steps=(Step(1, 3, 6.0),))
    batch = collate([two_turns((4.0, 16.0)), two_turns((1.0, 2.0)), one])
    found = by_turn(group_centred, batch.step_rewards, batch.mask, batch.group)
    first, second = (20 - 29 / 3, 3 - 29 / 3, 6 - 29 / 3), (16 - 9, 2 - 9)
    for row, turns in zip(found, ((first[0], second[0]), (first[1], second[1])), strict=False):
        assert row[[0, 1, 4, 5]].tolist() == pytest.approx([turns[0]] * 2 + [turns[1]] * 2)
    assert found[2][batch.mask[2]].tolist() == pytest.approx([first[2]] * 2)
    assert not found[~batch.mask].any()


@pytest.mark.parametrize(
    "method, credit, wanted",
    [
        ("reinforce_pp", "token", [6.0, 6.0, 2.0, 2.0]),
        ("reinforce_pp", "turn", [6.0, 6.0, 2.0, 2.0]),
        ("reinforce_pp", "episode", [6.0, 6.0, 6.0, 6.0]),
        ("ppo", "token", [6.0, 6.0, 2.0, 2.0]),
        ("ppo", "episode", [6.0, 6.0, 6.0, 6.0]),
    ],
)
def test_credit_says_where_rewards_fall(method, credit, wanted):
    """Of rewards 4 and 2 in two turns. Mutation caught: a reward counted twice, or lost, when it moves to the end."""
    a = algorithm(
        method,
        credit=credit,
        kl="none",
        whiten_advantages=False,
        **({"lam": 1.0} if method == "ppo" else {}),
    )
    batch = collate([replace(two_turns((4.0, 2.0)), reward=0.0)])
    zero = torch.zeros_like(batch.old_logp)
    scored = estimate(a, batch, zero, torch.zeros(batch.tokens.shape), 0.0, 8)
    assert scored.adv[batch.mask].tolist() == wanted


def test_branches_share_the_score_of_their_episode():
    """Three episodes of a group, the second of two branches. Mutation caught: a branch counted as an episode of its
    own, which gives its siblings another baseline; scores given to the wrong rows."""
    score, group = torch.tensor([1.0, 2.0, 4.0, 3.0]), torch.tensor([0, 0, 0, 0])
    episode = torch.tensor([5, 9, 9, 7])
    found = by_episode(leave_one_out, score, group, episode)
    others = leave_one_out(torch.tensor([1.0, 6.0, 3.0]), torch.zeros(3, dtype=torch.long))
    assert torch.equal(found, others[[0, 1, 1, 2]])
    alone = torch.arange(4)
    assert torch.equal(by_episode(leave_one_out, score, group, alone), leave_one_out(score, group))
    two = by_episode(leave_one_out, score, torch.tensor([3, 3, 3, 8]), episode)
    assert two.tolist() == [-5.0, 5.0, 5.0, 3.0]
