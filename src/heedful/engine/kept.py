"""Keys and values of sequences that will go on, such as an episode's between two turns."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

from torch import Tensor

Cells = list[tuple[Tensor, Tensor]]  # keys and values of each layer, `[heads, tokens, head_dim]`


class Kept:
    """Cells by the tokens that they are of. What was not used for longest leaves when there are too many bytes."""

    def __init__(self, most_bytes: int):
        self.most_bytes, self.bytes = most_bytes, 0
        self._cells: OrderedDict[tuple[int, ...], Cells] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._cells)

    def put(self, tokens: tuple[int, ...], cells: Cells, grown_from: int = 0) -> None:
        """Keep the cells of these tokens in place of those of their first `grown_from`."""
        self._drop(tokens[:grown_from])
        self._drop(tokens)
        self._cells[tokens] = cells
        self._lengths[len(tokens)] += 1
        self.bytes += _size(cells)
        while self.bytes > self.most_bytes:
            self._drop(next(iter(self._cells)))

    def longest(self, tokens: Sequence[int]) -> tuple[int, Cells] | None:
        """Cells of the longest beginning that is kept of these tokens and leaves one to be read; and its length."""
        for length in sorted(self._lengths, reverse=True):
            if length < len(tokens) and (key := tuple(tokens[:length])) in self._cells:
                self._cells.move_to_end(key)
                return length, self._cells[key]
        return None

    def _drop(self, tokens: tuple[int, ...]) -> None:
        if (cells := self._cells.pop(tokens, None)) is not None:
            self.bytes -= _size(cells)
            self._lengths[len(tokens)] -= 1
            self._lengths += Counter()  # without zeros


def _size(cells: Cells) -> int:
    return sum(x.numel() * x.element_size() for pair in cells for x in pair)
