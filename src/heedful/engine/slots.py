"""A key-value cache of slots: one row a sequence, rows leave and move while the others decode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin

from heedful.fast import kernels
from heedful.fast.kernels import sample


class SlotLayer(CacheLayerMixin):
    """Keys and values `[rows, heads, capacity, head_dim]` of one layer; grows, never shrinks."""

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, slots: SlotCache):
        super().__init__()
        self.slots = slots

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, capacity = self.slots.rows, self.slots.capacity
        _, heads, _, k_dim = key_states.shape
        self.keys = key_states.new_zeros(rows, heads, capacity, k_dim)
        self.values = value_states.new_zeros(rows, heads, capacity, value_states.shape[-1])
        self.is_initialized = True

    def grow(self) -> None:
        if not self.is_initialized:
            return
        old = (self.keys, self.values)
        self.keys, self.values = (
            x.new_zeros(self.slots.rows, x.shape[1], self.slots.capacity, x.shape[3]) for x in old
        )
        for new, x in zip((self.keys, self.values), old, strict=True):
            new[: x.shape[0], :, : x.shape[2]] = x

    def update(
        self, key_states: Tensor, value_states: Tensor, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Write the new tokens of each active row behind what that row has; return what is filled."""
        slots, dtype = self.slots, key_states.dtype
        own = slice(slots.first, slots.first + slots.active)
        row = torch.arange(own.start, own.stop, device=key_states.device)[:, None]
        self.keys[row, :, slots.write_at] = key_states.transpose(1, 2).to(self.keys.dtype)
        self.values[row, :, slots.write_at] = value_states.transpose(1, 2).to(self.values.dtype)
        keys, values = self.keys[own, :, : slots.width], self.values[own, :, : slots.width]
        return keys.to(dtype), values.to(dtype)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.slots.width, 0

    def get_seq_length(self) -> int:
        return self.slots.width - 1

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):
    """What `transformers` models write to while they read tokens of `active` rows, from `first` on."""

    def __init__(self, layers: int):
        self.rows, self.capacity = 0, 0
        self.first, self.active, self.width = 0, 0, 1
        self.write_at: Tensor = torch.zeros(0, dtype=torch.long)
        self.slot_layers = [SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self.slot_layers))

    def reserve(self, rows: int, capacity: int) -> None:
        """Make room for `rows` sequences of `capacity` tokens, in steps so that growth is rare."""
        if rows <= self.rows and capacity <= self.capacity:
            return
        self.rows = max(self.rows, -(-rows // 8) * 8)
        self.capacity = max(self.capacity, -(-capacity // 64) * 64)
        for layer in self.slot_layers:
            layer.grow()

    def aim(
        self, lengths: Tensor, width: int | None = None, *, first: int = 0, count: int = 1
    ) -> None:
        """Set where the next `count` tokens of rows go that hold `lengths` `[n]`, from row `first` on; `width` cells of
        a row are looked at; None: as many as the longest needs, for which the device is asked."""
        self.first, self.active = first, len(lengths)
        self.write_at = lengths[:, None] + torch.arange(count, device=lengths.device)
        self.width = int(lengths.max()) + count if width is None else width

    def filled_cells(self) -> Tensor:
        """1 where a row `[n, width]` has a token once the step that `aim` began is done, 0 behind."""
        columns = torch.arange(self.width, device=self.write_at.device)
        return (columns <= self.write_at[:, -1:]).long()

    def visible(self) -> Tensor:
        """What each token of the step may see `[n, 1, count, width]` where everything before it may be seen."""
        return ~self._behind()[:, None]

    def _behind(self) -> Tensor:
        """Which cells `[n, count, width]` hold nothing of their row yet when a token is read."""
        columns = torch.arange(self.width, device=self.write_at.device)
        return columns > self.write_at[..., None]

    def attention(
        self, lengths: Tensor, dtype: torch.dtype, width: int | None = None
    ) -> Callable[..., Tensor]:
        """How each row's next token attends in this step (see `aim`): `attend(layer, q, k, v, scale)`.

        q `[n, kv_heads, group, head_dim]`, k and v `[n, kv_heads, head_dim]` → `[n, heads · head_dim]`. The queries
        that share keys stand beside each other, so a product of `[group, head_dim]` with each row's keys
        needs none of them twice, and none is copied.
        """
        if dtype == torch.float32 and lengths.device.type == "cpu" and kernels.available():
            return self._compiled(lengths)
        self.aim(lengths, width)
        n, width, kv = self.active, self.width, self.slot_layers[0].keys.shape[1]
        behind = self._behind()[:, 0]
        shut = torch.zeros(behind.shape, dtype=dtype, device=lengths.device)
        shut.masked_fill_(behind, float("-inf"))
        # Mask and places are the same in every layer.
        mask = shut[:, None].expand(n, kv, -1).reshape(n * kv, 1, -1)
        first = torch.arange(0, n * kv * self.capacity, self.capacity, device=lengths.device)
        places = (first.view(n, kv) + lengths[:, None]).flatten()

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
            layer, dim = self.slot_layers[i], k.shape[-1]
            layer.keys.view(-1, dim).index_copy_(0, places, k.reshape(-1, dim))
            layer.values.view(-1, dim).index_copy_(0, places, v.reshape(-1, dim))
            shape, strides = (n * kv, width, dim), (self.capacity * dim, dim, 1)
            keys = layer.keys.as_strided(shape, strides)
            values = layer.values.as_strided(shape, strides)
            grouped = q.reshape(n * kv, -1, dim)
            if dtype == torch.float32:
                scores = torch.baddbmm(mask, grouped, keys.mT, alpha=scale)
                out = torch.bmm(scores.softmax(-1), values)
            else:  # scores in less than float32 would cost exactness
                grouped, keys, values = grouped[:, None], keys[:, None], values[:, None]
                out = nn.functional.scaled_dot_product_attention(
                    grouped, keys, values, attn_mask=mask[:, None], scale=scale
                )
            return out.view(n, -1)

        return attend

    def _compiled(self, lengths: Tensor) -> Callable[..., Tensor]:
        """`attention` by a kernel, which reads of each row what it has and no more."""

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
            layer = self.slot_layers[i]
            return sample.attend(q, k, v, lengths, layer.keys, layer.values, scale)

        return attend

    def filled(self) -> list[tuple[Tensor, Tensor]]:
        """Each layer's keys and values."""
        return [(layer.keys, layer.values) for layer in self.slot_layers]

    def insert(self, i: int, keys: Tensor, values: Tensor, source: Tensor, at: int) -> None:
        """Copy layer i's prompts `[prompts, heads, width, head_dim]` into rows `at …`; see `Passes.prefill`."""
        layer = self.slot_layers[i]
        # Of another type are the slots of another stack, from an earlier queue; row 0 is taken when nobody is in them.
        if not layer.is_initialized or (at == 0 and layer.keys.dtype != keys.dtype):
            layer.lazy_initialization(keys, values)
        rows = slice(at, at + len(source))
        layer.keys[rows, :, : keys.shape[2]] = keys.index_select(0, source)
        layer.values[rows, :, : values.shape[2]] = values.index_select(0, source)

    def move(self, source: Tensor, target: Tensor, width: int) -> None:
        """Rows `source` take the places `target` of rows that have finished."""
        for layer in self.slot_layers:
            layer.keys[target, :, :width] = layer.keys[source, :, :width]
            layer.values[target, :, :width] = layer.values[source, :, :width]

    def copied(self, row: int, width: int) -> list[tuple[Tensor, Tensor]]:
        """A copy of each layer's first `width` keys and values of a row, `[heads, width, head_dim]`."""
        return [
            (layer.keys[row, :, :width].clone(), layer.values[row, :, :width].clone())
            for layer in self.slot_layers
        ]

    def put_back(self, row: int, cells: list[tuple[Tensor, Tensor]]) -> None:
        """The inverse of `copied`."""
        for layer, (keys, values) in zip(self.slot_layers, cells, strict=True):
            layer.keys[row, :, : keys.shape[1]] = keys
            layer.values[row, :, : values.shape[1]] = values
