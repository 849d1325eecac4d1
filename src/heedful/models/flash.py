"""Attention over a packed batch by PyTorch's flash kernels: all sequences in one call where a GPU has one for
sequences of any length, else block by block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older PyTorch
    varlen_attn = None

# The first that had the operation could not do this yet.
_WHOLE = varlen_attn is not None and {"scale", "enable_gqa"} <= set(
    signature(varlen_attn).parameters
)
AMPERE = (8, 0)  # the first GPUs that it is written for


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


def serves(query: Tensor, value: Tensor) -> bool:
    """Whether `by_sequences` can take heads `[…, d]` of this device, type and width."""
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] == value.shape[-1] <= 256
        and query.shape[-1] % 8 == 0
        and torch.cuda.get_device_capability(query.device) >= AMPERE
        and _WHOLE
    )


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
