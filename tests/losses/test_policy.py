"""PPO's pieces against hand-worked tables: TRL has dropped PPO, so paper and arithmetic are the reference."""

import math

import pytest
import torch

from heedful.losses.kl import analytic, corrected, k1, k2, k3
from heedful.losses.policy import (
    clipped,
    effective_sample_size,
    explained_variance,
    gspo_clip,
    importance_weighted,
    policy_gradient,
    ppo_clip,
    value_clip,
)

pytestmark = pytest.mark.arithmetic


def test_a_ratio_beyond_float32_leaves_the_other_tokens_their_gradient():
    """Three tokens of one parameter: the first has become e¹⁰⁰ times as likely, or the reference finds it so. That is
    infinite in float32, and infinity times the zero of a clipped branch, of an advantage or of a mask is NaN.

    What is left has the sign it should have: a token that must not become likelier still is held back, as hard as
    float32 can bear, and one far below the reference is lifted. Mutation caught: exp of the log-ratio as it is, or
    clamped, so that nothing holds back.
    """
    old = torch.tensor([[-100.0, -2.0, -100.0]])
    mask = torch.tensor([[True, True, False]])
    fixed = torch.tensor([[0.0, -2.0, 0.0]])

    def gradient(loss_of) -> float:
        shift = torch.zeros((), requires_grad=True)
        (loss_of(fixed + shift) * mask).sum().backward()
        assert shift.grad is not None
        return shift.grad.item()

    def clip(adv: float) -> float:
        return gradient(lambda logp: ppo_clip(logp, old, torch.tensor([[adv, 1.0, 1.0]])))

    assert clip(2.0) == clip(0.0) == -1.0  # clipped, or of no advantage: the second token's alone
    assert 1e8 < clip(-2.0) < 1e10
    for truncate in (9.0, math.inf):  # advantages of 0, -2 and 0
        assert (
            gradient(
                lambda logp, c=truncate: importance_weighted(
                    logp, old, fixed, mask, sequence=False, truncate=c
                )
            )
            == 2.0
        )
    reference = torch.tensor([[100.0, -2.0, 0.0]])
    assert -1e10 < gradient(lambda logp: k3(logp, reference)) < -1e8
    for k in (k1, k3):
        assert -1e12 < gradient(lambda logp, k=k: corrected(k, logp, reference, old)) < -1e8


