"""Attention by kernels: outputs and gradients of attention by tiles in float64, whatever sequences share."""

import pytest
import torch

from attending import both, close, kept, layout, needs_kernels
from heedful.fast.attend import attend

pytestmark = needs_kernels


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
    ours, theirs = both(layout(seed, width, spare), heads, kv, dim, turned)
    assert all(x.dtype == torch.float32 for x in ours)
    assert close(ours, theirs)


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

    def ours(qkv, at):
        return attend(qkv, at.sequences, at.plan, 4, 0.4)

    assert kept(ours, 4096) <= 2.1 * kept(ours, 2048)
