"""Attention over a packed batch: by kernels and, in the words of its documentation, by PyTorch for sequences of any
lengths, both beside attention block by block in float64, whatever sequences share."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from attending import both, close, layout, needs_kernels
from families import model_of, rows_with_shared_beginnings
from heedful.fast import attention
from heedful.fast.layout import lay_out
from heedful.fast.packed import can_pack
from heedful.models.forward import token_logps


@dataclass
class Known:
    """Sequences whose longest is known without asking the device."""

    cells: torch.Tensor
    starts: torch.Tensor
    borrowed: torch.Tensor
    longest: int


@pytest.mark.arithmetic
@needs_kernels
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(
    "heads, kv, dim", [(4, 2, 6), (2, 2, 16), (7, 1, 32), (6, 2, 64), (3, 1, 40)]
)
@pytest.mark.parametrize(
    "seed, width, spare", [(0, 90, False), (1, 90, True), (2, 300, False), (3, 6, True)]
)
def test_kernels_attend_as_pytorch_does(heads, kv, dim, turned, seed, width, spare):
    """Mutation caught: a key behind a query seen, gradients of shared keys lost or counted twice, lanes without a query
    that add to sums, values turned, gradients turned on rather than back, a group's gradient on another's keys."""
    ours, theirs = both(layout(seed, width, spare), heads, kv, dim, turned)
    assert all(x.dtype == torch.float32 for x in ours)
    assert close(ours, theirs)


@needs_kernels
def test_scores_may_be_large():
    """±hundreds. Mutation caught: exponentials without the largest score taken off."""
    (out, grad), (want, gradient) = both(layout(), 4, 2, 16, False, upto=12.0)
    assert torch.allclose(out.double(), want, atol=1e-3 * float(want.abs().max()))
    assert torch.allclose(grad.double(), gradient, atol=1e-3 * float(gradient.abs().max()))


@needs_kernels
def test_bfloat16_is_rounded_once():
    (out, grad), (want, gradient) = both(layout(), 4, 2, 16, True, torch.bfloat16)
    for a, b in ((out, want), (grad, gradient)):
        assert a.dtype == torch.bfloat16
        assert ((a.double() - b).abs() <= 2**-8 * b.abs() + 1e-4 * b.abs().max()).all()


@needs_kernels
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


@needs_kernels
def test_memory_is_linear():
    """Mutation caught: kept probabilities."""

    def kept(width: int) -> int:
        saved: list[int] = []
        tokens = torch.arange(2 * width).view(2, width)
        at = lay_out(tokens, torch.ones_like(tokens, dtype=torch.bool))
        q, k, v = torch.randn(2 * width, 8, 6, requires_grad=True).split([4, 2, 2], 1)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: (saved.append(x.numel()), x)[1], lambda x: x
        ):
            attention.attend(q, k, v, at, 0.4)
        return sum(saved)

    assert kept(4096) <= 2.1 * kept(2048)


def as_documented(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa
):
    """`torch.nn.attention.varlen.varlen_attn`, sequence by sequence: it looks at `left` tokens before its own and at
    none (0) or all (-1) behind it."""
    assert cu_seq_q is cu_seq_k and cu_seq_q.dtype == torch.int32 and max_q == max_k
    assert enable_gqa == (query.shape[1] != key.shape[1])
    left, right = window_size
    found, bounds = [], cu_seq_q.tolist()
    assert max_q == max(b - a for a, b in pairwise(bounds))
    for a, b in pairwise(bounds):
        q, k, v = (x[a:b].transpose(0, 1) for x in (query, key, value))
        k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
        before = torch.arange(b - a)[:, None] - torch.arange(b - a)
        seen = (before <= (left if left >= 0 else b)) & (before >= (-right if right >= 0 else -b))
        scores = (q @ k.mT) * (scale or q.shape[-1] ** -0.5)
        found.append((scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("heads, kv", [(4, 2), (3, 3)])
@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("spare", [True, False])
def test_all_sequences_in_one_call(heads, kv, window, spare, monkeypatch):
    """Outputs and gradients of attention block by block. Mutation caught: a start or an end off by one, a window of
    one too many, a shared token's gradient of one sequence only, a repeated sequence shown twice."""
    monkeypatch.setattr(attention, "varlen_attn", as_documented)
    at, g = layout(spare=spare), torch.Generator().manual_seed(1)
    shape = (len(at.tokens), heads + 2 * kv, 8)
    qkv = torch.randn(*shape, generator=g, dtype=torch.double, requires_grad=True)
    upstream = torch.randn(len(at.tokens), heads, 8, generator=g, dtype=torch.double)
    found = []
    for way in (attention.by_sequences, attention.by_blocks):
        out = way(*qkv.split([heads, kv, kv], 1), at, 0.4, window)
        found.append((out.detach(), torch.autograd.grad(out, qkv, upstream)[0]))
    (ours, gradient), (theirs, their_gradient) = found
    assert torch.allclose(ours, theirs, atol=1e-12)
    assert torch.allclose(gradient, their_gradient, atol=1e-12)
    assert len(at.sequences.cells) < len(at.blocks.cells)  # nothing is padded


