"""Attention over a packed batch: by heedful's kernel on a CPU that has it, by PyTorch's kernel for sequences of any
lengths on a GPU that has it, else by PyTorch's attention, block by block of padded sequences."""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention as sdpa

from heedful.fast import kernels
from heedful.fast.kernels import train
from heedful.fast.layout import Layout, lay_out

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older PyTorch
    varlen_attn = None

log = logging.getLogger("heedful")


def attend(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, window: int | None = None
) -> Tensor:
    """Tokens' heads, q `[N, H, d]`, k and v `[N, K, d]` → `[N, H, d]`, in their type. A token sees those before it in
    its sequence, or the last `window` of these, itself included. On a CPU sums are in float32 at least."""
    window = window if window and window < layout.sequences.longest else None
    if kernels.serves(q) and not window and v.shape[2] == k.shape[2]:
        qkv: Any = torch.cat([q, k, v], 1)
        return _Attend.apply(qkv, None, layout.sequences, q.shape[1], scale)
    way = by_sequences if serves(q, k, v) else by_blocks
    return way(q, k, v, layout, scale, window)


def attend_rotated(qkv: Tensor, rope: Tensor, layout: Layout, heads: int, scale: float) -> Tensor:
    """`attend` on concatenated heads `[N, heads + 2 · key heads, d]`, whose queries and keys are rotated first; see
    `rotated`."""
    if kernels.serves(qkv):
        return _Attend.apply(qkv, rope, layout.sequences, heads, scale)
    return attend(*rotated(qkv, rope, heads), layout, scale)


def rotated(qkv: Tensor, rope: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries and keys (RoPE, Su et al. 2021), and values. rope `[N, d]`: cosines, then sines of the angles by
    which number i of a head is rotated with number i + d / 2."""
    kv = (qkv.shape[1] - heads) // 2
    cos, sin = rope[:, None].to(qkv.dtype).chunk(2, -1)
    a, b = qkv[:, : heads + kv].chunk(2, -1)
    halves = [torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)]
    q, k = torch.cat(halves, -1).split([heads, kv], 1)
    return q, k, qkv[:, heads + kv :]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, rope: Tensor | None, seqs, heads: int, scale: float) -> Tensor:
        x = qkv.float().contiguous()
        out, sums = train.attention(x, rope, seqs, heads, scale)
        ctx.save_for_backward(x, rope, out, sums)
        ctx.sequences, ctx.scale, ctx.dtype = seqs, scale, qkv.dtype
        return out.to(qkv.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        x, rope, out, sums = ctx.saved_tensors
        grad = grads[0].float().contiguous()
        gradient = train.attention_back(x, rope, ctx.sequences, ctx.scale, out, sums, grad)
        return gradient.to(ctx.dtype), None, None, None, None


def serves(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `by_sequences` can take these heads, tried once for their device, type and shape."""
    return (
        q.device.type == "cuda"
        and q.dtype == k.dtype == v.dtype
        and q.dtype in (torch.float16, torch.bfloat16)
        and q.shape[2] == v.shape[2]
        and agree(q.device, q.dtype, q.shape[1], k.shape[1], q.shape[2])
    )


@functools.cache
def agree(device: torch.device, dtype: torch.dtype, heads: int, kv: int, dim: int) -> bool:
    """Whether both of PyTorch's implementations agree here, in outputs and gradients, on a few random sequences."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            tokens = torch.arange(390, device=device).view(3, 130)
            lengths = torch.tensor([[130], [10], [10]], device=device)
            layout = lay_out(tokens, tokens % 130 < lengths)
            generator = torch.Generator().manual_seed(0)
            random = torch.randn(150, heads + 2 * kv, dim, generator=generator)
            qkv = random.to(device, dtype).requires_grad_()
            for window in (None, 7):
                results = []
                for way in (by_sequences, by_blocks):
                    q, k, v = qkv.split([heads, kv, kv], 1)
                    out = way(q, k, v, layout, dim**-0.5, window)
                    results.append((out, *torch.autograd.grad(out.double().square().sum(), qkv)))
                if not all(near(a, b, 3e-2) for a, b in zip(*results, strict=True)):
                    raise RuntimeError("it gives other numbers than PyTorch's attention of blocks")
    except Exception as error:  # this PyTorch lacks the operation, or some of its options
        log.warning("attention goes block by block, more slowly than in one call: %s", error)
        return False
    return True


def by_sequences(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, window: int | None
) -> Tensor:
    """See `attend`. Whatever the number of sequences it is one operation."""
    assert varlen_attn is not None, "there is no such operation in this PyTorch"
    sequences, starts = layout.sequences, layout.sequences.starts.int()
    q, k, v = (_rows(x, sequences.cells) for x in (q, k, v))
    out = varlen_attn(
        q, k, v, starts, starts, sequences.longest, sequences.longest,
        scale=scale,
        window_size=(window - 1 if window else -1, 0),  # tokens before this one, none after it
        enable_gqa=k.shape[1] != q.shape[1],
    )  # fmt: skip
    assert isinstance(out, Tensor)
    return _rows(out, layout.home)


def by_blocks(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, window: int | None
) -> Tensor:
    """See `attend`. On any device, a call for each block, whose shorter sequences go on to its width."""
    blocks, dtype, grouped = layout.blocks, q.dtype, k.shape[1] != q.shape[1]
    if q.device.type == "cpu" and dtype.itemsize < 4:
        # The CPU's kernel is no faster in bfloat16, and two to four times slower backward; matrix products gain.
        q, k, v = q.float(), k.float(), v.float()
    cells = [_rows(x, blocks.cells) for x in (q, k, v)]
    outputs, start = [], 0
    for rows, width in blocks.sizes:
        span = slice(start, start + rows * width)
        heads = (x[span].unflatten(0, (rows, width)).transpose(1, 2) for x in cells)
        band = None
        if window and window < width:  # the last `window` tokens, this one included
            square = torch.ones(width, width, dtype=torch.bool, device=q.device)
            band = square.tril().triu(1 - window)
        out = sdpa(*heads, band, is_causal=band is None, scale=scale, enable_gqa=grouped)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
        start += rows * width
    return _rows(torch.cat(outputs), blocks.home).to(dtype)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of `[·, H, d]`; flattened, since autograd adds up gradients of whole rows only in two dimensions fast."""
    return x.flatten(1).index_select(0, index).unflatten(1, x.shape[1:])


def near(x: Tensor, reference: Tensor, tolerance: float) -> bool:
    """Whether no number differs by more than this share of the largest of the reference; False if one is NaN."""
    return bool((x - reference).abs().max() <= tolerance * reference.abs().max())