@pytest.mark.parametrize(
    ("ratio", "adv", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.5, 2.0, -2.4, 0.0),  # clipped at 1.2: nothing more to gain
        (1.5, -2.0, 3.0, 3.0),  # the pessimistic side is never clipped
        (0.5, 2.0, -1.0, -1.0),
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_ppo_clip_hand_worked(ratio, adv, loss, gradient):
    """Mutation caught: min in place of max, or a clip that also stops the pessimistic side."""
    logp = torch.tensor([math.log(ratio)], requires_grad=True)
    out = ppo_clip(logp, torch.zeros(1), torch.tensor([adv]), 0.2)
    out.sum().backward()
    assert out.item() == pytest.approx(loss, rel=1e-5)
    assert logp.grad is not None
    assert logp.grad.item() == pytest.approx(gradient, rel=1e-5)
    stopped = clipped(logp.detach(), torch.tensor([adv]), 0.2)
    assert bool(stopped) == (gradient == 0.0)


@pytest.mark.parametrize(
    ("v", "old", "ret", "loss"),
    [
        (0.5, 0.0, 1.0, 0.32),
        (0.1, 0.0, 1.0, 0.405),
        (-0.5, 0.0, 1.0, 1.125),
        (1.5, 1.4, 1.0, 0.125),
    ],
)
def test_value_clip_hand_worked(v, old, ret, loss):
    """Row 1: V is clipped to 0.2, ½(0.2−1)² = 0.32 > ½(0.5−1)². Mutation caught: min in place of max."""
    out = value_clip(torch.tensor([v]), torch.tensor([old]), torch.tensor([ret]), 0.2)
    assert out.item() == pytest.approx(loss, rel=1e-5)


def test_kl_estimators_hand_worked():
    logp, ref = torch.tensor([-1.0, -3.0]), torch.tensor([-2.0, -2.0])
    assert torch.allclose(k1(logp, ref), torch.tensor([1.0, -1.0]))
    assert torch.allclose(k2(logp, ref), torch.tensor([0.5, 0.5]))
    assert torch.allclose(k3(logp, ref), torch.tensor([math.exp(-1), math.e - 2]))


def test_kl_estimators_are_unbiased_and_their_gradients_are_not_all_right():
    """Exact expectations over a 6-way categorical. Mutation caught: k1 or k3 as a loss taken for the KL's gradient.

    E[k1] = E[k3] = KL; ∇E-of-k1-as-loss = 0; k2's loss gradient is the KL's; naive k3's is ∇KL(π_ref‖π).
    """
    torch.manual_seed(0)
    z, ref = torch.randn(6, dtype=torch.double, requires_grad=True), torch.randn(6).double()
    ref = torch.log_softmax(ref, 0)

    def gradient(of):
        return torch.autograd.grad(of, z)[0]

    logp = torch.log_softmax(z, 0)
    p = logp.exp()
    kl = (p * (logp - ref)).sum()
    assert torch.allclose((p * k1(logp, ref)).sum(), kl)
    assert torch.allclose((p * k3(logp, ref)).sum(), kl)
    true, forward = gradient(kl), gradient((ref.exp() * (ref - torch.log_softmax(z, 0))).sum())

    def as_loss(estimator):
        logp = torch.log_softmax(z, 0)
        return gradient((logp.exp().detach() * estimator(logp, ref)).sum())

    assert as_loss(k1).abs().max() < 1e-12
    assert torch.allclose(as_loss(k2), true)
    assert torch.allclose(as_loss(k3), forward)
    assert not torch.allclose(as_loss(k3), true, atol=1e-2)


def test_effective_sample_size():
    mask = torch.tensor([[True, True, True, False]])
    assert effective_sample_size(torch.zeros(1, 4), mask).item() == pytest.approx(1.0)
    one_heavy = torch.tensor([[0.0, -30.0, -30.0, 5.0]])
    for common in (0.0, 100.0):  # beyond float32
        found = effective_sample_size(one_heavy + common, mask).item()
        assert found == pytest.approx(1 / 3, rel=1e-3)


def test_explained_variance():
    mask = torch.tensor([[True, True, True, False]])
    returns = torch.tensor([[1.0, 2.0, 3.0, 99.0]])
    assert explained_variance(returns, returns, mask).item() == pytest.approx(1.0)
    constant = torch.full((1, 4), 7.0)
    assert explained_variance(constant, returns, mask).item() == pytest.approx(0.0, abs=1e-6)


def test_clip_higher_hand_worked():
    """DAPO: 1.25 passes under ε_high = 0.28, 1.3 does not; below 1 nothing changes."""
    for ratio, gradient in ((1.25, -2.5), (1.3, 0.0), (0.79, -1.58)):
        logp = torch.tensor([math.log(ratio)], requires_grad=True)
        ppo_clip(logp, torch.zeros(1), torch.tensor([2.0]), 0.2, 0.28).sum().backward()
        assert logp.grad is not None and logp.grad.item() == pytest.approx(gradient, rel=1e-5)


def test_importance_weights_hand_worked():
    """Token weights 2 and ½; the sequence's weight is 1; truncation at 1.5 keeps the gradient.

    Mutation caught: a weight that is differentiated as well, one that counts masked tokens, a truncation that clips.
    """
    mask = torch.tensor([[True, True, False]])
    old, adv = torch.zeros(1, 3), torch.tensor([[1.0, 3.0, 9.0]])
    for sequence, truncate, expected in (
        (False, 9.0, (-2.0, -1.5)),
        (False, 1.5, (-1.5, -1.5)),
        (True, 9.0, (-1.0, -3.0)),
    ):
        logp = torch.tensor([[math.log(2), math.log(0.5), 5.0]], requires_grad=True)
        loss = importance_weighted(logp, old, adv, mask, sequence=sequence, truncate=truncate)
        (loss * mask).sum().backward()
        assert logp.grad is not None
        assert logp.grad[0, :2].tolist() == pytest.approx(expected)


def test_policy_gradient_hand_worked():
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    out = policy_gradient(logp, torch.tensor([2.0, -1.0]))
    assert out.tolist() == [2.0, -2.0]
    out.sum().backward()
    assert logp.grad is not None and logp.grad.tolist() == [-2.0, 1.0]


def test_gspo_hand_worked():
    """s = exp(mean of log-ratios) = √(4·1) = 2 over two real tokens; gradient −A·s/|y| for each.

    Mutation caught: a sum in place of the mean, padding in the mean, each token's own ratio.
    """
    mask = torch.tensor([[True, True, False]])
    logp = torch.tensor([[math.log(4), 0.0, 7.0]], requires_grad=True)
    out = gspo_clip(logp, torch.zeros(1, 3), torch.full((1, 3), 3.0), mask, 0.2, 5.0)
    assert out[0, :2].tolist() == pytest.approx([-6.0, -6.0])
    ((out * mask).sum() / 2).backward()
    assert logp.grad is not None and logp.grad[0].tolist() == pytest.approx([-3.0, -3.0, 0.0])
    stopped = gspo_clip(logp, torch.zeros(1, 3), torch.full((1, 3), 3.0), mask, 0.2, 0.5)
    assert stopped[0, 0].item() == pytest.approx(-4.5)


def test_corrected_estimators_have_the_gradient_of_the_kl_and_analytic_is_exact():
    """Exact expectations over a 6-way categorical, samples from an older policy.

    Mutation caught: a ratio held constant (k1 then has no gradient), or correction of k2.
    """
    torch.manual_seed(0)
    z, ref = torch.randn(6, dtype=torch.double, requires_grad=True), torch.randn(6).double()
    old = torch.log_softmax(torch.randn(6).double(), 0)
    ref = torch.log_softmax(ref, 0)

    def gradient(of):
        return torch.autograd.grad(of, z)[0]

    logp = torch.log_softmax(z, 0)
    exact = (logp.exp() * (logp - ref)).sum()
    true = gradient(exact)
    for estimator in (k1, k3):
        logp = torch.log_softmax(z, 0)
        value = (old.exp() * corrected(estimator, logp, ref, old)).sum()
        assert torch.allclose(value, exact)
        assert torch.allclose(gradient(value), true)
    logp = torch.log_softmax(z, 0)
    assert torch.allclose(analytic(logp[None], ref[None]), exact)
    assert torch.allclose(gradient(analytic(logp[None], ref[None]).sum()), true)
    masked = torch.log_softmax(z.detach().masked_fill(torch.arange(6) > 2, -torch.inf), 0)
    assert torch.isfinite(analytic(masked[None], ref[None])).all()
