"""Where the tokens of a batch stand when each distinct one is computed once, and what attends to what.

Padding is left out, and a beginning that neighbours have in common (the prompt of a pair or of a group of
samples) is computed once: under causal attention equal beginnings have equal hidden states, and autograd
adds up what each sequence says about them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from heedful.fast.kernels.train import Sequences
from heedful.fast.process import rounded

OCTAVE = 8  # how many numbers of tokens there may be between a power of two and the next, see `process.rounded`
TIGHT = 0.75  # sequences shorter than this share of the longest one in a block of attention start another


@dataclass(frozen=True)
class Blocks:
    """Cells of attention: b sequences of width w each (`sizes`), C in all, laid end to end. cells `[C]` say which token
    each shows, home `[N]` in which cell a token's output is read."""

    sizes: tuple[tuple[int, int], ...]
    cells: Tensor
    home: Tensor


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of a padded batch `[B, T]` stand among the N distinct ones, and what attends to what.

    tokens, positions `[N]`; read `[M]` are those whose hidden states somebody needs, index `[B, T]` the places of
    these among the M, 0 where nothing is needed. number `[D, W]` says which token each place of each sequence shows,
    real `[D, W]` how far sequences go, repeated `[D, W]` which of these tokens, from the first on, are another's.
    Sequences are rows of the batch, or documents in them, in another order.
    """

    tokens: Tensor
    positions: Tensor
    read: Tensor
    index: Tensor
    number: Tensor
    real: Tensor
    repeated: Tensor
    order: Tensor

    @cached_property
    def lengths(self) -> Tensor:
        """Of the sequences `[D]`; of those that only repeat what others show, such as a response drawn twice, 0."""
        return self.real.sum(1) * (self.real & ~self.repeated).any(1)

    @cached_property
    def sequences(self) -> Sequences:
        """Those that have tokens of their own, the longest first."""
        order = _longest_first(self.lengths)
        starts = nn.functional.pad(self.lengths[order].cumsum(0), (1, 0))
        return Sequences(self.number[order][self.real[order]], starts, self.repeated[order].sum(1))

    @cached_property
    def home(self) -> Tensor:
        """In which cell of `sequences` each token's output is read `[N]`."""
        order = _longest_first(self.lengths)
        return self._home(self.sequences.cells, ~self.repeated[order][self.real[order]])

    @cached_property
    def blocks(self) -> Blocks:
        """Few of them, in which sequences are of like length, the shorter ones padded."""
        distinct, cells, owns, sizes = self.real & ~self.repeated, [], [], []
        for rows, width in _alike(self.lengths):
            sizes.append((len(rows), width))
            cells.append(self.number[rows, :width].flatten())
            owns.append(distinct[rows, :width].flatten())
        shown = torch.cat(cells)
        return Blocks(tuple(sizes), shown, self._home(shown, torch.cat(owns)))

    def _home(self, cells: Tensor, owns: Tensor) -> Tensor:
        first = owns.nonzero().squeeze(1)
        home = torch.empty(len(self.tokens), dtype=torch.long, device=cells.device)
        return home.index_copy_(0, cells[first], first)


def lay_out(
    tokens: Tensor, needed: Tensor, position_ids: Tensor | None = None, *, spare: bool = False
) -> Layout:
    """The layout of right-padded tokens `[B, T]` of which those up to the last needed one `[B, T]` are computed.

    position_ids `[B, T]` start again at 0 in each document of a row that holds several. `spare`: with sequences of one
    token that nobody needs, so that N and M are few numbers (see `process.rounded`), and M of any tokens.
    """
    table, real = documents(needed, position_ids)
    order = _alphabetical(tokens.flatten()[table])
    table, real = table[order], real[order]
    ids = tokens.flatten()[table]
    width = table.shape[1]
    column = torch.arange(width, device=tokens.device)
    repeated = torch.zeros_like(real)
    repeated[1:] = (ids[1:] == ids[:-1]) & real[1:] & real[:-1]
    repeated = repeated.int().cumprod(1).bool()
    distinct = real & ~repeated
    number = (distinct.flatten().cumsum(0) - 1).view(distinct.shape)
    # A shared token is the one that the last row above computed for itself in this column.
    row = torch.arange(len(distinct), device=tokens.device)[:, None]
    owner = row.expand(-1, width).masked_fill(repeated, 0).cummax(0).values
    number = number.gather(0, owner).masked_fill(~real, 0)
    index = torch.zeros(tokens.numel(), dtype=torch.long, device=tokens.device)
    index[table[real]] = number[real]
    index = index.view(tokens.shape)
    count = int(distinct.sum())
    extra = rounded(count, OCTAVE) - count if spare else 0
    is_read = torch.zeros(count + extra, dtype=torch.bool, device=tokens.device)
    is_read[index[needed]] = True
    if not needed.any():
        is_read[0] = True
    if spare:
        read = int(is_read.sum())
        is_read[(~is_read).nonzero().squeeze(1)[: rounded(read, OCTAVE) - read]] = True
    nothing = tokens.new_zeros(extra)
    alone = torch.zeros(extra, width, dtype=torch.bool, device=tokens.device)
    first = alone.clone()
    first[:, 0] = True
    beyond = torch.arange(count, count + extra, device=tokens.device)[:, None]
    return Layout(
        tokens=torch.cat([ids[distinct], nothing]),
        positions=torch.cat([column.expand_as(distinct)[distinct], nothing]),
        read=is_read.nonzero().squeeze(1),
        index=(is_read.cumsum(0) - 1)[index].masked_fill(~needed, 0),
        number=torch.cat([number, beyond.expand(-1, width)]),
        real=torch.cat([real, first]),
        repeated=torch.cat([repeated, alone]),
        order=order,
    )


def _alphabetical(ids: Tensor) -> Tensor:
    """An order of the rows `[D, W]` in which those that begin alike are neighbours, however a batch was shuffled."""
    keys = [row.tobytes() for row in ids.cpu().numpy()]
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), device=ids.device)


def documents(needed: Tensor, position_ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """Documents as rows `[D, W]` of places in the flattened batch, and which of these are real and needed."""
    rows, width = needed.shape
    place = torch.arange(rows * width, device=needed.device).view(rows, width)
    if position_ids is None:
        table, needs = place, needed
    else:
        start = place[position_ids == 0]
        longest = int(position_ids.max()) + 1
        table = start[:, None] + torch.arange(longest, device=needed.device)
        end = torch.cat([start[1:], place.new_tensor([rows * width])])
        inside = table < end[:, None]
        table = table.clamp(max=rows * width - 1)
        needs = needed.flatten()[table] & inside
    real = needs.flip(1).int().cummax(1).values.flip(1).bool()
    nonempty = real.any(1)
    if not nonempty.any():
        nonempty[0] = real[0, 0] = True  # a batch in which nothing is needed still has an answer
    longest = int(real.sum(1).max())
    return table[nonempty, :longest], real[nonempty, :longest]


def _longest_first(lengths: Tensor) -> Tensor:
    """The numbers of those that are not 0."""
    return lengths.argsort(descending=True, stable=True)[: int((lengths > 0).sum())]


def _alike(lengths: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Sequences of like length: (row numbers, width) from the longest down; those of length 0 are left out."""
    order = _longest_first(lengths)
    sizes = lengths[order].tolist()
    start = 0
    for i in range(1, len(sizes) + 1):
        if i == len(sizes) or sizes[i] < TIGHT * sizes[start]:
            yield order[start:i], sizes[start]
            start = i
