"""Sequences → batches: right padding, packing, tight micro-batches, shuffles from (seed, epoch) alone."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from heapq import heappop, heappush
from typing import TypeVar

import torch
from torch import Tensor

from heedful.types import Batch, Sample

AnyBatch = TypeVar("AnyBatch", bound=Batch)


def collate(samples: Sequence[Sample], pad_id: int = 0) -> Batch:
    """Right-padded batch; the shift from "token t" to "predicting token t+1" happens here, once.

    The pad id matters to nobody: lengths and masks say what is real.
    """
    width = max(len(s.tokens) for s in samples)

    def table(rows: list[Sequence], fill, dtype: torch.dtype, columns: int) -> Tensor:
        return torch.tensor([[*r, *[fill] * (columns - len(r))] for r in rows], dtype=dtype)

    return Batch(
        tokens=table([s.tokens for s in samples], pad_id, torch.long, width),
        mask=table([s.mask[1:] for s in samples], False, torch.bool, width - 1),
        lengths=torch.tensor([len(s.tokens) for s in samples]),
        old_logp=table([s.logprobs[1:] for s in samples], 0.0, torch.float32, width - 1),
        # Without a group a sample stands alone, so that micro-batches may part it from its neighbours.
        group=torch.tensor([-1 - i if s.group is None else s.group for i, s in enumerate(samples)]),
        reward=torch.tensor([s.reward for s in samples], dtype=torch.float32),
        truncated=torch.tensor([s.stop_reason == "length" for s in samples]),
        step_rewards=_step_rewards(samples, width - 1),
        episode=torch.tensor(
            [-1 - i if s.episode is None else s.episode for i, s in enumerate(samples)]
        ),
    )


def _step_rewards(samples: Sequence[Sample], columns: int) -> Tensor:
    """`[B, columns]`: the reward of each turn where its last token is predicted."""
    rewards = torch.zeros(len(samples), columns)
    for row, sample in zip(rewards, samples, strict=True):
        for step in sample.steps:
            row[step.stop - 2] += step.reward
    return rewards


def take(batch: AnyBatch, rows: Tensor | slice) -> AnyBatch:
    """The batch of some rows, without the padding columns that none of them needs."""
    padded = batch.tokens.shape[1]
    width = int(batch.lengths[rows].max())
    changes = {}
    for field in fields(batch):
        value = getattr(batch, field.name)[rows]
        if value.ndim == 2:  # [B, T+1] or [B, T]
            value = value[:, : width - (padded - value.shape[1])]
        changes[field.name] = value
    return replace(batch, **changes)


def to_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """The batch with all its tensors on a device. Batches are made on the CPU and moved part by part."""
    return replace(batch, **{f.name: getattr(batch, f.name).to(device) for f in fields(batch)})


def microbatches(batch: Batch, max_tokens: int, share: tuple[int, int] = (0, 1)) -> list[Tensor]:
    """Row indices of micro-batches with at most `max_tokens` tokens each, padding included.

    Rows of one group (neighbours with equal `group`) stay together; groups of like length meet, so that
    padding is tight. A group that is too large alone is a micro-batch of its own. share = (k, n): only part
    k of n of the groups, dealt so that the parts have about as many tokens; a part may be empty.
    """
    _, sizes = batch.group.unique_consecutive(return_counts=True)
    groups = torch.arange(len(batch.group)).split(sizes.tolist())
    longest = [int(batch.lengths[g].max()) for g in groups]
    order = sorted(range(len(groups)), key=lambda i: longest[i], reverse=True)
    if share[1] > 1:
        own = dealt([int(batch.lengths[g].sum()) for g in groups], *share)
        order = [i for i in order if i in own]
    parts: list[Tensor] = []
    rows: list[Tensor] = []
    count = width = 0
    for i in order:
        if rows and (count + len(groups[i])) * width > max_tokens:
            parts.append(torch.cat(rows))
            rows, count = [], 0
        width = longest[i] if not rows else width
        rows.append(groups[i])
        count += len(groups[i])
    return [*parts, torch.cat(rows)] if rows else parts


def dealt(sizes: Sequence[int], part: int, parts: int) -> set[int]:
    """Which items belong to a part: the largest first, each to the part that has least (Graham 1969)."""
    heaps, mine = [(0, p) for p in range(parts)], set[int]()
    for i in sorted(range(len(sizes)), key=lambda i: sizes[i], reverse=True):
        load, p = heappop(heaps)
        heappush(heaps, (load + sizes[i], p))
        if p == part:
            mine.add(i)
    return mine


@dataclass(frozen=True)
class PackedRows:
    """Documents in rows of equal length.

    tokens and position_ids `[R, L]`, positions start again at 0 in each document; mask `[R, L-1]` is True
    where column t predicts token t+1 of the same document.
    """

    tokens: Tensor
    position_ids: Tensor
    mask: Tensor


Row = list[list[int]]  # documents and pieces of them that stand side by side


def in_rows(documents: Iterable[Sequence[int]], length: int, eos: int) -> Iterator[Row]:
    """Documents, each closed by eos, side by side in rows of `length` tokens, in the order given, row by row.

    A document longer than a row is cut into several.
    """
    row, room = Row(), length
    for document in documents:
        whole = [*document, eos]
        for start in range(0, len(whole), length):
            piece = whole[start : start + length]
            if len(piece) > room:
                yield row
                row, room = Row(), length
            row.append(piece)
            room -= len(piece)
    yield row


def pack(rows: Sequence[Row], length: int, eos: int) -> PackedRows:
    """Rows of `in_rows` as tensors. What is left of a row is padding, which counts as a document of its own so that
    nothing sees it."""
    tokens = torch.full((len(rows), length), eos)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length - 1, dtype=torch.bool)
    for r, row in enumerate(rows):
        at = 0
        for piece in row:
            end = at + len(piece)
            tokens[r, at:end] = torch.tensor(piece)
            positions[r, at:end] = torch.arange(len(piece))
            mask[r, at : end - 1] = True
            at = end
        positions[r, at:] = torch.arange(length - at)
    return PackedRows(tokens, positions, mask)


def shuffled(n: int, seed: int, epoch: int) -> array[int]:
    """A permutation of 0 … n−1 that depends on (seed, epoch) and on no global state; 8 bytes a number."""
    order = array("q", range(n))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order
