"""Products of float32 by tiles of bfloat16 are products of float32."""

import pytest
import torch
from torch import Tensor

from families import gradients, model_of, rows_with_shared_beginnings
from heedful.fast import llama
from heedful.fast.kernels import matmul as module
from heedful.fast.kernels.matmul import matmul
from heedful.models.forward import token_logps

# PyTorch's own product may stand in everywhere: what is tested of it holds on every machine.
needs_tiles = pytest.mark.skipif(
    not module.tiles(), reason="no CPU that multiplies tiles of bfloat16"
)


@pytest.fixture(autouse=True)
def all_by_tiles(monkeypatch):
    monkeypatch.setattr(module, "OFTEN", 0)
    monkeypatch.setattr(module, "MANY", 1)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def operands(m: int, n: int, k: int, turned: str = "", seed: int = 0) -> tuple[Tensor, Tensor]:
    """a `[m, k]` and b `[k, n]`; a letter's matrix lies in memory by columns."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(k, m, generator=g).t() if "a" in turned else torch.randn(m, k, generator=g)
    b = torch.randn(n, k, generator=g).t() if "b" in turned else torch.randn(k, n, generator=g)
    return a, b


# One, less than a tile, more than a tile, less than a block of them, more; more than is packed at a time of each.
SHAPES = [
    (1, 1, 1), (5, 3, 2), (16, 16, 32), (17, 33, 31), (40, 70, 100), (32, 64, 96), (300, 45, 513), (33, 4100, 600),
    (70, 64, 1600),
]  # fmt: skip


@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
@pytest.mark.parametrize("m, n, k", SHAPES)
def test_it_is_the_product(m, n, k, turned):
    """Of rows, columns or both that lie in memory by columns, and added to nothing, a row, a matrix and the output.

    No number is further from float64's than float32's rounding of the terms explains. Mutation caught: a part of a
    number or a product of parts left out (2⁻¹⁶), a pair transposed, rows behind the last that are not zero, a later
    piece of the inner dimension that forgets the sums of an earlier one.
    """
    a, b = operands(m, n, k, turned)
    exact, terms = a.double() @ b.double(), a.double().abs() @ b.double().abs()

    def near(ours: Tensor, more: Tensor | float = 0.0) -> bool:
        bound = 2**-23 * (k**0.5 + 2) * (terms + torch.as_tensor(more).double().abs())
        return bool((ours.double() - exact - more).abs().le(bound).all())

    row, matrix = torch.randn(n), torch.randn(m, n)
    assert (
        near(matmul(a, b)) and near(matmul(a, b, row), row) and near(matmul(a, b, matrix), matrix)
    )
    wide = torch.randn(m, n + 3)
    inside, beside = wide[:, :n], wide[:, n:].clone()
    before = inside.clone()
    assert matmul(a, b, inside, out=inside) is inside and near(inside, before)
    assert near(matmul(a, b, out=inside)) and torch.equal(wide[:, n:], beside)


@pytest.mark.parametrize("by_tiles", [pytest.param(True, marks=needs_tiles), False])
@pytest.mark.parametrize("narrow", ["a", "b", "ab"])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
@pytest.mark.parametrize("m, n, k", SHAPES)
def test_bfloat16_into_float32(m, n, k, turned, narrow, by_tiles, monkeypatch):
    """What is float32 is rounded to the nearest of bfloat16; the sums, by tiles, are not.

    Mutation caught: a number cut off rather than rounded, a pair of neighbours multiplied with another pair, an
    operand read as wide as the other, sums rounded once more (2⁻⁹ of the sum).
    """
    monkeypatch.setattr(module, "tiles", lambda: by_tiles)
    a, b = operands(m, n, k, turned)
    whole = [x.bfloat16() for x in (a, b)]
    exact, terms = (
        torch.mm(*(f(x.double()) for x in whole)) for f in (torch.Tensor.clone, torch.abs)
    )
    a, b = (x.bfloat16() if name in narrow else x for name, x in (("a", a), ("b", b)))

    def near(ours: Tensor, more: Tensor | float = 0.0) -> bool:
        added = torch.as_tensor(more).double()
        bound = 2**-23 * (k**0.5 + 2) * (terms + added.abs())
        if not by_tiles:
            bound += 2**-8 * exact.abs()
        return ours.dtype == torch.float32 and bool((ours - exact - added).abs().le(bound).all())

    row, matrix, out = torch.randn(n), torch.randn(m, n), torch.empty(m, n)
    assert near(matmul(a, b, out=out)) and near(matmul(a, b, row, out=out), row)
    assert near(matmul(a, b, matrix, out=out), matrix)
    before = matrix.clone()
    assert matmul(a, b, matrix, out=matrix) is matrix and near(matrix, before)


@needs_tiles
@pytest.mark.parametrize("k", [64, 384, 2000])
def test_it_is_as_exact_as_pytorchs(k):
    """The error of all numbers together, against float64's. It was 0.4 to 1.05 times PyTorch's here."""
    a, b = operands(300, 200, k)
    exact = a.double() @ b.double()
    ours, theirs = ((x.double() - exact).norm() for x in (matmul(a, b), torch.mm(a, b)))
    assert ours < 1.5 * theirs


@needs_tiles
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("m, n, k", [(300, 45, 513), (45, 300, 100), (20, 20, 600), (40, 64, 100)])
def test_any_number_of_threads_gives_the_same_bits(m, n, k, dtype):
    a, b = (x.to(dtype) for x in operands(m, n, k, "b"))
    found = []
    for threads in (1, 2, 3, 7, 16):
        torch.set_num_threads(threads)
        found.append(matmul(a, b, out=torch.empty(m, n)))
    assert all(torch.equal(found[0], other) for other in found[1:])


@needs_tiles
def test_large_and_small_numbers():
    """From 10⁻²⁵ to 10³⁰; below, the last part of a number would be denormal. What is no number stays none."""
    for scale in (1e-25, 1e-12, 1e12, 1e30):
        a, b = operands(40, 40, 40)
        exact = (a * scale).double() @ b.double()
        assert (matmul(a * scale, b) - exact).norm() < 1e-6 * exact.norm()
    a, b = operands(40, 40, 40)
    kinds = torch.tensor([0x7FFFFFFF, 0x7FC00000, -1, 0x7F800001], dtype=torch.int32)
    for i, nan in enumerate(kinds.view(torch.float32)):
        a[i, i] = nan
    assert matmul(a, b).isnan().all(1).tolist() == [True] * 4 + [False] * 36


def test_what_tiles_do_not_take_is_pytorchs():
    a, b = operands(40, 40, 40)
    assert torch.equal(matmul(a.double(), b.double()), a.double() @ b.double())
    assert torch.allclose(matmul(a[:, ::2], b[::2]), a[:, ::2] @ b[::2], atol=1e-5)
    to, out = torch.randn(40, 40).t(), torch.empty(40, 40).t()
    assert torch.allclose(matmul(a, b, to, out=out), to + a @ b, atol=1e-5)
    assert torch.allclose(matmul(a, b, to[:1]), to[:1] + a @ b, atol=1e-5)
    assert torch.equal(matmul(a.bfloat16(), b.bfloat16()), a.bfloat16() @ b.bfloat16())
    assert matmul(a[:0], b).shape == (0, 40)
    assert torch.equal(matmul(a[:, :0], b[:0], b[0]), b[0].expand(40, 40))


def test_what_does_not_fit_is_refused():
    """Mutation caught: a length of one operand taken for that of the other, whose memory ends earlier."""
    a, b = operands(40, 40, 40)
    with pytest.raises(RuntimeError):
        matmul(a, b[:20])
    with pytest.raises(RuntimeError):
        matmul(a, b, torch.zeros(39))
    with pytest.raises(RuntimeError):
        matmul(a, b, torch.zeros(40, 39))


def test_no_gradient_is_lost():
    a, b = operands(40, 40, 40)
    matmul(a.requires_grad_(), b).sum().backward()
    assert torch.allclose(a.grad, b.sum(1).expand(40, 40), atol=1e-5)


@needs_tiles
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_model_learns_the_same_by_tiles(family, monkeypatch):
    """`transformers`' log-probs and gradients. Mutation caught: a gradient of another matrix, or the residual stream's
    left out."""
    model = model_of(family)
    tokens, mask = rows_with_shared_beginnings()

    def both() -> tuple[Tensor, dict]:
        logps = token_logps(model, tokens, mask)
        return logps.detach(), gradients(model, logps)

    calls = []
    by_tiles = module._by_tiles
    monkeypatch.setattr(module, "_by_tiles", lambda *a: calls.append(by_tiles(*a)) or calls[-1])
    ours, grads = both()
    assert sum(calls) > 10 and all(calls)
    monkeypatch.setattr(module, "tiles", lambda: False)
    monkeypatch.setattr(llama, "runs", lambda *a: False)
    theirs, plain = both()
    assert torch.allclose(ours, theirs, atol=1e-5)
    for name, grad in plain.items():
        assert (grads[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-9, name
