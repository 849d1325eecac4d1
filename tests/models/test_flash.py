"""Attention by PyTorch's flash kernels: where there is no GPU, in the words of its documentation."""

from itertools import pairwise

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from attending import layout
from families import model_of, rows_with_shared_beginnings
from heedful.fast import flash
from heedful.fast.packed import can_pack
from heedful.models.forward import token_logps


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
    monkeypatch.setattr(flash, "varlen_attn", as_documented)
    at, g = layout(spare=spare), torch.Generator().manual_seed(1)
    shape = (1, heads + 2 * kv, len(at.tokens), 8)
    qkv = torch.randn(*shape, generator=g, dtype=torch.double, requires_grad=True)
    upstream = torch.randn(len(at.tokens), heads, 8, generator=g, dtype=torch.double)
    both = []
    for attend, blocks in ((flash.by_sequences, at.ragged), (flash.by_blocks, at.blocks)):
        out = attend(blocks, *qkv.split([heads, kv, kv], 1), window, 0.4)
        both.append((out.detach(), torch.autograd.grad(out, qkv, upstream)[0]))
    (ours, gradient), (theirs, their_gradient) = both
    assert torch.allclose(ours, theirs, atol=1e-12)
    assert torch.allclose(gradient, their_gradient, atol=1e-12)
    assert len(at.ragged.cells) < len(at.blocks.cells)  # nothing is padded


def test_a_models_layers_ask_for_it(monkeypatch):
    """Mutation caught: what a layer says of its window and its scale left behind."""
    model, again = (model_of("mistral", sliding_window=4) for _ in range(2))
    tokens, mask = rows_with_shared_beginnings()
    want, calls = token_logps(model, tokens, mask), []  # block by block

    def noted(*args, **kwargs):
        calls.append(kwargs["window_size"])
        return as_documented(*args, **kwargs)

    monkeypatch.setattr(flash, "varlen_attn", noted)
    monkeypatch.setattr(flash, "serves", lambda query, key, value: True)
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

    monkeypatch.setattr(flash, "varlen_attn", operation)
    flash.agree.cache_clear()
    with torch.inference_mode():
        works = flash.agree(torch.device("cpu"), torch.double, 4, 2, 8)
    flash.agree.cache_clear()
    assert works == (wrong is None) and ("block by block" in caplog.text) != works


@pytest.mark.skipif(not flash._WHOLE, reason="a PyTorch without the operation")
def test_pytorchs_operation_takes_what_it_is_given(monkeypatch):
    """On tensors that say they are on a GPU and have no numbers. Mutation caught: an argument that PyTorch's own
    function does not know, a shape or type that it does not return; a GPU, type or width that it is not for."""
    at, sizes = layout(), (4, 2, 2)
    real = at.ragged
    monkeypatch.setattr(flash, "agree", lambda *of: True)
    with FakeTensorMode() as fake, sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        cells = [fake.from_tensor(x).to("cuda") for x in (real.cells, real.home, real.again)]
        blocks = flash.Blocks(real.sizes, *cells)
        qkv = torch.empty(
            1,
            sum(sizes),
            len(at.tokens),
            64,
            dtype=torch.bfloat16,
            device="cuda",
            requires_grad=True,
        )
        q, k, v = qkv.split(sizes, 1)
        monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
        for capability, served in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
            monkeypatch.setattr(
                torch.cuda, "get_device_capability", lambda device, it=capability: it
            )
            assert flash.serves(q, k, v) == served
        assert not flash.serves(q.float(), k.float(), v.float())
        assert not flash.serves(q[..., :12], k[..., :12], v[..., :12])
        assert not flash.serves(q, k, v[..., :8])
        with sdpa_kernel(SDPBackend.MATH):
            assert not flash.serves(q, k, v)
        for window in (None, 7):
            out = flash.by_sequences(blocks, q, k, v, window, None)
            assert out.shape == (len(at.tokens), 4, 64) and out.dtype == torch.bfloat16
            assert out.device.type == "cuda" and out.requires_grad
