"""Causal attention over a packed batch on a CPU: plain matrix products, forward and backward written out.

For sequences of tens to hundreds of tokens PyTorch's flash kernel spends most of its time beside its products.
Here queries are cut into tiles, each a batch of products with the keys up to its end, so that nearly half of the
square behind the diagonal is never computed, nor are queries that only repeat what another sequence has asked. The
probabilities of short rows are kept for the backward pass, those of long ones computed again, so memory is linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

TILE = 64  # queries of a tile at most
SCORES = 1 << 20  # of the numbers in a tile's scores: about what the caches of two cores hold
KEPT = 512  # keys up to which probabilities are kept


@dataclass(frozen=True)
class Tile:
    """The queries of some columns of some sequences, and the keys that they see.

    `queries` is the first of them among all queries, which have the order (sequence, key head, head of its group,
    column); `keys` the first key of these sequences among all keys, in the order (sequence, key head, column), `width`
    columns wide. `batch` counts pairs of sequence and key head, `mask` `[group · columns, end]` is 0 or −inf.
    """

    queries: int
    keys: int
    batch: int
    width: int
    end: int
    mask: Tensor

    def asked(self, x: Tensor) -> Tensor:
        """This tile's of all queries `[Q …, d]`, or of what has their order: `[batch, group · columns, d]`."""
        count, d = len(self.mask), x.shape[1]
        shape, strides = (self.batch, count, d), (count * d, d, 1)
        return x.as_strided(shape, strides, x.storage_offset() + self.queries * d)

    def seen(self, x: Tensor) -> Tensor:
        """Of all keys or values `[C · key heads, d]` those that this tile sees: `[batch, end, d]`."""
        d = x.shape[1]
        shape, strides = (self.batch, self.end, d), (self.width * d, d, 1)
        return x.as_strided(shape, strides, x.storage_offset() + self.keys * d)


@dataclass(frozen=True)
class Plan:
    """Which rows of tokens' heads `[N · W, d]`, W = heads + 2 · key heads, go where.

    gather: the row of each of the Q queries, then of all keys, then of all values. back `[N · W]`: where each row
    is found again among these. again `[A, 2 · key heads]`: further places of keys and values of the tokens `shared`
    `[A]`, which sequences have in common.
    """

    heads: int
    kv_heads: int
    queries: int
    tiles: tuple[Tile, ...]
    gather: Tensor
    back: Tensor
    again: Tensor
    shared: Tensor


