"""DPO's value and gradient: hand-worked, as at step 0, and against TRL's own code."""

import math

import pytest
import torch

from heedful.losses.preference import dpo, margins, preferred_ft, unlikelihood
from heedful.types import PairLogps


def pairs(chosen, rejected, ref_chosen, ref_rejected) -> PairLogps:
    b = [
        torch.as_tensor(x, dtype=torch.float32)
        for x in (chosen, rejected, ref_chosen, ref_rejected)
    ]
    lengths = torch.full((len(b[0]),), 3)
    return PairLogps(*b, chosen_lengths=lengths, rejected_lengths=lengths)


def test_dpo_is_ln_2_where_policy_and_reference_agree():
    x = pairs([-3.0, -9.0], [-5.0, -1.0], [-3.0, -9.0], [-5.0, -1.0])
    assert torch.allclose(dpo(x, torch.ones(2), 0.1), torch.full((2,), math.log(2)))


def test_dpo_hand_worked():
    """h = (−2+3) − (−6+5) = 2, β = ½: −log σ(1). A tie is the mean of both orders."""
    x = pairs([-2.0], [-6.0], [-3.0], [-5.0])
    assert margins(x).item() == 2.0
    assert dpo(x, torch.ones(1), 0.5).item() == pytest.approx(math.log1p(math.exp(-1)))
    both = 0.5 * (math.log1p(math.exp(-1)) + math.log1p(math.exp(1)))
    assert dpo(x, torch.tensor([0.5]), 0.5).item() == pytest.approx(both)


def test_dpo_gradient_weight_is_the_implicit_error():
    """∇ = −β σ(r̂_l − r̂_w) on log π(y_w) (paper, section 4). Mutation caught: means in place of sums."""
    chosen = torch.tensor([-2.0], requires_grad=True)
    x = PairLogps(
        chosen,
        torch.tensor([-6.0]),
        torch.tensor([-3.0]),
        torch.tensor([-5.0]),
        torch.tensor([3]),
        torch.tensor([3]),
    )
    dpo(x, torch.ones(1), 0.5).sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.5 / (1 + math.exp(1.0)), rel=1e-5)


def test_baselines():
    x = pairs([-2.0], [-6.0], [-3.0], [-5.0])
    assert preferred_ft(x, torch.ones(1), 0.1).item() == 2.0
    assert unlikelihood(x, torch.ones(1), 0.1, alpha=0.5).item() == pytest.approx(2.0 - 3.0)
