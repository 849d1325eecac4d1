"""Every token once: dense layers see the tokens of a batch in one row `[1, N]`, only attention sees sequences.

Padding is left out, and a beginning that neighbours have in common (the prompt of a pair or of a group of
samples) is computed once: under causal attention equal beginnings have equal hidden states, and autograd
adds up what each sequence says about them. Every decoder of `transformers` that attends through its attention
interface can be run so; `can_pack` tries it on the model itself and the others keep their padded rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from heedful.fast import flash, tiles
from heedful.fast.attend import attend
from heedful.fast.flash import Blocks, pick
from heedful.fast.kernels.train import Sequences
from heedful.fast.process import rounded
from heedful.fast.trials import bound, near

NAME = "heedful"  # of the attention; given anything but `Layout` it is transformers' own "sdpa"
OCTAVE = 8  # how many numbers of tokens there may be between a power of two and the next, see `process.rounded`
TIGHT = 0.75  # sequences shorter than this share of the longest one in a block of attention start another


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of a padded batch `[B, T]` stand among the N distinct ones, and what attends to what.

    tokens, positions `[N]`; read `[M]` are those whose hidden states somebody needs, index `[B, T]` the places of
    these among the M, 0 where nothing is needed. number `[D, W]` says which token each place of each sequence shows,
    real `[D, W]` how far sequences go, same `[D, W]` which of these tokens, from the first on, are another's.
    """

    tokens: Tensor
    positions: Tensor
    read: Tensor
    index: Tensor
    number: Tensor
    real: Tensor
    same: Tensor
    plans: dict[tuple[int, int], tiles.Plan] = field(default_factory=dict)

    @cached_property
    def lengths(self) -> Tensor:
        """Of the sequences `[D]`; of those that only repeat what others show, such as a response drawn twice, 0."""
        return self.real.sum(1) * (self.real & ~self.same).any(1)

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max())

    @cached_property
    def sequences(self) -> Sequences:
        """Those that have tokens of their own, the longest first."""
        order = _longest_first(self.lengths)
        starts = nn.functional.pad(self.lengths[order].cumsum(0), (1, 0))
        return Sequences(self.number[order][self.real[order]], starts, self.same[order].sum(1))

    @cached_property
    def blocks(self) -> Blocks:
        """Few of them, in which sequences are of like length, the shorter ones padded."""
        every, cells, kinds, sizes = self._kinds, [], [], []
        for rows, w in _alike(self.lengths):
            rows = rows[self.same[rows].sum(1).argsort(stable=True)]
            sizes.append((len(rows), w))
            cells.append(self.number[rows, :w].flatten())
            kinds.append(every[rows, :w].flatten())
        return self._blocks(sizes, torch.cat(cells), torch.cat(kinds))

    @cached_property
    def ragged(self) -> Blocks:
        """A block for each sequence."""
        order = _longest_first(self.lengths)
        real = self.real[order]
        sizes = [(1, length) for length in self.lengths[order].tolist()]
        return self._blocks(sizes, self.number[order][real], self._kinds[order][real])

    @property
    def _kinds(self) -> Tensor:
        """`[D, W]`: 1 for a sequence's own tokens, 2 for those of another, 0 where there is none."""
        return (self.real & ~self.same).int() + 2 * self.same.int()

    def _blocks(self, sizes: Sequence[tuple[int, int]], cells: Tensor, kinds: Tensor) -> Blocks:
        home = torch.empty(len(self.tokens), dtype=torch.long, device=cells.device)
        first = (kinds == 1).nonzero().squeeze(1)
        home[cells[first]] = first
        return Blocks(tuple(sizes), cells, home, (kinds == 2).nonzero().squeeze(1))

    def plan(self, heads: int, kv_heads: int) -> tiles.Plan:
        """How so many heads attend by tiles; made once for all layers."""
        key = heads, kv_heads
        if key not in self.plans:
            at = self.blocks
            self.plans[key] = tiles.plan(*key, at.sizes, at.cells, at.home, at.again)
        return self.plans[key]


