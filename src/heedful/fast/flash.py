"""Attention over a packed batch by PyTorch's flash kernels: all sequences in one call where a GPU has one for
sequences of any length, else block by block."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from heedful.fast.trials import near

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older PyTorch
    varlen_attn = None

# The first PyTorch that had the operation could not do this yet.
_NEEDED = {"scale", "window_size", "enable_gqa"}
_WHOLE = varlen_attn is not None and set(signature(varlen_attn).parameters) >= _NEEDED
AMPERE = (8, 0)  # the first GPUs that it is written for
WIDEST = 128  # heads for which all of these GPUs have its backward pass
log = logging.getLogger("heedful")


@dataclass(frozen=True)
class Blocks:
    """Cells of attention: b sequences of width w each (`sizes`), C in all, laid end to end. cells `[C]` say which token
    each shows, home `[N]` in which cell a token's output is read, again which cells show a shared token once more."""

    sizes: tuple[tuple[int, int], ...]
    cells: Tensor
    home: Tensor
    again: Tensor

    @cached_property
    def starts(self) -> Tensor:
        """At which cell each sequence starts, and where the last one ends `[sequences + 1]`, int32."""
        widths = [width for rows, width in self.sizes for _ in range(rows)]
        return torch.tensor([0, *accumulate(widths)], dtype=torch.int32).to(self.cells.device)


def serves(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether `by_sequences` can take these heads `[1, ·, N, d]`, tried once for their device, type and shape."""
    return (
        query.device.type == "cuda"
        and _WHOLE
        and query.dtype == key.dtype == value.dtype
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] == value.shape[-1] <= WIDEST
        and query.shape[-1] % 8 == 0
        and torch.version.hip is None
        and torch.cuda.get_device_capability(query.device) >= AMPERE
        and torch.backends.cuda.is_flash_attention_available()
        and torch.backends.cuda.flash_sdp_enabled()
        and agree(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[-1])
    )


@functools.cache
def agree(device: torch.device, dtype: torch.dtype, heads: int, kv: int, dim: int) -> bool:
    """Whether both ways give the same here, outputs and gradients, for a few made-up sequences."""
    n, bound = 150, 1e-9 if dtype == torch.float64 else 3e-2
    place = torch.arange(n, device=device)
    blocks = Blocks(((1, 130), (2, 10)), place, place, place[:0])
    made = torch.randn(1, heads + 2 * kv, n, dim, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode(False), torch.enable_grad():
            qkv = made.to(device, dtype).requires_grad_()
            for window in (None, 7):
                found = []
                for attend in (by_sequences, by_blocks):
                    q, k, v = qkv.split([heads, kv, kv], 1)
                    out = attend(blocks, q, k, v, window, None)
                    found.append((out, *torch.autograd.grad(out.double().square().sum(), qkv)))
                for a, b in zip(*found, strict=True):
                    if not near(a, b, bound):
                        raise RuntimeError(
                            "it gives other numbers than PyTorch's attention of blocks"
                        )
    except RuntimeError as error:
        log.warning("attention goes block by block, more slowly than in one call: %s", error)
        return False
    return True


def by_sequences(
    blocks: Blocks,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int | None,
    scaling: float | None,
) -> Tensor:
    """Attention of query `[1, H, N, d]`, key and value `[1, K, N, d]` → `[N, H, d]`; each sequence is as wide as its
    block. Whatever the number of sequences it is one operation."""
    assert varlen_attn is not None
    starts, longest = blocks.starts, blocks.sizes[0][1]
    q, k, v = (spread(x, blocks) for x in (query, key, value))
    out = varlen_attn(
        q, k, v, starts, starts, longest, longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),  # so many before the token itself, none behind
        enable_gqa=k.shape[1] != q.shape[1],
    )  # fmt: skip
    assert isinstance(out, Tensor)
    return pick(out.flatten(1), blocks.home).view(-1, *out.shape[1:])


def by_blocks(
    blocks: Blocks,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int | None,
    scaling: float | None,
) -> Tensor:
    """The same on any device, a call for each block, whose shorter sequences go on to its width."""
    heads, dtype = query.shape[1], query.dtype
    if query.device.type == "cpu" and dtype.itemsize < 4:
        # The CPU's kernel is no faster in bfloat16, and two to four times slower backward; matrix products gain.
        query, key, value = query.float(), key.float(), value.float()
    cells = [spread(x, blocks) for x in (query, key, value)]
    found, start = [], 0
    for rows, width in blocks.sizes:
        q, k, v = (
            x[start : start + rows * width].view(rows, width, *x.shape[1:]).transpose(1, 2)
            for x in cells
        )
        band = _band(width, window, q.device) if window and window < width else None
        out = scaled_dot_product_attention(
            q, k, v, band, is_causal=band is None, scale=scaling, enable_gqa=k.shape[1] != heads
        )
        found.append(out.transpose(1, 2).reshape(rows * width, -1))
        start += rows * width
    return pick(torch.cat(found), blocks.home).to(dtype).view(len(blocks.home), heads, -1)


def _band(width: int, window: int, device: torch.device) -> Tensor:
    """Which of `width` tokens each sees that looks at `window` of them, itself included."""
    back = torch.arange(width, device=device)
    back = back[:, None] - back
    return (back >= 0) & (back < window)


def spread(heads: Tensor, blocks: Blocks) -> Tensor:
    """Tokens' heads `[1, H, N, d]` → those of the cells, `[C, H, d]`."""
    tokens = heads[0].transpose(0, 1)
    return _Spread.apply(tokens.flatten(1), blocks).view(-1, *tokens.shape[1:])


class _Spread(torch.autograd.Function):
    """Tokens `[N, c]` → cells `[C, c]`. Backward adds only what is shared: an index_add of everything is slow."""

    @staticmethod
    def forward(ctx, tokens: Tensor, blocks: Blocks) -> Tensor:
        ctx.blocks = blocks
        return tokens.index_select(0, blocks.cells)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        blocks, (grad,) = ctx.blocks, grads
        out = grad.index_select(0, blocks.home)
        if len(blocks.again):
            shared = grad.index_select(0, blocks.again)
            out.index_add_(0, blocks.cells[blocks.again], shared)
        return out, None


def pick(x: Tensor, rows: Tensor) -> Tensor:
    """Some rows of `[·, c]`, each named once."""
    return _Pick.apply(x, rows)


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.count = rows, len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        out = grad.new_zeros(ctx.count, grad.shape[1])
        return out.index_copy_(0, ctx.rows, grad), None