def plan(
    heads: int,
    kv_heads: int,
    blocks: Sequence[tuple[int, int]],
    cells: Tensor,
    home: Tensor,
    again: Tensor,
) -> Plan:
    """The plan of a `packed.Layout` (which see for the other arguments), whose sequences are sorted, within a block,
    by how many of their first cells repeat what others show."""
    device, group, wide = cells.device, heads // kv_heads, heads + 2 * kv_heads
    repeats = torch.zeros(len(cells), dtype=torch.bool, device=device)
    repeats[again] = True
    head = torch.arange(heads, device=device).view(kv_heads, group, 1)
    kv_head = torch.arange(kv_heads, device=device)[:, None]
    tiles: list[Tile] = []
    asked: list[Tensor] = []  # rows of queries, keys, by tile and by block
    keys: list[Tensor] = []
    answer = torch.zeros(len(cells), heads, dtype=torch.long, device=device)
    key_at = torch.empty(len(cells), kv_heads, dtype=torch.long, device=device)
    queries = start = 0
    for rows, width in blocks:
        inside = slice(start, start + rows * width)
        first_row = cells[inside].view(rows, width) * wide  # of each cell, its token's first row
        own = repeats[inside].view(rows, width).sum(1).tolist()
        keys.append((first_row[:, None] + heads + kv_head).flatten())
        places = torch.arange(rows * kv_heads * width, device=device) + start * kv_heads
        key_at[inside] = places.view(rows, kv_heads, width).transpose(1, 2).reshape(-1, kv_heads)
        of_block = answer[inside].view(rows, width, heads)
        for begin, end in reversed(_columns(width)):
            active = sum(n < end for n in own)
            mask = _mask(begin, end, group, device)
            most = max(1, SCORES // (heads * (end - begin) * end))
            for row in range(0, active, most):
                last = min(row + most, active)
                piece = first_row[row:last, None, None, begin:end] + head
                asked.append(piece.flatten())
                at = torch.arange(queries, queries + piece.numel(), device=device)
                at = at.view(piece.shape).permute(0, 3, 1, 2).flatten(2)
                of_block[row:last, begin:end] = at
                tiles.append(
                    Tile(
                        queries,
                        keys=(start + row * width) * kv_heads,
                        batch=(last - row) * kv_heads,
                        width=width,
                        end=end,
                        mask=mask,
                    )
                )
                queries += piece.numel()
        start += rows * width
    key_rows = torch.cat(keys)
    key_at += queries
    value_at = key_at + len(key_rows)
    return Plan(
        heads,
        kv_heads,
        queries,
        tuple(tiles),
        gather=torch.cat([*asked, key_rows, key_rows + kv_heads]),
        back=torch.cat([answer[home], key_at[home], value_at[home]], 1).flatten(),
        again=torch.cat([key_at[again], value_at[again]], 1),
        shared=cells[again],
    )


def _columns(width: int) -> list[tuple[int, int]]:
    """Columns of equal tiles."""
    count = -(-width // TILE)
    edges = [width * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def _mask(begin: int, end: int, group: int, device: torch.device) -> Tensor:
    later = torch.full((end - begin, end), float("-inf"), device=device).triu_(begin + 1)
    return later.repeat(group, 1)


def attend(qkv: Tensor, plan: Plan, scale: float, turns: Tensor | None = None) -> Tensor:
    """Tokens' queries, keys and values `[N, heads + 2 · key heads, d]` → `[N, heads, d]`, in their type.

    For turns see `attend.attend`; qkv is then written over. Sums are in float32 at least.
    """
    return _Attend.apply(qkv, turns, plan, scale)


def _turned(qkv: Tensor, turns: Tensor, plan: Plan, back: bool = False) -> None:
    """Turn queries and keys in place, or back."""
    a, b = qkv[:, : plan.heads + plan.kv_heads].chunk(2, -1)
    cos, sin = turns[:, None].chunk(2, -1)
    sin = -sin if back else sin
    first = (a * cos).addcmul_(b, sin, value=-1)
    b.mul_(cos).addcmul_(a, sin)
    a.copy_(first)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, turns: Tensor | None, plan: Plan, scale: float) -> Tensor:
        low = qkv.dtype.itemsize < 4
        x = qkv.float() if low else qkv
        if turns is not None:
            _turned(x, turns, plan)
        width = x.shape[2]
        x = x.reshape(-1, width).index_select(0, plan.gather)
        queries, keys, values = x.split(_sizes(x, plan))
        out = torch.empty_like(queries)
        kept = []
        for tile in plan.tiles:
            p = _probabilities(tile, queries, keys, scale)
            torch.bmm(p, tile.seen(values), out=tile.asked(out))
            kept.append(p if tile.end <= KEPT else None)
        ctx.plan, ctx.scale, ctx.dtype = plan, scale, qkv.dtype
        ctx.save_for_backward(turns, x, *kept)
        home = plan.back.view(len(qkv), -1)[:, : plan.heads].flatten()
        return out.index_select(0, home).view(len(qkv), plan.heads, width).to(qkv.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        (grad,), (turns, x, *kept), plan, scale = grads, ctx.saved_tensors, ctx.plan, ctx.scale
        width = x.shape[1]
        queries, keys, values = x.split(_sizes(x, plan))
        found = torch.empty_like(x)
        for_queries, for_keys, for_values = found.split(_sizes(x, plan))
        back = plan.back.view(len(grad), -1)
        g = torch.zeros_like(queries)
        g.index_copy_(0, back[:, : plan.heads].flatten(), grad.reshape(-1, width).to(x.dtype))
        for tile, p in zip(plan.tiles, kept, strict=True):
            q, k, v, go = tile.asked(queries), tile.seen(keys), tile.seen(values), tile.asked(g)
            p = _probabilities(tile, queries, keys, scale) if p is None else p
            _product(p.transpose(1, 2), go, tile.seen(for_values), 1.0, tile)
            ds = torch._softmax_backward_data(torch.bmm(go, v.transpose(1, 2)), p, -1, p.dtype)
            torch.baddbmm(q, ds, k, beta=0, alpha=scale, out=tile.asked(for_queries))
            _product(ds.transpose(1, 2), q, tile.seen(for_keys), scale, tile)
        out = found.index_select(0, plan.back).view(len(grad), -1, width)
        if len(plan.shared):
            more = found.index_select(0, plan.again.flatten()).view(len(plan.shared), -1, width)
            out[:, plan.heads :].index_add_(0, plan.shared, more)
        if turns is not None:
            _turned(out, turns, plan, back=True)
        return out.to(ctx.dtype), None, None, None


def _sizes(x: Tensor, plan: Plan) -> list[int]:
    keys = (len(x) - plan.queries) // 2
    return [plan.queries, keys, keys]


def _probabilities(tile: Tile, queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """`[sequences · key heads, group · columns, end]`."""
    seen = tile.seen(keys).transpose(1, 2)
    mask = tile.mask.to(queries.dtype)
    return torch.baddbmm(mask, tile.asked(queries), seen, alpha=scale).softmax(-1)


def _product(a: Tensor, b: Tensor, out: Tensor, scale: float, tile: Tile) -> None:
    """Add scale · a b to what other tiles have found for the same keys. A block's first tiles see all of its keys."""
    if tile.end == tile.width:
        torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
    else:
        out.add_(torch.bmm(a, b), alpha=scale)