def lay_out(
    tokens: Tensor, needed: Tensor, position_ids: Tensor | None = None, *, spare: bool = False
) -> Layout:
    """The layout of right-padded tokens `[B, T]` of which those up to the last needed one `[B, T]` are computed.

    position_ids `[B, T]` start again at 0 in each document of a row that holds several. `spare`: with sequences of one
    token that nobody needs, so that N and M are few numbers (see `process.rounded`), and M of any tokens.
    """
    table, real = _sequences(needed, position_ids)
    order = _alphabetical(tokens.flatten()[table])
    table, real = table[order], real[order]
    ids = tokens.flatten()[table]
    width = table.shape[1]
    column = torch.arange(width, device=tokens.device)
    same = torch.zeros_like(real)
    same[1:] = (ids[1:] == ids[:-1]) & real[1:] & real[:-1]
    same = same.int().cumprod(1).bool()
    own = real & ~same
    number = (own.flatten().cumsum(0) - 1).view(own.shape)
    # A shared token is the one that the last row above computed for itself in this column.
    row = torch.arange(len(own), device=tokens.device)[:, None]
    owner = row.expand(-1, width).masked_fill(same, 0).cummax(0).values
    number = number.gather(0, owner).masked_fill(~real, 0)
    index = torch.zeros(tokens.numel(), dtype=torch.long, device=tokens.device)
    index[table[real]] = number[real]
    index = index.view(tokens.shape)
    count = int(own.sum())
    more = rounded(count, OCTAVE) - count if spare else 0
    wanted = torch.zeros(count + more, dtype=torch.bool, device=tokens.device)
    wanted[index[needed]] = True
    if not needed.any():
        wanted[0] = True
    if spare:
        read = int(wanted.sum())
        wanted[(~wanted).nonzero().squeeze(1)[: rounded(read, OCTAVE) - read]] = True
    nothing = tokens.new_zeros(more)
    alone = torch.zeros(more, width, dtype=torch.bool, device=tokens.device)
    first = alone.clone()
    first[:, 0] = True
    beyond = torch.arange(count, count + more, device=tokens.device)[:, None]
    return Layout(
        tokens=torch.cat([ids[own], nothing]),
        positions=torch.cat([column.expand_as(own)[own], nothing]),
        read=wanted.nonzero().squeeze(1),
        index=(wanted.cumsum(0) - 1)[index].masked_fill(~needed, 0),
        number=torch.cat([number, beyond.expand(-1, width)]),
        real=torch.cat([real, first]),
        same=torch.cat([same, alone]),
    )


def _alphabetical(ids: Tensor) -> Tensor:
    """An order of the rows `[D, W]` in which those that begin alike are neighbours, however a batch was shuffled."""
    keys = [row.tobytes() for row in ids.cpu().numpy()]
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), device=ids.device)


