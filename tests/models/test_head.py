"""Log-probs behind a linear head: the values and gradients of log_softmax, kept or computed again."""

import pytest
import torch

from heedful.fast import head
from heedful.fast.head import LinearLogps


@pytest.mark.arithmetic
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("factor", [1.0, 0.5])
@pytest.mark.parametrize("with_bias", [False, True])
def test_values_and_gradients_of_log_softmax(monkeypatch, kept, factor, with_bias):
    """Mutation caught: the factor left out of a gradient, rows of a piece mixed up, p without its target."""
    monkeypatch.setattr(head, "KEPT", 1 << 26 if kept else 0)
    monkeypatch.setattr(head, "PIECE", 1)  # pieces of 128 rows
    g = torch.Generator().manual_seed(0)
    h = torch.randn(300, 8, generator=g, dtype=torch.float32).requires_grad_()
    weight = torch.randn(50, 8, generator=g).requires_grad_()
    bias = torch.randn(50, generator=g).requires_grad_() if with_bias else None
    y = torch.randint(50, (300,), generator=g)
    upstream = torch.randn(300, generator=g)
    inputs = [x for x in (h, weight, bias) if x is not None]
    z = factor * torch.nn.functional.linear(
        h.double(), weight.double(), bias.double() if bias is not None else None
    )
    plain = z.log_softmax(1).gather(1, y[:, None]).squeeze(1)
    want = torch.autograd.grad((plain * upstream).sum(), inputs)
    ours = LinearLogps.apply(h, weight, bias, y, factor, True)
    assert torch.allclose(ours.double(), plain, atol=1e-5)
    for _ in range(2):  # the second time nothing is kept any more
        got = torch.autograd.grad((ours * upstream).sum(), inputs, retain_graph=True)
        for a, b in zip(got, want, strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm()


def test_frozen_heads_get_no_gradient():
    """Mutation caught: a gradient of the size of the vocabulary for a head that LoRA leaves alone."""
    h, weight = torch.randn(4, 8, requires_grad=True), torch.randn(50, 8)
    LinearLogps.apply(h, weight, None, torch.tensor([1, 2, 3, 4]), 1.0, True).sum().backward()
    assert h.grad is not None and weight.grad is None


def test_half_precision_accumulates_in_float32(monkeypatch):
    """Mutation caught: sums over pieces rounded to bfloat16 each time."""
    monkeypatch.setattr(head, "KEPT", 0)
    monkeypatch.setattr(head, "PIECE", 1)
    g = torch.Generator().manual_seed(0)
    h = torch.rand(128 * 60, 4, generator=g).bfloat16()
    weight = torch.zeros(6, 4, dtype=torch.bfloat16, requires_grad=True)
    y = torch.zeros(len(h), dtype=torch.long)
    LinearLogps.apply(h, weight, None, y, 1.0, True).sum().backward()
    assert weight.grad is not None
    want = (torch.nn.functional.one_hot(y, 6).float() - 1 / 6).t() @ h.float()
    assert (weight.grad.float() - want).norm() <= 4e-3 * want.norm()


@pytest.mark.parametrize("wrong", [40, -100])
def test_a_token_that_the_model_does_not_have_is_an_error(wrong):
    """As of a tokenizer larger than the model. Mutation caught: memory beyond the logits read and written."""
    h, weight = torch.randn(3, 8, requires_grad=True), torch.randn(40, 8)
    with pytest.raises(IndexError, match="model's 40"):
        LinearLogps.apply(h, weight, None, torch.tensor([1, wrong, 2]), 1.0, True)