def test_a_models_layers_ask_for_it(monkeypatch):
    """Mutation caught: what a layer says of its window and its scale left behind."""
    model, again = (model_of("mistral", sliding_window=4) for _ in range(2))
    tokens, mask = rows_with_shared_beginnings()
    want, calls = token_logps(model, tokens, mask), []  # block by block

    def noted(*args, **kwargs):
        calls.append(kwargs["window_size"])
        return as_documented(*args, **kwargs)

    monkeypatch.setattr(attention, "varlen_attn", noted)
    monkeypatch.setattr(attention, "serves", lambda q, k, v: True)
    assert can_pack(again) and calls == [(3, 0)] * 2
    calls.clear()
    assert torch.allclose(token_logps(again, tokens, mask), want, atol=2e-5)
    assert calls == [(3, 0)] * 2


@pytest.mark.parametrize("wrong", [None, "scale", "window_size", "gradient", "broken", "nan"])
def test_it_is_tried_before_it_is_relied_on(wrong, monkeypatch, caplog):
    """Mutation caught: a build whose operation fails, or only its backward pass, in the middle of training."""

    def operation(query, *args, **kwargs):
        if wrong == "broken":
            raise RuntimeError("USE_FLASH_ATTENTION was not enabled for build.")
        if wrong == "gradient":
            query = query.detach()
        other = {"scale": 0.1, "window_size": (-1, 0)}
        if wrong in other:
            kwargs[wrong] = other[wrong]
        out = as_documented(query, *args, **kwargs)
        return out * float("nan") if wrong == "nan" else out

    monkeypatch.setattr(attention, "varlen_attn", operation)
    attention.agree.cache_clear()
    with torch.inference_mode():
        works = attention.agree(torch.device("cpu"), torch.double, 4, 2, 8)
    attention.agree.cache_clear()
    assert works == (wrong is None) and ("block by block" in caplog.text) != works


@pytest.mark.skipif(attention.varlen_attn is None, reason="a PyTorch without the operation")
def test_pytorchs_operation_takes_what_it_is_given(monkeypatch):
    """On tensors that say they are on a GPU and have no numbers. Mutation caught: an argument that PyTorch's own
    function does not know, a shape or type that it does not return; a type or width that it is not for."""
    monkeypatch.setattr(attention, "agree", lambda *of: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (8, 0))
    at = layout()
    home, real = at.home, at.sequences  # made of real numbers, on the host
    longest = real.longest
    with FakeTensorMode() as fake:
        given = (real.cells, real.starts, real.borrowed, home)
        cells, starts, borrowed, home = (fake.from_tensor(x).to("cuda") for x in given)
        shown = replace(at)
        vars(shown).update(sequences=Known(cells, starts, borrowed, longest), home=home)
        shape = (len(at.tokens), 8, 64)
        qkv = torch.empty(*shape, dtype=torch.bfloat16, device="cuda", requires_grad=True)
        q, k, v = qkv.split([4, 2, 2], 1)
        assert attention.serves(q, k, v)
        assert not attention.serves(q.float(), k.float(), v.float())
        assert not attention.serves(q, k, v[..., :8])
        for window in (None, 7):
            out = attention.by_sequences(q, k, v, shown, 0.4, window)
            assert out.shape == (len(at.tokens), 4, 64) and out.dtype == torch.bfloat16
            assert out.device.type == "cuda" and out.requires_grad