def _sequences(needed: Tensor, position_ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """Documents as rows `[D, W]` of places in the flattened batch, and which of these are real and needed."""
    rows, width = needed.shape
    place = torch.arange(rows * width, device=needed.device).view(rows, width)
    if position_ids is None:
        table, wanted = place, needed
    else:
        start = place[position_ids == 0]
        longest = int(position_ids.max()) + 1
        table = start[:, None] + torch.arange(longest, device=needed.device)
        end = torch.cat([start[1:], place.new_tensor([rows * width])])
        inside = table < end[:, None]
        table = table.clamp(max=rows * width - 1)
        wanted = needed.flatten()[table] & inside
    real = wanted.flip(1).int().cummax(1).values.flip(1).bool()
    keep = real.any(1)
    if not keep.any():
        keep[0] = real[0, 0] = True  # a batch in which nothing is needed still has an answer
    longest = int(real.sum(1).max())
    return table[keep, :longest], real[keep, :longest]


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


def of_read(layout: Layout, *states: Tensor) -> list[Tensor]:
    """Of states of all tokens `[N, c]` those that somebody reads, `[M, c]`."""
    if len(layout.read) == len(layout.tokens):
        return [*states]
    return [pick(x, layout.read) for x in states]


def attention(
    module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask,
    scaling: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """query `[1, H, N, d]`, key and value `[1, K, N, d]` → `[1, N, H, d]`, as transformers' interface wants it."""
    if not isinstance(attention_mask, Layout):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    if strange := [k for k in ("softcap", "s_aux", "position_bias") if kwargs.get(k) is not None]:
        raise NotImplementedError(f"packed attention with {', '.join(strange)}")
    layout, window = attention_mask, kwargs.get("sliding_window")
    if window and window >= layout.longest:
        window = None
    if query.device.type == "cpu" and not window and value.shape[3] == key.shape[3]:
        qkv = torch.cat([query[0], key[0], value[0]]).transpose(0, 1)
        scale = scaling or query.shape[3] ** -0.5
        return attend(qkv, layout.sequences, layout.plan, query.shape[1], scale)[None], None
    if flash.serves(query, key, value):
        out = flash.by_sequences(layout.ragged, query, key, value, window, scaling)
    else:
        out = flash.by_blocks(layout.blocks, query, key, value, window, scaling)
    return out[None], None


_current: ContextVar[Layout | None] = ContextVar("layout", default=None)


def _mask(*args, **kwargs):
    """What a model hands to its layers as their mask: the layout, so that it reaches every architecture's attention."""
    layout = _current.get()
    return sdpa_mask(*args, **kwargs) if layout is None else layout


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)


def packed_hidden(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Last hidden states `[M, d]` of the tokens that are read; `can_pack` says whether a model can do it."""
    token = _current.set(layout)
    try:
        out = model.base_model(
            input_ids=layout.tokens[None], position_ids=layout.positions[None], use_cache=False
        )
    finally:
        _current.reset(token)
    return of_read(layout, out.last_hidden_state[0])[0]


_tried: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def can_pack(model: PreTrainedModel) -> bool:
    """Whether the model gives the same hidden states packed as padded: tried once on made-up tokens.

    Models without transformers' attention interface, and those whose tokens meet elsewhere too (recurrences,
    convolutions, alibi), do not.
    """
    found = _tried.get(model)
    if found and model.config.get_text_config()._attn_implementation != NAME:
        found = None  # somebody has chosen another attention since
    if found is None:
        found = _only_attends(model) and _switch(model, NAME) and _agrees(model)
        if not found:
            _switch(model, "sdpa")  # does nothing to a model that attends in a third way
        _tried[model] = found
    return found


def _only_attends(model: PreTrainedModel) -> bool:
    """Whether the config names no layers that mix tokens otherwise: how little they do so may escape a trial."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return set(kinds) <= {"full_attention", "sliding_attention"}


def _switch(model: PreTrainedModel, name: str) -> bool:
    """Let the model attend by `name`, from now on: layers that are checkpointed ask again in the backward pass."""
    configs = [model.config, model.config.get_text_config()]
    if any(c._attn_implementation not in ("sdpa", NAME) for c in configs):
        return False
    for config in configs:
        config._attn_implementation = name
    return True


@torch.no_grad()
def _agrees(model: PreTrainedModel) -> bool:
    """Three short sequences, two of which begin alike, in a row and padded."""
    size = model.config.get_text_config().vocab_size
    ids = torch.arange(18, device=model.device).view(3, 6).mul_(7919).add_(1) % size
    ids[1, :3] = ids[0, :3]
    needed = torch.ones_like(ids, dtype=torch.bool)
    needed[1, 5:] = needed[2, 2:] = False
    layout = lay_out(ids, needed)
    try:
        packed = packed_hidden(model, layout)[layout.index][needed].float()
    except Exception:  # whatever an architecture says to a mask it does not know
        return False
    padded = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[needed].float()
    return near(packed, padded, bound(model.dtype))
