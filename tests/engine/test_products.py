"""Products with copies of weights against PyTorch's own."""

import pytest
import torch

from heedful.engine import products
from heedful.engine.products import Reordered, Transposed, product


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kind", [Transposed, Reordered])
def test_a_product_is_that_of_a_linear_layer(kind, biased):
    """Mutation caught: a bias left out or added twice; what is added to changed in place; a weight not copied."""
    g = torch.Generator().manual_seed(0)
    x, w, b, h = (torch.randn(*n, generator=g) for n in ((5, 24), (40, 24), (40,), (5, 40)))
    bias, before = b if biased else None, h.clone()
    want = torch.nn.functional.linear(x, w, bias)
    made = kind(w, bias)
    w.zero_()
    assert torch.allclose(made(x), want, atol=1e-5)
    assert torch.allclose(made.plus(h, x), before + want, atol=1e-5)
    assert torch.equal(h, before)


def test_the_order_depends_on_size_type_and_processor_alone(monkeypatch):
    """Mutation caught: a choice that forgets one of them."""
    monkeypatch.setattr(products, "SMALL", 32 * 32)

    def kinds():
        weights = torch.zeros(32, 32), torch.zeros(33, 32), torch.zeros(32, 32).bfloat16()
        return [type(product(w, None)) for w in weights]

    monkeypatch.setattr(products, "mkl_at_home", lambda: True)
    assert kinds() == [Transposed, Reordered, Reordered]
    monkeypatch.setattr(products, "mkl_at_home", lambda: False)
    assert kinds() == [Reordered] * 3
