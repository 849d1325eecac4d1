"""Attention by tiles: outputs and gradients of the plain formula, however sequences are cut and whatever they share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attending import kept
from heedful.fast import tiles
from heedful.fast.packed import Layout, lay_out

HEADS, KV, DIM = 4, 2, 6


def layout(seed: int = 0) -> Layout:
    """Nine rows of 1 to 40 tokens; some begin alike, one is the beginning of another."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 50, (9, 40), generator=g)
    lengths = torch.tensor([40, 38, 36, 35, 12, 9, 7, 20, 1])
    tokens[1, :30] = tokens[0, :30]
    tokens[2, :3] = tokens[0, :3]
    tokens[4, :9] = tokens[5, :9]
    tokens[7, :20] = tokens[3, :20]
    return lay_out(tokens, torch.arange(40) < lengths[:, None])


def plain(qkv: Tensor, at: Layout, scale: float) -> Tensor:
    """The formula on each sequence alone; a token's output is that of the first sequence which has it."""
    out = torch.zeros(len(qkv), HEADS, DIM, dtype=qkv.dtype)
    start, seen = 0, set()
    rows, blocks = [], at.blocks
    for count, width in blocks.sizes:
        rows += blocks.cells[start : start + count * width].view(count, width)
        start += count * width
    homes = set(blocks.home.tolist())
    start = 0
    for row in rows:
        q, k, v = qkv[row].split([HEADS, KV, KV], 1)
        k, v = (x.repeat_interleave(HEADS // KV, 1) for x in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, k) * scale
        later = torch.ones(len(row), len(row), dtype=torch.bool).triu(1)
        found = torch.einsum("hij,jhd->ihd", scores.masked_fill(later, -torch.inf).softmax(-1), v)
        for i, token in enumerate(row.tolist()):
            if start + i in homes:
                assert token not in seen
                seen.add(token)
                out = out.index_copy(0, torch.tensor([token]), found[i : i + 1])
        start += len(row)
    return out


@pytest.fixture(params=[(64, 1 << 20, 512), (5, 1 << 20, 11), (7, 300, 0), (64, 500, 512)])
def cut(request, monkeypatch):
    """Large and small tiles, all rows at once or a few, probabilities kept or not."""
    for name, value in zip(("TILE", "SCORES", "KEPT"), request.param, strict=True):
        monkeypatch.setattr(tiles, name, value)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_formula(cut, seed):
    """Mutation caught: keys behind a tile's end, a mask that starts at the tile, gradients of shared keys lost or
    counted twice, queries of repeated tokens answered by the wrong row."""
    at = layout(seed)
    g = torch.Generator().manual_seed(seed)
    qkv = torch.randn(len(at.tokens), HEADS + 2 * KV, DIM, dtype=torch.double, generator=g)
    upstream = torch.randn(len(at.tokens), HEADS, DIM, dtype=torch.double, generator=g)
    leaf = qkv.requires_grad_()
    want = plain(leaf, at, 0.4)
    got = tiles.attend(leaf, at.plan(HEADS, KV), 0.4)
    assert torch.allclose(got, want, atol=1e-12)
    ours, theirs = (torch.autograd.grad(x, leaf, upstream)[0] for x in (got, want))
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_turning_is_part_of_it(cut):
    """Mutation caught: values turned, gradients turned on rather than back."""
    at = layout()
    qkv = torch.randn(len(at.tokens), HEADS + 2 * KV, DIM, dtype=torch.double)
    angles = torch.rand(len(at.tokens), DIM // 2, dtype=torch.double)
    turns = torch.cat([angles.cos(), angles.sin()], 1)
    complexes = torch.polar(torch.ones_like(angles), angles)[:, None]
    upstream = torch.randn(len(at.tokens), HEADS, DIM, dtype=torch.double)

    def by_hand(x: Tensor) -> Tensor:
        pairs = torch.complex(*x[:, : HEADS + KV].chunk(2, 2)) * complexes
        turned = torch.cat([pairs.real, pairs.imag], 2)
        return tiles.attend(torch.cat([turned, x[:, HEADS + KV :]], 1), at.plan(HEADS, KV), 0.4)

    leaf = qkv.clone().requires_grad_()
    want = by_hand(leaf)
    theirs = torch.autograd.grad(want, leaf, upstream)[0]
    leaf = qkv.clone().requires_grad_()
    got = tiles.attend(leaf * 1, at.plan(HEADS, KV), 0.4, turns)
    ours = torch.autograd.grad(got, leaf, upstream)[0]
    assert torch.allclose(got, want, atol=1e-12)
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_what_is_not_computed():
    """Half of the square behind the diagonal, and queries that others have asked.

    Mutation caught: tiles as wide as the sequence, queries for every cell.
    """
    tokens = torch.arange(4 * 256).view(4, 256)
    tokens[1:, :192] = tokens[0, :192]
    at = lay_out(tokens, torch.ones_like(tokens, dtype=torch.bool))
    plan = at.plan(HEADS, KV)
    assert plan.queries == (256 + 3 * 64) * HEADS
    scores = sum(tile.batch * tile.mask.numel() for tile in plan.tiles)
    assert scores == HEADS * 64 * (4 * 256 + 192 + 128 + 64)


def test_memory_is_linear():
    """Probabilities of long rows are not kept. Mutation caught: a kept square."""

    def ours(qkv: Tensor, at: Layout) -> Tensor:
        return tiles.attend(qkv, at.plan(HEADS, KV), 0.4)

    assert kept(ours, 4096) <= 2.1 * kept(ours, 2048)
