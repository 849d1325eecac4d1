"""Attention by kernels: outputs and gradients of attention by tiles in float64, whatever sequences share."""

import pytest
import torch

from heedful import kernels
from heedful.models import tiles
from heedful.models.attend import attend
from heedful.models.packed import Layout, lay_out

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no C compiler")


def layout(seed: int = 0, width: int = 90, spare: bool = False) -> Layout:
    """Twelve rows of 1 to `width` tokens; some begin alike, in two generations, one is the beginning of another."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 50, (12, width), generator=g)
    lengths = torch.randint(1, width + 1, (12,), generator=g)
    lengths[:6] = torch.tensor([width, width - 1, width // 2 + 3, 33, 13, 1])
    tokens[1, : width // 2] = tokens[0, : width // 2]
    tokens[2, : width // 2 + 1] = tokens[1, : width // 2 + 1]
    tokens[3, :3] = tokens[0, :3]
    tokens[4] = tokens[3]
    return lay_out(tokens, torch.arange(width) < lengths[:, None], spare=spare)


def both(at: Layout, heads: int, kv: int, dim: int, turned: bool, dtype=torch.float32, upto=1.0):
    """Outputs and gradients: by kernels, and by tiles in float64."""
    g = torch.Generator().manual_seed(1)
    n = len(at.tokens)
    qkv = (upto * torch.randn(n, heads + 2 * kv, dim, generator=g)).to(dtype)
    upstream = torch.randn(n, heads, dim, generator=g).to(dtype)
    angles = 6 * torch.rand(n, dim // 2, generator=g)
    turns = torch.cat([angles.cos(), angles.sin()], 1) if turned else None
    leaf = qkv.clone().requires_grad_()
    got = attend(leaf, at.sequences, at.plan, heads, 0.4, turns)
    ours = got, torch.autograd.grad(got, leaf, upstream)[0]
    exact = qkv.double().requires_grad_()
    wide = None if turns is None else turns.double()
    want = tiles.attend(exact * 1, at.plan(heads, kv), 0.4, wide)
    theirs = want, torch.autograd.grad(want, exact, upstream.double())[0]
    return tuple((a.detach(), b) for a, b in (ours, theirs))


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(
    "heads, kv, dim", [(4, 2, 6), (2, 2, 16), (7, 1, 32), (6, 2, 64), (3, 1, 40)]
)
@pytest.mark.parametrize(
    "seed, width, spare", [(0, 90, False), (1, 90, True), (2, 300, False), (3, 6, True)]
)
def test_it_is_attention_by_tiles(heads, kv, dim, turned, seed, width, spare):
    """Mutation caught: a key behind a query seen, gradients of shared keys lost or counted twice, lanes without a query
    that add to sums, values turned, gradients turned on rather than back, a group's gradient on another's keys."""
    (out, grad), (want, gradient) = both(layout(seed, width, spare), heads, kv, dim, turned)
    assert out.dtype == grad.dtype == torch.float32
    assert torch.allclose(out.double(), want, atol=2e-5 * float(want.abs().max()))
    assert torch.allclose(grad.double(), gradient, atol=2e-5 * float(gradient.abs().max()))


def test_scores_may_be_large():
    """±hundreds. Mutation caught: exponentials without the largest score taken off."""
    (out, grad), (want, gradient) = both(layout(), 4, 2, 16, False, upto=12.0)
    assert torch.allclose(out.double(), want, atol=1e-3 * float(want.abs().max()))
    assert torch.allclose(grad.double(), gradient, atol=1e-3 * float(gradient.abs().max()))


def test_bfloat16_is_rounded_once():
    (out, grad), (want, gradient) = both(layout(), 4, 2, 16, True, torch.bfloat16)
    for a, b in ((out, want), (grad, gradient)):
        assert a.dtype == torch.bfloat16
        assert ((a.double() - b).abs() <= 2**-8 * b.abs() + 1e-4 * b.abs().max()).all()


def test_threads_do_not_change_the_bits():
    """Mutation caught: sums in the order in which threads come."""
    at, threads = layout(), torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(both(at, 4, 2, 16, True)[0])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_memory_is_linear():
    """Mutation caught: kept probabilities."""
    saved: list[int] = []

    def note(x):
        saved.append(x.numel())
        return x

    def kept(width: int) -> int:
        saved.clear()
        tokens = torch.arange(2 * width).view(2, width)
        at = lay_out(tokens, torch.ones_like(tokens, dtype=torch.bool))
        qkv = torch.randn(2 * width, 8, 6, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            attend(qkv, at.sequences, at.plan, 4, 0.4)
        return sum(saved)

    assert kept(4096) <= 2.1 * kept(2048)
