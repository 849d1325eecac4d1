"""Masks of rows that are not equally far, made by `transformers` itself.

A slot's cell number is the position of its token. So whatever a model's layers may see (all that came before, a window,
a chunk) is right for a row if its query is asked about at the row's own position; `transformers` takes a query for the
last of all cells. It then writes the answer as the model's attention wants it: eager attention *adds* its mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor
from transformers import AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from heedful.fast.packed import NAME

_places: ContextVar[Tensor | None] = ContextVar("places", default=None)


@contextmanager
def rows_at(places: Tensor) -> Iterator[None]:
    """Within it masks are those of queries at these positions `[rows, count]`."""
    token = _places.set(places)
    try:
        yield
    finally:
        _places.reset(token)


def _of_rows(make: Callable[..., Any]) -> Callable[..., Any]:
    def mask(*args: Any, **how: Any) -> Any:
        places = _places.get()
        if places is None:
            return make(*args, **how)
        seen, offset = how["mask_function"], how.get("q_offset", 0)

        def seen_by_row(row: Any, head: Any, query: Any, cell: Any) -> Any:
            return seen(row, head, places[row, query - offset], cell)

        skip = {"allow_is_causal_skip": False}
        return make(*args, **{**how, **skip, "mask_function": seen_by_row})

    return mask


for _name in ("eager", "sdpa", NAME):
    AttentionMaskInterface.register(_name, _of_rows(ALL_MASK_ATTENTION_FUNCTIONS[_name]))
